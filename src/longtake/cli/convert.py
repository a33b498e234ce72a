"""`longtake convert`: the authors' .pth into safetensors, once."""

import json
import os
import shutil
from pathlib import Path

from longtake.cli.options import TellOptions
from longtake.cli.progress import display, tell
from longtake.cli.public_verbs import ConvertOptions
from longtake.errors import ModelError, OutputError
from longtake.official.folder import copy_parts
from longtake.official.pth import Converted, convert
from longtake.presets import PUBLIC_FILE
from longtake.storage import check_writable


def make_folder(source: Path, to: ConvertOptions, how: TellOptions) -> None:
    """Convert a file into a folder, whole or not at all.

    Args:
        source: The .pth or .pt.
        to: Where it goes, and with what.
        how: What is told.

    Raises:
        OutputError: the folder exists or cannot be written.
        ModelError: the other parts are no public model.
        WeightsError: not weights of such a model.
    """
    out, parts = to.out, to.parts
    if os.path.lexists(out):
        msg = f"{out} exists already; choose another folder with --out"
        raise OutputError(msg)
    check_writable(out)
    if parts is not None and not (parts / PUBLIC_FILE).is_file():
        msg = f"--parts: {parts} is no public model, it has no {PUBLIC_FILE}"
        raise ModelError(msg)
    with display(quiet=how.quiet) as show:
        show.stage("load", 0, 1)
        try:
            made = convert(source, out / "transformer", head_size=to.head_size, causal=to.longsana)
            if parts is not None:
                copy_parts(parts, out)
        except BaseException:
            # Whole or absent, as everything that is written.
            shutil.rmtree(out, ignore_errors=True)
            raise
        show.stage("load", 1, 1)
    _tell(made, how, alone=parts is None)


def _tell(made: Converted, how: TellOptions, *, alone: bool) -> None:
    if how.as_json:
        tell(
            json.dumps(
                {
                    "folder": str(made.folder),
                    "parameters": made.parameters,
                    "ignored": made.ignored,
                    "taken_from": made.holder,
                }
            )
        )
    elif not how.quiet:
        taken = f" of its {made.holder!r}" if made.holder else ""
        tell(f"{made.folder}: {made.parameters:,} parameters{taken}")
        if made.ignored:
            tell(f"left out, of training only: {', '.join(made.ignored)}")
        if alone:
            tell("for a whole model, add --parts with a public model's folder")
