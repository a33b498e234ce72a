"""Words of time: what training captions say, and how a user's relative words become it.

Captions state absolute seconds alone, so that a caption means the same whatever the clip's length.
"""

import re

from longtake.world.wording import Family

_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_DIGITS = "zero one two three four five six seven eight nine"
_ONES = (*_DIGITS.split(), *_TEENS.split())
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty")
NUMBERS = (*_ONES, *(f"{ten} {one}".strip() for ten in _TENS for one in ("", *_ONES[1:10])))
"""Whole numbers in words, in order; compounds as two words, as the tokenizer splits them."""
AT = Family(("at {n}", "starting at {n}"))
THEN = Family(("then at {n}", "and at {n}", "and later at {n}"))
THEN_S = 2
"""Seconds from one thing to the next that a bare "then" stands for."""
_AFTER = re.compile(r"\b(?:(then|and)\s+)?(?:after|in)\s+([\w-]+)\s+seconds?\b(\s+later)?")
_LATER = re.compile(r"\b(?:and\s+)?then\b(?!\s+at\b)")
_ONCE = re.compile(r",?\s*\b(?:at once|right away|immediately)\b")


def seconds(number: int) -> str:
    """A number of seconds in words."""
    return f"{NUMBERS[number]} second{'' if number == 1 else 's'}"


def resolve(text: str, start_s: int = 0) -> str:
    """Turn relative times of a prompt into the absolute seconds that captions state.

    Args:
        text: In lower case.
        start_s: Second at which the text begins to hold.

    `at once` goes, since things start at the beginning; `after N seconds` becomes `at N seconds`;
    a bare `then` comes `THEN_S` seconds after the time named before it, or after the start.
    `while` stays: it joins what happens at the same time.
    """
    text = _ONCE.sub("", text)
    text = _AFTER.sub(lambda match: _absolute(match, start_s), text)
    said, at = "", start_s
    while (bare := _LATER.search(text)) is not None:
        before = text[: bare.start()]
        at = max([at, *_named(before)]) + THEN_S
        said += f"{before}then at {seconds(min(at, len(NUMBERS) - 1))}"
        text = text[bare.end() :]
    return said + text


def _absolute(match: re.Match[str], start_s: int) -> str:
    number = _number(match[2])
    if number is None or start_s + number >= len(NUMBERS):
        return match[0]
    join = f"{match[1]} " if match[1] else ""
    return f"{join}at {seconds(start_s + number)}"


def _number(word: str) -> int | None:
    """A number up to sixty-nine in digits or words."""
    plain = word.lower().replace("-", " ")
    number = int(plain) if plain.isdecimal() else NUMBERS.index(plain) if plain in NUMBERS else None
    return number if number is not None and number < len(NUMBERS) else None


def _named(text: str) -> list[int]:
    """Seconds that a text names."""
    found = [words.split() for words in re.findall(r"\bat ((?:\w+ )?\w+) seconds?\b", text)]
    numbers = [_number(" ".join(words)) for words in found]
    return [number for number in numbers if number is not None]
