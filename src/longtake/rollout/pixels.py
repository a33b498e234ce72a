"""Pixels between the networks, in [-1, 1], and the world, in bytes."""

import hashlib

import torch
from jaxtyping import Float, UInt8
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
