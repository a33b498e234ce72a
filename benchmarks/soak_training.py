"""Kill fine-tuning at random, again and again, and compare what is left with a run left alone.

Each round kills a child with SIGKILL at a few random places (in a step, or while a state is half
written), lets it come through at last, and compares LoRA and losses byte for byte with a run that
nobody disturbed. Row 60 of the fault matrix.

    python benchmarks/soak_training.py --rounds 20
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parents[1] / "tests"),
    str(Path(__file__).parents[1] / "tests" / "faults"),
]

from test_training_faults import crash, log  # noqa: E402
from training_help import RECIPE, latent_shards, loaded, save_model  # noqa: E402

from longtake.config import (  # noqa: E402
    AutoencoderConfig,
    ModelConfig,
    TextConfig,
    TransformerConfig,
)
from longtake.recipes.finetune import finetune  # noqa: E402

TINY = ModelConfig(
    autoencoder=AutoencoderConfig(
        latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    ),
    transformer=TransformerConfig(latent_channels=8, width=48, depth=2, heads=2, text_width=24),
    text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
    words=("a", "ball", "bounces", "grass", "on", "red"),
    max_frames=33,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, started, kills = random.Random(asked.seed), time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = save_model(place / "model", TINY)
        shards = latent_shards(place / "latents", loaded(model))
        whole = finetune(RECIPE, place / "whole", shards, loaded(model)).file.read_bytes()
        for number in range(asked.rounds):
            # Places rise, or a later child would be past them.
            steps = sorted(rng.sample(range(1, 6), rng.randint(1, 2)))
            places = [f"step:{step}" for step in steps] + ["write:1"] * rng.randint(0, 1)
            out = place / f"round{number}"
            crash(shards.folder, model, out, places)
            kills += len(places)
            same = (out / "lora.safetensors").read_bytes() == whole
            same = same and log(out) == log(place / "whole")
            print(f"round {number + 1}: {', '.join(places)}: {'equal' if same else 'DIFFERENT'}")
            if not same:
                sys.exit(1)
    elapsed_s = time.perf_counter() - started
    print(f"{asked.rounds} rounds, {kills} kills, all equal; {elapsed_s:.0f} s")


if __name__ == "__main__":
    main()
