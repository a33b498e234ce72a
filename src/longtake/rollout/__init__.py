"""A take from one rollout: chunk after chunk on a state that does not grow."""

from longtake.rollout.film import Decoded, film
from longtake.rollout.grid import Grid
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
    "film",
    "load_snapshot",
    "save_snapshot",
]
