"""Latents to pixels and back."""

from longtake.vae.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
