"""Run the recipe with the standard library alone, as on a bare GPU machine.

python -m longtake.recipes [SETTINGS.json] --out FOLDER [--stage S] [--start FOLDER]
"""

import argparse
import json
import logging
from pathlib import Path

import torch

from longtake.config import merge
from longtake.recipes.previz import PrevizRecipe, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="longtake.recipes")
    parser.add_argument("settings", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=("all", "autoencoder", "transformer"), default="all")
    parser.add_argument("--start", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    changes = json.loads(arguments.settings.read_text("utf-8")) if arguments.settings else {}
    run(
        merge(PrevizRecipe(), changes),
        arguments.out,
        stage=arguments.stage,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        start=arguments.start,
    )
