"""Prompt to embeddings and mask."""

from typing import TYPE_CHECKING

from longtake.text.tokenizer import Reading, Tokenizer

if TYPE_CHECKING:
    from longtake.text.encoder import TextEncoder

__all__ = ["Reading", "TextEncoder", "Tokenizer"]


def __getattr__(name: str) -> object:
    """Bring in the encoder, and torch with it, only when it is asked for."""
    if name == "TextEncoder":
        from longtake.text import encoder  # noqa: PLC0415 - a server reads prompts without torch

        return encoder.TextEncoder
    msg = f"module 'longtake.text' has no attribute {name!r}"
    raise AttributeError(msg)
