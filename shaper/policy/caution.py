"""How much smaller the first tasks are where what is believed may not hold, and why."""

from __future__ import annotations

import math

from shaper.models.group import GroupBeliefs
from shaper.policy import chunksize

# The first tasks of another group, or of what another run has shown, are this much smaller than what is believed.
FIRST_SHARE = 4
# And where that other run was about other code.
_DOUBTED_SHARE = 16
# So many tasks of a group on trial may run, and its share of the workers: enough that some end soon.
ON_TRIAL = 8
# A slot that has to work for less than so many fixed costs begins with a task of at most so many.
_SMALL, _LARGE = 20.0, 8.0


def first_share(about: GroupBeliefs) -> int:
    """What to divide sizes by while beliefs are on trial."""
    return _DOUBTED_SHARE if about.doubted and about.recalled else FIRST_SHARE


def first(elements: int, left: float, about: GroupBeliefs) -> int:
    """The size of tasks on trial where tasks of so many elements are best.

    A trial costs every slot one more fixed cost a. Where that is much of what a slot has to do, tasks on trial may be
    as large as takes a few times a, but no larger than a slot's share or any that has finished; of other code they
    are small all the same.

    Args:
        left: elements to be processed, for each slot.
    """
    smaller, line = max(1, elements // first_share(about)), about.wall.line
    if line is None or line.slope <= 0 or not line.identified or about.doubted:
        return smaller
    fixed = (line.intercept + chunksize.TASK_S) / line.slope
    most = min(elements, int(_LARGE * fixed), int(about.largest_done), math.ceil(left))
    return max(smaller, most) if left < _SMALL * fixed else smaller


def reason(about: GroupBeliefs) -> str:
    """Why sizes are small, in words a user can read."""
    if about.alarms:
        return "several needed far more memory than believed"
    if not about.recalled:
        return "what another run showed does not hold"
    return "another run showed this of other code" if about.doubted else "this is what another run showed"
