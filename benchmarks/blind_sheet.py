"""Films judged by eye without knowing what was asked for.

python benchmarks/blind_sheet.py draw      # films 24 prompts, shuffled; nobody opens key.json yet
python benchmarks/blind_sheet.py choices   # the words to answer with
python benchmarks/blind_sheet.py score     # compares answers.json with key.json

Between draw and score the judge looks at page_1.png to page_6.png and writes answers.json:
{"1": {"colour": "red", "kind": "car", "motion": "left_to_right", "camera": "static"}, ...}
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from figures import ROOT, small_strips
from jaxtyping import UInt8
from PIL import Image

import longtake
from longtake import Pipeline
from longtake.config import SampleConfig, from_dict, to_dict
from longtake.storage import atomic_write
from longtake.world import Caption, Scenes, caption, sample_scenes
from longtake.world.captions import Wording
from longtake.world.level import FIRST
from longtake.world.scene import Split

BLIND = ROOT / "docs" / "figures" / "blind"
"""Drawings, a folder for each seed; all of them stay, the failed ones too."""
KEPT = ROOT / "out" / "blind"
"""The shown frames, kept out of the repository so that `score` need not film again."""
SEED = 20261126
FILMS, PER_PAGE = 24, 4
SHOWN, SHOWN_WIDTH, COLUMNS = 10, 224, 5
POOL, TRIES = 400, 10_000
UNCLEAR = "unclear"
CHOICES = {
    "colour": (*FIRST.colours, UNCLEAR),
    "kind": (*FIRST.kinds, UNCLEAR),
    "motion": (*FIRST.motions, UNCLEAR),
    "camera": (*FIRST.cameras, UNCLEAR),
}
"""What can be answered; unclear never counts as right."""

Frames = UInt8[np.ndarray, "shown height width 3"]
Answers = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One film that is asked for."""

    prompt: str
    facts: dict[str, str]
    """What the prompt states: kind, colour, motion and camera."""
    split: Split
    wording: Wording
    scene: int
    """Number in the pool of its split."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("draw", "choices", "score"))
    parser.add_argument("--seed", type=int, default=SEED, help="of prompts and their order")
    parser.add_argument("--model", default="previz")
    options = parser.parse_args()
    folder, kept = BLIND / str(options.seed), KEPT / f"{options.seed}.npz"
    match options.verb:
        case "draw":
            refuse_late_draw(folder)
            model = longtake.load(options.model)
            draw(model, options.seed, model.defaults, folder, kept)
        case "choices":
            print(json.dumps(CHOICES, indent=1))
        case "score":
            key = read(folder / "key.json")
            answers = read(folder / "answers.json")
            report = score(key["films"], answers)
            print(json.dumps({"model_hash": key["model_hash"], **report}))
            write(folder / "result.md", result_page(key, answers, report))
            small_strips(
                folder / "prompts.png",
                kept_films(key, options.model, kept),
                [key["films"][number]["prompt"] for number in key["films"]],
                columns=5,
                cell_width=192,
            )


def prompts(seed: int) -> list[Asked]:
    """The films to ask for, shuffled: pairs and wordings, known and held out, in equal parts."""
    asked = []
    for stream, split in enumerate(get_args(Split)):
        scenes = sample_scenes(POOL, np.random.default_rng([seed, stream]), split)
        alone = np.flatnonzero(scenes.num_subjects == 1)[: FILMS // 2]
        for place, index in enumerate(alone.tolist()):
            wording: Wording = "held_out" if place % 2 else "train"
            rng = random.Random(f"{seed} {split} {index}")
            asked.append(ask(scenes, index, rng, split, wording))
    random.Random(seed).shuffle(asked)
    return asked


def ask(scenes: Scenes, index: int, rng: random.Random, split: Split, wording: Wording) -> Asked:
    """Word one scene, again and again until the text states all that is judged."""
    for _ in range(TRIES):
        said = caption(scenes, index, rng, wording)
        facts = judged_facts(said)
        if len(facts) == len(CHOICES):
            return Asked(prompt=said.text, facts=facts, split=split, wording=wording, scene=index)
    message = f"no caption of scene {index} of {split} states {', '.join(CHOICES)}"
    raise ValueError(message)


def judged_facts(said: Caption) -> dict[str, str]:
    """What a caption states of the attributes that are judged."""
    stated = {fact.attribute: fact.value for fact in said.facts}
    return {name: stated[name] for name in CHOICES if name in stated}


def refuse_late_draw(folder: Path) -> None:
    """Answers belong to the films that were judged; a new drawing must not slip under them."""
    if (folder / "answers.json").exists():
        message = f"{folder / 'answers.json'} answers an earlier drawing; move it away first"
        raise SystemExit(message)


def draw(model: Pipeline, seed: int, settings: SampleConfig, folder: Path, kept: Path) -> None:
    """Film every prompt once, in shuffled order, and write pages, key and kept frames."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = prompts(seed)
    films = list(film_all([a.prompt for a in asked], model, settings))
    key = {
        "seed": seed,
        "model_hash": model.model_hash,
        "settings": to_dict(settings),
        "films": {
            str(number): {**asdict(film), "seed": settings.seed}
            for number, film in enumerate(asked, start=1)
        },
    }
    text = json.dumps(key, indent=1) + "\n"
    write(folder / "key.json", text)
    keep(kept, films, text)
    for page in range(FILMS // PER_PAGE):
        first = page * PER_PAGE
        clips, labels = rows(films[first : first + PER_PAGE], first + 1)
        small_strips(
            folder / f"page_{page + 1}.png", clips, labels, columns=COLUMNS, cell_width=SHOWN_WIDTH
        )
    print(json.dumps({"what": "blind sheet drawn", "films": FILMS, "key_sha256": digest(text)}))


def film_all(texts: Sequence[str], model: Pipeline, settings: SampleConfig) -> Iterator[Frames]:
    """The shown frames of each film; says how far it is, never what it films."""
    start = time.perf_counter()
    for number, text in enumerate(texts, start=1):
        yield shown(model.generate(text, settings=settings).frames)
        print(f"film {number} of {len(texts)}, {time.perf_counter() - start:.0f} s", flush=True)


def shown(frames: UInt8[torch.Tensor, "frames height width 3"]) -> Frames:
    """Evenly spaced frames at the size they are judged at; every half second of a 5 s film."""
    # Ninths of 5 s would catch a bounce of 1.1 s twice at the same height, as if it stood still.
    step = (len(frames) - 1) // SHOWN
    size = (SHOWN_WIDTH, round(SHOWN_WIDTH * frames.shape[1] / frames.shape[2]))
    pictures = [Image.fromarray(frames[number * step].numpy()) for number in range(SHOWN)]
    return np.stack([np.asarray(p.resize(size, Image.Resampling.LANCZOS)) for p in pictures])


def rows(films: Sequence[Frames], first: int) -> tuple[list[Frames], list[str]]:
    """Rows of a page: a film runs on over rows of its own, all labelled with its number alone."""
    clips, labels = [], []
    for number, film in enumerate(films, start=first):
        for begin in range(0, len(film), COLUMNS):
            clips.append(film[begin : begin + COLUMNS])
            labels.append(str(number))
    return clips, labels


def score(films: dict[str, dict[str, Any]], answers: Answers) -> dict[str, Any]:
    """Count right answers: per attribute, all of them, and all by what was held out."""
    check(films, answers)
    right = {
        number: {name: answers[number][name] == film["facts"][name] for name in CHOICES}
        for number, film in films.items()
    }
    report: dict[str, Any] = {"what": "blind sheet", "films": len(films)}
    report |= {name: sum(marks[name] for marks in right.values()) for name in CHOICES}
    report["all_four"] = sum(all(marks.values()) for marks in right.values())
    for what in ("split", "wording"):
        for value in sorted({film[what] for film in films.values()}):
            of_it = [number for number, film in films.items() if film[what] == value]
            won = sum(all(right[number].values()) for number in of_it)
            report[f"all_four_{what}_{value}"] = f"{won} of {len(of_it)}"
    return report


def check(films: dict[str, dict[str, Any]], answers: Answers) -> None:
    """Every film is answered, in the words of the choices."""
    if set(answers) != set(films):
        apart = ", ".join(sorted(set(answers) ^ set(films), key=lambda n: (len(n), n)))
        message = f"answers.json and key.json differ in the films {apart}; answer each once"
        raise SystemExit(message)
    for number, answer in answers.items():
        for name, choices in CHOICES.items():
            if answer.get(name) not in choices:
                given, words = answer.get(name), ", ".join(choices)
                message = f"film {number}: {name} must be one of {words}, got {given!r}"
                raise SystemExit(message)


def result_page(key: dict[str, Any], answers: Answers, report: dict[str, Any]) -> str:
    """The comparison as a page; what was seen wrongly stands in bold."""
    films, names = key["films"], tuple(CHOICES)
    counts = ", ".join(f"{name} {report[name]}" for name in names)
    lines = [
        "# Films judged blind",
        "",
        f"{len(films)} prompts, the first film of each, judged from still frames before the key",
        "was opened (`benchmarks/blind_sheet.py`). The words are those of the world; what was seen",
        "otherwise than asked is **bold**.",
        "",
        f"- all four right: {report['all_four']} of {len(films)}",
        f"- right of {len(films)}: {counts}",
        *(
            f"- all four right, {name.removeprefix('all_four_').replace('_', ' ', 1)}: {value}"
            for name, value in report.items()
            if name.startswith("all_four_")
        ),
        f"- model `{key['model_hash'][:16]}`, prompts and order from seed {key['seed']}",
        "",
        f"| film | prompt | asked: {', '.join(names)} | seen | |",
        "|---|---|---|---|---|",
    ]
    for number, film in films.items():
        asked, seen = film["facts"], answers[number]
        marked = [seen[n] if seen[n] == asked[n] else f"**{seen[n]}**" for n in names]
        verdict = "right" if all(seen[n] == asked[n] for n in names) else "wrong"
        wanted = ", ".join(asked[n] for n in names)
        lines.append(
            f"| {number} | {film['prompt']} | {wanted} | {', '.join(marked)} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def keep(path: Path, films: Sequence[Frames], key_text: str) -> None:
    """Store the shown frames and which key they belong to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temp, temp.open("wb") as file:
        np.savez_compressed(file, films=np.stack(films), key=np.array(digest(key_text)))


def kept_films(key: dict[str, Any], model_name: str, path: Path) -> list[Frames]:
    """The shown frames, from the drawing or filmed again with the same weights."""
    if path.exists():
        with np.load(path) as stored:
            if str(stored["key"]) == digest(json.dumps(key, indent=1) + "\n"):
                return list(stored["films"])
    model = longtake.load(model_name)
    if model.model_hash != key["model_hash"]:
        message = f"{model_name} has other weights than those that were judged; use them again"
        raise SystemExit(message)
    settings = from_dict(SampleConfig, key["settings"])
    return list(film_all([film["prompt"] for film in key["films"].values()], model, settings))


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))


def write(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic_write(path) as temp:
        temp.write_text(text, "utf-8")


def digest(text: str) -> str:
    """Which text it is, without telling it."""
    return sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
