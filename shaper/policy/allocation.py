"""What a task is given: the memory its own size needs, at a stated risk, within what a worker has."""

from __future__ import annotations

import math

from shaper.models.group import GroupBeliefs
from shaper.policy.chunksize import limited, targeted
from shaper.policy.settings import Settings
from shaper.types import Capacity, Resources

_LEAST_MIB = 64
_SPARE = 2.0
_FAR = 2.0
_MERGE_FACTOR = 4.0


def allocate(x: float, about: GroupBeliefs, capacity: Capacity, settings: Settings, *, merge: bool) -> Resources:
    """Return the resources for work of size x.

    Unknown memory, or a group that has finished nothing yet: an equal share of the largest worker. Known: the upper
    estimate at the stated risk, at most a whole worker or the user's cap; and while that is less than the equal share,
    up to `_SPARE` times as much, because memory that no other task could use insures for nothing.
    """
    largest = capacity.largest
    if largest is None:
        return Resources(settings.cores, 1)
    line = about.memory.line
    if line is None:
        return Resources(settings.cores, _share_mib(capacity, settings, 0.0))
    need = line.upper(x, settings.risk)
    share = targeted(_share_mib(capacity, settings, need), settings)
    if merge and x > _FAR * about.largest_done:
        # Two results are held at a time; what they take beside their pickled size is known better than a line
        # through merges of other sizes.
        need = min(need, line.floor + _MERGE_FACTOR * x / 1024)
    if "own-size" in settings.without and not merge:
        need = max(need, about.most_mib)
    if settings.objective == "retries" or about.done == 0:
        need = max(need, float(share))
    elif settings.objective == "throughput" and "spare" not in settings.without:
        need = max(need, min(float(share), _SPARE * need))
    cap = largest.memory_mib if merge else limited(largest.memory_mib, settings)
    return Resources(settings.cores, rounded(need, cap))


def rounded(need_mib: float, cap_mib: int) -> int:
    """Round up to whole MiB, within the cap; more would cost a slot where shares are tight."""
    return min(cap_mib, max(_LEAST_MIB, math.ceil(need_mib - 1e-6)))


def _share_mib(capacity: Capacity, settings: Settings, need_mib: float) -> int:
    """The memory of each task when all cores of a worker are used: of the kind with the most slots that has the need.

    What is more than that would keep tasks from the other workers.
    """
    slots: dict[int, int] = {}
    for kind in capacity.kinds:
        side_by_side = max(1, kind.cores // settings.cores)
        share = max(1, limited(kind.memory_mib // side_by_side, settings))
        slots[share] = slots.get(share, 0) + side_by_side * kind.count
    enough = {share: count for share, count in slots.items() if share >= need_mib} or slots
    return max(enough, key=lambda share: (enough[share], -share))
