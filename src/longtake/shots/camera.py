"""Camera moves in film terms, as the caption grammar says them."""

from difflib import get_close_matches

from longtake.errors import ShotListError
from longtake.world.wording_camera import CAMERA_WORDS

_ALSO = {
    "locked off": "static",
    "locked-off": "static",
    "lock off": "static",
    "still": "static",
    "none": "static",
    "tracking left": "truck left",
    "track left": "truck left",
    "tracking right": "truck right",
    "track right": "truck right",
    "push-in": "dolly in",
    "pull-out": "dolly out",
    "arc": "orbit",
    "boom up": "pedestal up",
    "boom down": "pedestal down",
    "crane": "crane up",
}
"""Film terms that the grammar has no line for."""


def _phrases() -> dict[str, str]:
    """What may be written, each with the sentence that the model was taught."""
    found: dict[str, str] = {}
    for move, words in CAMERA_WORDS.items():
        said = words.clauses.train[0]
        plain = (
            *words.clauses.train,
            *words.clauses.held_out,
            *words.labels.train,
            *words.labels.held_out,
        )
        found |= {phrase: said for phrase in plain if "{it}" not in phrase and "{it}" not in said}
        if "{it}" not in said:
            found[move.replace("_", " ")] = said
    return found | {term: found[move] for term, move in _ALSO.items() if move in found}


MOVES = _phrases()
"""What may be written for a camera move, and the sentence it becomes."""


def camera_clause(text: str) -> str:
    """The sentence for a camera move; nothing for nothing.

    Raises:
        ShotListError: a move that the grammar does not have.
    """
    given = " ".join(text.lower().replace("_", " ").strip(" .").split())
    if not given:
        return ""
    if given in MOVES:
        return MOVES[given]
    near = get_close_matches(given, MOVES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "try 'static', 'pan left' or 'dolly in'"
    msg = f"no camera move {text.strip()!r}; {hint}"
    raise ShotListError(msg)


def move_of(prompt: str) -> str:
    """The camera move that a prompt tells, by its name; `static` if it tells none."""
    said = prompt.lower()
    for move, words in CAMERA_WORDS.items():
        for phrase in (*words.clauses.train, *words.clauses.held_out):
            if phrase in said:
                return move
    return "static"
