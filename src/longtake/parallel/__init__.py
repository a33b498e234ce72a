"""The only user of torch.distributed: who works together, and what they say to each other."""

from longtake.parallel.launch import LIFELINE, LOST_CODE, Ending, hold_on, run_together
from longtake.parallel.team import ALL, ONE, Roles, Team, assemble, part_of, roles_of
from longtake.parallel.workers import ALONE, Workers, join, launched, leave, own_device

__all__ = [
    "ALL",
    "ALONE",
    "LIFELINE",
    "LOST_CODE",
    "ONE",
    "Ending",
    "Roles",
    "Team",
    "Workers",
    "assemble",
    "hold_on",
    "join",
    "launched",
    "leave",
    "own_device",
    "part_of",
    "roles_of",
    "run_together",
]
