"""The prompt as typed, made fit for a model, or refused by rule."""

import sys
import unicodedata

from longtake.config import MAX_PROMPT
from longtake.errors import PromptError

STDIN = "\0stdin"
"""What a lone `-` becomes before parsing; no real argument can hold NUL."""
_EXAMPLE = '"a red ball bounces on grass"'
_STEERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def read_prompt(given: str) -> str:
    """The prompt as given or from stdin, cleaned.

    Control characters become spaces, marks that turn the writing direction are dropped, and
    bytes that are no UTF-8 are refused.

    Args:
        given: The prompt, or `STDIN`.

    Raises:
        PromptError: empty, too long, or not text.
    """
    text = _from_stdin() if given == STDIN else given
    if len(text) > MAX_PROMPT:
        msg = f"the prompt has {len(text):,} characters; the most is {MAX_PROMPT:,}; shorten it"
        raise PromptError(msg)
    if any(unicodedata.category(c) == "Cs" for c in text):
        msg = f"the prompt is not UTF-8 text; write it in UTF-8, as {_EXAMPLE}"
        raise PromptError(msg)
    spaced = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in _STEERING)
    cleaned = "".join(spaced).strip()
    if not cleaned:
        msg = f"the prompt is empty; say what to show, as {_EXAMPLE}"
        raise PromptError(msg)
    return cleaned


def _from_stdin() -> str:
    if sys.stdin is None:
        return ""
    # One byte more than the longest prompt can have; the rest of a flood stays unread.
    raw = sys.stdin.buffer.read(4 * MAX_PROMPT + 1)
    if len(raw) > 4 * MAX_PROMPT:
        msg = f"the prompt on stdin has more than {MAX_PROMPT:,} characters; shorten it"
        raise PromptError(msg)
    return raw.decode("utf-8", errors="surrogateescape")
