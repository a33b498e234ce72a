"""A tiny model that runs the whole path on a CPU in milliseconds."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.config import AutoencoderConfig, ModelConfig, TextConfig, TransformerConfig

WORDS = ("a", "ball", "blue", "bounces", "green", "on", "grass", "red", "sphere")


@pytest.fixture
def tiny() -> ModelConfig:
    return ModelConfig(
        autoencoder=AutoencoderConfig(
            latent_channels=8,
            widths=(16, 24, 32),
            encoder_blocks=(1, 1, 1),
            decoder_blocks=(1, 1, 1),
        ),
        transformer=TransformerConfig(
            latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
        ),
        text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
        words=WORDS,
        max_frames=33,
    )


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def sound() -> Callable[[Path, float], Path]:
    """Writes a tone of so many seconds as a WAV file."""

    def write(path: Path, seconds: float) -> Path:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            tone = np.sin(np.arange(int(seconds * 8000)) * 0.3) * 9000
            file.writeframes(tone.astype("<i2").tobytes())
        return path

    return write
