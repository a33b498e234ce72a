"""The reference page of the command line, made from the app itself.

python -m longtake.cli.reference > docs/reference/cli.md
"""

from longtake.cli.app import app

_FOOT = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | a fault in Longtake; `LONGTAKE_TRACEBACK=1` shows where |
| 2 | something asked for cannot be done; the message names the fix |
| 3 | this machine cannot do it: memory, disk, precision, a missing device or extra; a take pauses |
| 130 | stopped with Ctrl-C; takes and training runs say how they go on, other films leave nothing |

Results go to stdout, progress and errors to stderr. `NO_COLOR` is respected. A film made in one
pass is whole or absent: it is written under a temporary name and renamed when it is finished. A
take made by chunks grows under its own name and can be watched meanwhile; as long as the folder
`.longtake` beside it is unfinished, so is the film.
"""


def reference() -> str:
    """The page as Markdown."""
    return app.generate_docs().rstrip() + "\n" + _FOOT


if __name__ == "__main__":
    print(reference(), end="")
