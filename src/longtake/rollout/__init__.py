"""A take from one rollout: chunk after chunk on a state that does not grow."""

from longtake.rollout.grid import Grid
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.rollout.take import Committed, Step, Take

__all__ = [
    "Committed",
    "Grid",
    "Identity",
    "Snapshot",
    "Step",
    "Take",
    "load_snapshot",
    "save_snapshot",
]
