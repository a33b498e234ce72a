"""Pixels between the networks, in [-1, 1], and the world, in bytes."""

import hashlib

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor


def to_bytes(frames: Float[Tensor, "*any"]) -> UInt8[Tensor, "*any"]:
    """[-1, 1] to bytes, rounded once."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def checksum(pixels: UInt8[Tensor, "*any"]) -> str:
    """SHA-256 of pixels."""
    return hashlib.sha256(pixels.cpu().contiguous().numpy().tobytes()).hexdigest()


def from_bytes(frames: UInt8[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Bytes to [-1, 1]."""
    return frames.float() / 127.5 - 1


def padded(
    frames: Float[Tensor, "frames rows columns 3"], width: int, height: int
) -> Float[Tensor, "frames {height} {width} 3"]:
    """Frames in the middle of larger ones, their edges repeated around them."""
    rows, columns = height - frames.shape[1], width - frames.shape[2]
    if not rows and not columns:
        return frames
    around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(frames.movedim(-1, 1), around, mode="replicate").movedim(1, -1)


def cut(
    frames: Shaped[Tensor, "frames high wide 3"], width: int, height: int
) -> Shaped[Tensor, "frames {height} {width} 3"]:
    """The middle of frames; takes back what `padded` put around them."""
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]
