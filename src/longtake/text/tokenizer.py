"""Words to numbers over a closed vocabulary, honest about the words it does not know."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

PAD, UNKNOWN, NULL = 0, 1, 2
_SPECIAL = 3
_WORD = re.compile(r"[^\W_]+|[,.:;]")
_ENDINGS = ("ing", "ed", "es", "s", "ly", "ward", "wards")


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt as the model sees it."""

    tokens: tuple[int, ...]
    """Token numbers, never empty; a prompt without words is the null prompt."""
    unknown: tuple[str, ...]
    """Words that mean nothing to the model, each once, in order."""
    replaced: tuple[tuple[str, str], ...]
    """Misspelt or inflected words and what they were read as."""
    cut: int
    """Tokens past the limit that were dropped."""

    def notices(self) -> Iterator[str]:
        """What the user should know of how the prompt was read."""
        if self.unknown:
            yield f"the model does not know: {', '.join(self.unknown)}"
        if self.replaced:
            pairs = ", ".join(f"{word!r} as {known!r}" for word, known in self.replaced)
            yield f"read {pairs}"
        if self.cut:
            yield f"the prompt is too long for the model; its last {self.cut} words were left out"


class Tokenizer:
    """Maps words to tokens; near misses are read as the nearest known word."""

    def __init__(self, words: tuple[str, ...], max_tokens: int) -> None:
        """Number the words in the order given, after pad, unknown and null."""
        self.words = words
        self.max_tokens = max_tokens
        self._index = {word: number + _SPECIAL for number, word in enumerate(words)}
        self._by_stem = {_stem(word): word for word in reversed(words)}

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.words) + _SPECIAL

    def read(self, prompt: str) -> Reading:
        """Tokenise a prompt."""
        tokens: list[int] = []
        unknown: dict[str, None] = {}
        replaced: dict[str, str] = {}
        for word in split(prompt):
            known = word if word in self._index else self._nearest(word)
            if known is None:
                if word.isalnum():
                    unknown[word] = None
                    tokens.append(UNKNOWN)
                continue
            if known != word:
                replaced[word] = known
            tokens.append(self._index[known])
        kept = tuple(tokens[: self.max_tokens]) or (NULL,)
        cut = max(len(tokens) - self.max_tokens, 0)
        return Reading(kept, tuple(unknown), tuple(replaced.items()), cut)

    def _nearest(self, word: str) -> str | None:
        """The known word with the same stem, or one typing slip away; None if there is none."""
        if len(word) < 4:
            return None
        if _stem(word) in self._by_stem:
            return self._by_stem[_stem(word)]
        alike = [known for known in self.words if known[0] == word[0] and len(known) > 3]
        near = get_close_matches(word, alike, n=1, cutoff=0.83)
        return near[0] if near else None


def split(text: str) -> list[str]:
    """Lower-case words and punctuation marks; hyphens separate words."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
