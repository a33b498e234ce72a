"""Prompt to embeddings and mask."""

from longtake.text.encoder import TextEncoder
from longtake.text.tokenizer import Reading, Tokenizer

__all__ = ["Reading", "TextEncoder", "Tokenizer"]
