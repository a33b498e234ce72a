"""Gemma-2 as the public models read their prompts: instruction, BOS and the last positions."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_TOKENS = 300
"""Text tokens the denoiser sees."""
Instruction = Literal["video", "image", "none"]
"""Wording put before the prompt: diffusers' (video), the authors' own scripts' (image), none."""


@runtime_checkable
class Tokens(Protocol):
    """The part of a tokenizer's answer that is used."""

    input_ids: Tensor
    attention_mask: Tensor


@runtime_checkable
class PublicTokenizer(Protocol):
    """What is used of a tokenizer of `transformers`."""

    padding_side: str

    def __call__(
        self,
        text: str,
        *,
        padding: str,
        max_length: int,
        truncation: bool,
        return_tensors: str,
    ) -> Tokens:
        """Token numbers and a mask, padded to one length."""
        ...

    def encode(self, text: str) -> Sequence[int]:
        """Token numbers with BOS."""
        ...


@runtime_checkable
class PublicEncoder(Protocol):
    """What is used of a decoder of `transformers`."""

    def __call__(self, input_ids: Tensor, *, attention_mask: Tensor) -> Sequence[Tensor]:
        """Hidden states after the final norm, first of what it returns."""
        ...


def cleaned(prompt: str) -> str:
    """The prompt as the public models were shown it: lower case, no space around."""
    return prompt.lower().strip()


def with_motion(prompt: str, score: int) -> str:
    """The prompt with the suffix that asks for an amount of motion; 0 leaves it out."""
    return f"{prompt.strip()} motion score: {score}." if score else prompt


def encode(
    tokenizer: PublicTokenizer,
    encoder: PublicEncoder,
    prompt: str,
    instruction: str,
    device: torch.device,
) -> tuple[Float[Tensor, "1 m e"], Bool[Tensor, "1 m"]]:
    """Embeddings of a prompt and a mask that is true where a token is real.

    The instruction only colours the hidden states: of instruction and prompt, padded on the right
    to the instruction's tokens + 298, position 0 (BOS) and the last 299 are kept.

    Args:
        tokenizer: Gemma's.
        encoder: Gemma-2 without a language head.
        prompt: What to show; may be empty, for a negative prompt.
        instruction: Text before the prompt; empty for none.
        device: Where the encoder lies.

    Source: SANA (arXiv 2410.10629), section 2.3, as diffusers 0.42 runs it.
    """
    tokenizer.padding_side = "right"
    length = MAX_TOKENS
    if instruction:
        length = len(tokenizer.encode(instruction)) + MAX_TOKENS - 2
    tokens = tokenizer(
        instruction + cleaned(prompt),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    mask = tokens.attention_mask.to(device)
    states = encoder(tokens.input_ids.to(device), attention_mask=mask)[0]
    kept = [0, *range(length - MAX_TOKENS + 1, length)]
    return states[:, kept], mask[:, kept].bool()


def words_cut(tokenizer: PublicTokenizer, prompt: str, instruction: str) -> int:
    """Tokens of the prompt that are past what the model reads."""
    spent = len(tokenizer.encode(instruction)) - 2 if instruction else 0
    return max(len(tokenizer.encode(instruction + cleaned(prompt))) - spent - MAX_TOKENS, 0)
