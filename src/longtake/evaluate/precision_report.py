"""What is told of the formats: JSON, tables, and one plot."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from longtake.evaluate.precision import FEW, LayerCost, WholeCost
from longtake.storage import atomic_write, output_errors

_COLOURS = {"fp8": "#2f5d8a", "nvfp4": "#b5472f"}
MOST_SHOWN = 12
"""Layers in the table; the JSON has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionReport:
    """Everything that was measured."""

    model: str
    """By name or folder."""
    device: str
    """Where it was measured."""
    emulated: str
    """What of it no unit of this device computed."""
    clip: str
    """What was made."""
    layers: tuple[LayerCost, ...]
    """One by one."""
    whole: tuple[WholeCost, ...]
    """All at once."""
    most: float
    """Bound of the error that the choice of layers keeps."""
    stay_high: dict[str, tuple[str, ...]]
    """Layers to keep out of each format so that the bound holds."""

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Two tables and what follows from them."""
        lines = [f"{self.model}, {self.clip}, on {self.device}", self.emulated, ""]
        lines.append(f"{'all layers':<28}{'velocity':>10}   clips against fp32")
        for cost in self.whole:
            clips = "not made" if cost.clips_db is None else _decibels(cost.clips_db)
            lines.append(
                f"{f'{cost.rounding}, {cost.rounded}':<28}{cost.velocity:>10.2e}   {clips}"
            )
        lines += ["", f"{'layer alone':<44}{'fp8':>10}{'nvfp4':>10}"]
        worst = sorted(self.layers, key=lambda cost: -cost.velocity["nvfp4"])
        for cost in worst[:MOST_SHOWN]:
            told = "".join(f"{cost.velocity[how]:>10.2e}" for how in FEW)
            lines.append(f"{cost.name:<44}{told}")
        lines.append("")
        for how, names in self.stay_high.items():
            kept = f"keep {len(names)} of {len(self.layers)} layers high"
            more = f": --keep {' --keep '.join(names)}" if 0 < len(names) <= MOST_SHOWN else ""
            lines.append(f"{how} within {self.most:g}: {kept}{more}")
        return "\n".join(lines)


def write_plot(path: Path, layers: Sequence[LayerCost]) -> None:
    """Error of the denoiser's output by the layer that alone is in few bits.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    figure = Figure(figsize=(9, max(3, 0.14 * len(layers))), layout="constrained")
    axes = figure.subplots()
    rows = range(len(layers))
    for how in FEW:
        values = [cost.velocity[how] for cost in layers]
        axes.plot(values, rows, "o", color=_COLOURS[how], markersize=3, label=how)
    axes.set_yticks(rows, [cost.name for cost in layers], fontsize=5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("relative error of the velocity, this layer alone in few bits")
    axes.grid(axis="x", linewidth=0.3)
    axes.legend()
    with atomic_write(path) as temp, output_errors(path):
        figure.savefig(temp, format="png", dpi=110)


def _decibels(values: Sequence[float]) -> str:
    return "none" if not values else ", ".join(f"{value:.1f} dB" for value in values)
