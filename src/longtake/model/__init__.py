"""The denoiser: latents, text, sigma to velocity."""

from longtake.model.transformer import Transformer

__all__ = ["Transformer"]
