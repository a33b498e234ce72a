"""What a verb tells of the film it made."""

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from longtake.cli.memory import peak_memory_bytes
from longtake.cli.options import OutputOptions, TellOptions
from longtake.cli.output import Output
from longtake.cli.progress import tell
from longtake.config import FPS
from longtake.media.manifest import Manifest

if TYPE_CHECKING:
    from longtake.pipeline import Pipeline
    from longtake.rollout.manifest import TakeManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was made; `--json` prints it as it stands here."""

    output: str
    sheet: str | None
    folder: str | None
    """The take's folder, if it was kept."""
    frames: int
    seconds: float
    width: int
    height: int
    fps: int
    seed: int
    model: str
    model_hash: str
    elapsed_s: float
    peak_memory_bytes: int
    unknown_words: tuple[str, ...]
    warnings: tuple[str, ...]


def report_of(
    pipe: "Pipeline",
    manifest: Manifest,
    output: Output,
    frames: int,
    *,
    started: float,
    warnings: list[str],
) -> Report:
    """The report of a finished film.

    Args:
        pipe: The model.
        manifest: What it was made from.
        output: Where it lies.
        frames: Of the whole film.
        started: Reading of `time.perf_counter` when the verb began.
        warnings: What the user was told.
    """
    settings = manifest.settings
    said = " ".join([manifest.prompt, *(cue.text for cue in manifest.cues if cue.text)])
    return Report(
        output=str(output.film),
        sheet=str(output.sheet) if output.sheet else None,
        folder=str(output.folder) if output.folder.is_dir() else None,
        frames=frames,
        seconds=frames / FPS,
        width=settings.width,
        height=settings.height,
        fps=FPS,
        seed=settings.seed,
        model=manifest.model,
        model_hash=manifest.model_hash,
        elapsed_s=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak_memory_bytes(),
        unknown_words=pipe.tokenizer.read(said).unknown,
        warnings=tuple(warnings),
    )


def tell_take(
    pipe: "Pipeline",
    take: "TakeManifest",
    output: Output,
    how: OutputOptions | TellOptions,
    *,
    started: float,
    warnings: list[str],
) -> None:
    """Print the report of a finished take as asked for; arguments as of `report_of`.

    Raises:
        OutputError: stdout takes no more.
    """
    from longtake.rollout.manifest import film_manifest

    manifest = film_manifest(take, pipe.name)
    report = report_of(pipe, manifest, output, take.frames, started=started, warnings=warnings)
    tell_report(report, how)


def tell_report(report: Report, how: OutputOptions | TellOptions) -> None:
    """Print the report as asked for.

    Raises:
        OutputError: stdout takes no more.
    """
    if how.as_json:
        tell(json.dumps(asdict(report)))
    elif not how.quiet:
        tell(_summary(report))


def _summary(report: Report) -> str:
    film = (
        f"{report.output}: {report.frames} frames, {report.width}x{report.height}, "
        f"{report.seconds:.2f} s at {report.fps} fps, seed {report.seed}, model {report.model}"
    )
    lines = [film]
    if report.sheet:
        lines.append(f"{report.sheet}: contact sheet")
    if report.folder:
        lines.append(f"{report.folder}: its state; extend and branch go on from there")
    memory = report.peak_memory_bytes / 2**20
    lines.append(f"took {report.elapsed_s:.1f} s, peak memory {memory:,.0f} MiB")
    return "\n".join(lines)
