"""How one film is made with a public model."""

import math
from dataclasses import dataclass

from longtake.config import FPS, MAX_SECONDS, MAX_SEED, SamplerName
from longtake.errors import SettingError
from longtake.text.gemma import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialConfig:
    """How one film is made with a public SANA-Video model."""

    width: int = 832
    """Frame width in pixels; a multiple of the model's cell, 16 (480p) or 32 (720p)."""
    height: int = 480
    """Frame height in pixels; a multiple as the width."""
    frames: int = 81
    """Output frames at 16 fps; made as whole latent frames, then trimmed."""
    seed: int = 0
    """Which film of the many that fit the prompt; 0 to 2^64 - 1."""
    steps: int = 50
    """Sampler steps; time grows in proportion."""
    guidance: float = 6.0
    """Classifier-free guidance scale; 1.0 turns it off and halves the cost."""
    flow_shift: float = 8.0
    """Timestep shift; above 1 more steps are spent at high noise, where motion is decided."""
    sampler: SamplerName = "dpm"
    """`dpm` (DPM-Solver++ 2M) or `euler`, each with the sigmas published for it."""
    motion_score: int = 30
    """Amount of motion asked for, as a suffix of the prompt; 0 leaves it out."""
    negative: str = ""
    """What guidance pushes away from."""
    instruction: Instruction = "video"
    """Wording put before the prompt for the text encoder: `video`, `image` or `none`."""

    def __post_init__(self) -> None:
        """Check every range, naming a value that works."""
        for name, value, low, high, fix in (
            ("width", self.width, 16, 4096, 832),
            ("height", self.height, 16, 4096, 480),
            ("frames", self.frames, 1, int(MAX_SECONDS * FPS) + 1, 81),
            ("seed", self.seed, 0, MAX_SEED, 0),
            ("steps", self.steps, 1, 1000, 50),
            ("guidance", self.guidance, 1.0, 30.0, 6),
            ("flow_shift", self.flow_shift, 0.1, 100.0, 8),
            ("motion_score", self.motion_score, 0, 100, 30),
        ):
            # Written so that NaN fails.
            if not (math.isfinite(value) and low <= value <= high):
                msg = f"{name} must be {low:,} to {high:,}, got {value}; try {fix}"
                raise SettingError(msg)
