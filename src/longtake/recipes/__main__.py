"""Run a recipe with the standard library alone, as on a bare GPU machine.

python -m longtake.recipes [NAME_OR_FILE] --out FOLDER [--stage S] [--start FOLDER]
    [--teacher FOLDER]
torchrun --nproc-per-node 2 -m -- longtake.recipes … trains on two cards of one machine; without
the two dashes torchrun takes --start for an option of its own.
"""

import argparse
import logging
from pathlib import Path

from longtake.errors import LongtakeError
from longtake.parallel import join, leave
from longtake.pipeline import device_of
from longtake.recipes.folder import STAGES
from longtake.recipes.previz import run
from longtake.recipes.settings import load_recipe

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="longtake.recipes")
    parser.add_argument("name_or_file", nargs="?", default="previz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--teacher", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    workers, device = join(device_of("auto"))
    try:
        run(
            load_recipe(arguments.name_or_file),
            arguments.out,
            stage=arguments.stage,
            device=device,
            start=arguments.start,
            teacher=arguments.teacher,
            workers=workers,
        )
    except LongtakeError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    finally:
        leave()
