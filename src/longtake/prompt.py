"""What people type, made fit for a model, or refused by rule."""

import unicodedata

from longtake.config import MAX_PROMPT
from longtake.errors import PromptError

EXAMPLE = '"a red ball bounces on grass"'
"""A prompt that every model reads."""
_STEERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_prompt(text: str) -> str:
    """A prompt on one line: control characters become spaces, marks that turn its direction go.

    Raises:
        PromptError: empty, too long, or not text.
    """
    if len(text) > MAX_PROMPT:
        msg = f"the prompt has {len(text):,} characters; the most is {MAX_PROMPT:,}; shorten it"
        raise PromptError(msg)
    if any(unicodedata.category(c) == "Cs" for c in text):
        msg = f"the prompt is not UTF-8 text; write it in UTF-8, as {EXAMPLE}"
        raise PromptError(msg)
    spaced = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in _STEERING)
    cleaned = "".join(spaced).strip()
    if not cleaned:
        msg = f"the prompt is empty; say what to show, as {EXAMPLE}"
        raise PromptError(msg)
    return cleaned
