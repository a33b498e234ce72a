"""The published models by their shapes alone, for plans without a folder of theirs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from longtake.checkpoints.public_config import CAUSAL, CLASSES
from longtake.official.folder import PublicModel, read_model
from longtake.official.plan import TextShape
from longtake.presets import PUBLIC_FILE

Published = Literal["480p", "720p", "longsana"]
GEMMA = TextShape(values=2_614_341_888, width=2304, inner=9216, heads=8)
"""The text encoder of all of them, Gemma-2 2B without its head."""
_TRANSFORMER = {"mlp_ratio": 3.0}
_LARGE = {"in_channels": 128, "out_channels": 128, "patch_size": [1, 1, 1], "sample_size": 22}
_WAN = {"_class_name": "AutoencoderKLWan"}
_LTX = {
    "_class_name": "AutoencoderKLLTX2Video", "decoder_causal": False,
    "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
}  # fmt: skip


@contextmanager
def published(which: Published) -> Iterator[PublicModel]:
    """A folder with the configs of a published model and no weights."""
    large, causal = which == "720p", which == "longsana"
    kind = {"_class_name": CAUSAL if causal else CLASSES[0]}
    files: dict[str, dict[str, Any]] = {
        PUBLIC_FILE: {"_class_name": "SanaVideoPipeline"},
        "transformer/config.json": kind | _TRANSFORMER | (_LARGE if large else {}),
        "vae/config.json": _LTX if large else _WAN,
        "text_encoder/config.json": {"model_type": "gemma2", "hidden_size": GEMMA.width},
        "tokenizer/tokenizer_config.json": {},
        "scheduler/scheduler_config.json": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    }
    with TemporaryDirectory(prefix="longtake-") as place:
        for name, content in files.items():
            path = Path(place) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        yield read_model(Path(place))
