"""The prompt as typed, or from stdin."""

import sys

from longtake.config import MAX_PROMPT
from longtake.errors import PromptError
from longtake.prompt import clean_prompt

STDIN = "\0stdin"
"""What a lone `-` becomes before parsing; no real argument can hold NUL."""


def read_prompt(given: str) -> str:
    """The prompt as given or from stdin, cleaned; bytes that are no UTF-8 are refused.

    Args:
        given: The prompt, or `STDIN`.

    Raises:
        PromptError: empty, too long, or not text.
    """
    return clean_prompt(_from_stdin() if given == STDIN else given)


def _from_stdin() -> str:
    if sys.stdin is None:
        return ""
    # One byte more than the longest prompt can have; the rest of a flood stays unread.
    raw = sys.stdin.buffer.read(4 * MAX_PROMPT + 1)
    if len(raw) > 4 * MAX_PROMPT:
        msg = f"the prompt on stdin has more than {MAX_PROMPT:,} characters; shorten it"
        raise PromptError(msg)
    return raw.decode("utf-8", errors="surrogateescape")
