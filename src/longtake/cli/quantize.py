"""`longtake quantize`: a model's folder once more, its large layers in few bits."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.cli.memory import memory_errors
from longtake.cli.official import tell_fetching
from longtake.cli.options import TellOptions
from longtake.cli.precision_verbs import QuantizeOptions
from longtake.cli.progress import Display, display, tell
from longtake.errors import OutputError, SettingError
from longtake.official.folder import PublicModel, read_model
from longtake.official.source import locate
from longtake.official.transformer import CONFIG, HOST, SHARD_BYTES, WEIGHTS, load_transformer
from longtake.pipeline import device_of, load
from longtake.pipeline.quantized import save_quantized, stored_format
from longtake.presets import MODEL_FILE, PARTS, find, is_public
from longtake.quantize import all_layers, low_layers, quantize
from longtake.storage import check_writable, output_errors

if TYPE_CHECKING:
    from longtake.model import Transformer

SMALL_SHARDS = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was written; `--json` prints it as it stands here."""

    folder: str
    precision: str
    layers: int
    """In few bits."""
    kept: tuple[str, ...]
    """Layers that could have been and were not."""
    bytes_before: int
    """Of the denoiser's weights, in bf16."""
    bytes_after: int


def make_folder(name: str, to: QuantizeOptions, how: TellOptions) -> None:
    """Write the folder, whole or not at all.

    Raises:
        OutputError: the folder exists or cannot be written.
        SettingError: weights that are in few bits already, or a layer to keep that is none.
    """
    out = to.output
    if os.path.lexists(out):
        msg = f"{out} exists already; choose another folder with -o"
        raise OutputError(msg)
    check_writable(out)
    with display(quiet=how.quiet) as show, memory_errors("a machine with more memory"):
        try:
            made = _public(name, to, show) if is_public(name) else _own(name, to, show)
        except BaseException:
            # Whole or absent, as everything that is written.
            shutil.rmtree(out, ignore_errors=True)
            raise
    if how.as_json:
        tell(json.dumps(asdict(made)))
    elif not how.quiet:
        tell(
            f"{made.folder}: {made.layers} layers in {made.precision}, the denoiser "
            f"{made.bytes_after / 2**20:,.1f} MiB instead of {made.bytes_before / 2**20:,.1f}"
        )


def _own(name: str, to: QuantizeOptions, show: Display) -> Made:
    preset, out = find(name), to.output
    _refuse_twice(preset.folder, name)
    show.stage("load", 0, 1)
    denoiser = load(name, device="cpu", precision="fp32").transformer
    show.stage("load", 1, 1)
    names = _names(denoiser, to)
    before = _bytes(denoiser)
    _, part, _ = PARTS
    _copy((p for p in preset.folder.iterdir() if not p.name.startswith(part)), out)
    quantize(denoiser, to.precision, names, device_of(to.device))
    weights = out / f"{part}.safetensors"
    config = out / MODEL_FILE
    save_quantized(denoiser, weights, to.precision, config, shard_bytes=SMALL_SHARDS)
    load(str(out), device="cpu")
    return _made(denoiser, to, names, before)


def _public(name: str, to: QuantizeOptions, show: Display) -> Made:
    found: PublicModel = read_model(locate(name, lambda what: tell_fetching(what, show)))
    source, out = found.folder / "transformer", to.output / "transformer"
    _refuse_twice(source, name)
    show.stage("load", 0, 1)
    import torch

    denoiser = load_transformer(source, torch.bfloat16, HOST)
    show.stage("load", 1, 1)
    names = _names(denoiser, to)
    before = _bytes(denoiser)
    _copy((p for p in found.folder.iterdir() if p.name != "transformer"), to.output)
    _copy([source / CONFIG], out)
    quantize(denoiser, to.precision, names, device_of(to.device))
    save_quantized(denoiser, out / WEIGHTS, to.precision, out / CONFIG, shard_bytes=SHARD_BYTES)
    load_transformer(out, torch.bfloat16, HOST)
    return _made(denoiser, to, names, before)


def _names(denoiser: "Transformer", to: QuantizeOptions) -> tuple[str, ...]:
    """The layers that go into few bits.

    Raises:
        SettingError: a layer to keep that is none of them, or none left.
    """
    every = all_layers(denoiser)
    for kept in to.keep:
        if not any(name.endswith(kept) for name in every):
            msg = f"--keep: no layer ends in {kept!r}; such names are as {every[0]}"
            raise SettingError(msg)
    names = low_layers(denoiser, to.precision, to.keep)
    if not names:
        msg = "--keep leaves no layer to put into few bits; name fewer"
        raise SettingError(msg)
    return names


def _refuse_twice(folder: Path, name: str) -> None:
    if stored := stored_format(folder):
        msg = f"the weights of {name} are in {stored} already; quantize the model they came from"
        raise SettingError(msg)


def _copy(paths: Iterable[Path], to: Path) -> None:
    with output_errors(to):
        to.mkdir(parents=True, exist_ok=True)
        for path in paths:
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, to / path.name)


def _bytes(denoiser: "Transformer") -> int:
    return 2 * sum(weight.numel() for weight in denoiser.parameters())


def _made(
    denoiser: "Transformer", to: QuantizeOptions, names: tuple[str, ...], before: int
) -> Made:
    from longtake.pipeline.quantized import packed_types

    packed = packed_types(denoiser)
    after = sum(
        value.nbytes if name in packed else 2 * value.numel()
        for name, value in denoiser.named_parameters()
    )
    return Made(
        folder=str(to.output),
        precision=to.precision,
        layers=len(names),
        kept=to.keep,
        bytes_before=before,
        bytes_after=after,
    )
