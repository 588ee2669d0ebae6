"""What a task is given: the memory its own size needs, at a stated risk, within what a worker has."""

from __future__ import annotations

import math

from shaper.models.beliefs import GroupBeliefs
from shaper.policy.chunksize import limited
from shaper.policy.settings import Settings
from shaper.types import Capacity, Resources, WorkerKind

_LEAST_MIB = 64


def allocate(x: float, about: GroupBeliefs, capacity: Capacity, settings: Settings, *, merge: bool) -> Resources:
    """Return the resources for work of size x.

    Unknown memory: an equal share of the largest worker. Known: the upper estimate at the stated risk, at most a whole
    worker (or the user's cap) and, after an exhaustion at this size, more than the limit that was too small.
    """
    largest = capacity.largest
    if largest is None:
        return Resources(settings.cores, 1)
    line = about.memory.line
    share = share_mib(largest, settings)
    if line is None:
        return Resources(settings.cores, share)
    need = line.upper(x, settings.risk)
    if settings.objective == "retries":
        need = max(need, float(share))
    cap = largest.memory_mib if merge else limited(largest.memory_mib, settings)
    return Resources(settings.cores, rounded(need, cap))


def rounded(need_mib: float, cap_mib: int) -> int:
    """Round up to whole MiB, within the cap; more would cost a slot where shares are tight."""
    return min(cap_mib, max(_LEAST_MIB, math.ceil(need_mib - 1e-6)))


def share_mib(kind: WorkerKind, settings: Settings) -> int:
    """The memory of each task when a worker of this kind uses all its cores."""
    return max(1, limited(kind.memory_mib // max(1, kind.cores // settings.cores), settings))
