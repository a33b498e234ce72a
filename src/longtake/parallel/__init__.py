"""The only user of torch.distributed: who works together, and what they say to each other."""

from longtake.parallel.team import ALL, Roles, Team, assemble, roles_of
from longtake.parallel.workers import ALONE, Workers, join, launched, leave

__all__ = [
    "ALL",
    "ALONE",
    "Roles",
    "Team",
    "Workers",
    "assemble",
    "join",
    "launched",
    "leave",
    "roles_of",
]
