"""`longtake quantize`, `precision-report` and `selftest`: options; the work is imported late."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtake.cli.options import TellOptions, WholeNumber


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What becomes of the model."""

    precision: Literal["fp8", "nvfp4"]
    """Format of the denoiser's large layers: 8 or 4.5 bits a weight."""
    output: Annotated[Path, Parameter(name=("--output", "-o"))]
    """Folder to make; --model takes it wherever it takes the model it was made from."""
    keep: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A layer that stays as it is, by its name or the end of it; once or more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the rounding runs."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReportingOptions:
    """What is measured, and where that is told."""

    clips: WholeNumber = 1
    """Clips made in each format and compared with fp32."""
    seconds: float = 0.5
    """Length of each."""
    size: str | None = None
    """WIDTHxHEIGHT of each. Default: the model's own."""
    steps: WholeNumber | None = None
    """Sampler steps of each. Default: the model's own; 8 with a public model."""
    passes: WholeNumber = 2
    """Passes of the denoiser on which every layer is tried alone."""
    most: float = 0.05
    """Relative error of the denoiser that layers are kept high for."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; in fp32."""
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("precision")
    """Folder of report.json and layers.png."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the files of an earlier report."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SelftestOptions:
    """Where it is tried."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Which device; auto takes a GPU if there is one."""


_REPORTING, _SELFTEST, _TELL = ReportingOptions(), SelftestOptions(), TellOptions()


def quantize(model: str, /, *, to: QuantizeOptions, how: TellOptions = _TELL) -> None:
    """Store a model with the denoiser's large layers in fp8 or nvfp4.

    Args:
        model: Model by name or folder; a public one too.
        to: What becomes of it.
        how: What is told.
    """
    from longtake.cli.quantize import make_folder

    make_folder(model, to, how)


def precision_report(
    model: str = "previz", /, *, of: ReportingOptions = _REPORTING, how: TellOptions = _TELL
) -> None:
    """Measure what each format costs: layer by layer and clip by clip, against fp32.

    Args:
        model: Model by name or folder; a public one too.
        of: What is measured.
        how: What is told.
    """
    from longtake.cli.precision import report_on

    report_on(model, of, how)


def selftest(
    which: Literal["fp8", "nvfp4"] | None = None,
    /,
    *,
    where: SelftestOptions = _SELFTEST,
    how: TellOptions = _TELL,
) -> None:
    """Try by numbers whether fp8 and nvfp4 are right on this machine, faults included.

    Args:
        which: One of them. Default: both.
        where: The device.
        how: What is told.
    """
    from longtake.cli.precision import try_formats

    try_formats(which, where, how)
