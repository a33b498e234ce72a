"""A take from one rollout: chunk after chunk on a state that does not grow."""

from longtake.rollout.cues import check_cues, faded, later_seeds, texts, told_before
from longtake.rollout.film import Decoded, film, replay
from longtake.rollout.grid import Grid
from longtake.rollout.numerics import numerics_hash, processor_of
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.rollout.take import Committed, Step, Take

__all__ = [
    "Committed",
    "Decoded",
    "Grid",
    "Identity",
    "Snapshot",
    "Step",
    "Take",
    "check_cues",
    "faded",
    "film",
    "later_seeds",
    "load_snapshot",
    "numerics_hash",
    "processor_of",
    "replay",
    "save_snapshot",
    "texts",
    "told_before",
]
