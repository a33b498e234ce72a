"""The denoiser: latents, text, sigma to velocity."""

from longtake.model.recorded import Recorded
from longtake.model.share import Share
from longtake.model.state import LayerState, State
from longtake.model.transformer import Reading, Transformer

__all__ = ["LayerState", "Reading", "Recorded", "Share", "State", "Transformer"]
