"""The first tasks of a stage, of which nobody knows anything yet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shaper.models.group import GroupBeliefs
from shaper.policy.settings import Settings
from shaper.types import Capacity, GroupBacklog, Shape
from shaper.units import show_count

# Probes are this small whatever the dataset, and at most this share of it: they cost next to nothing.
_ELEMENTS, _SHARE = 1024, 512
# Where cost counts they may be as large as makes the whole dearer by this part, but no larger part of it than one in so
# many.
_DEARER, _LARGE = 0.01, 32
SPREAD = (1, 4, 16)
# Where a slot's share of the work is no more than so many such probes, idle slots begin on it while they run.
_FILLS = 16


def shapes(
    group: GroupBacklog, about: GroupBeliefs, capacity: Capacity, left: int, settings: Settings, *, durable: bool
) -> list[Shape]:
    """A few tasks of spread sizes; smaller ones while none has finished.

    Args:
        group: to be probed.
        about: what is known of it: nothing has finished.
        capacity: of the workers.
        left: elements of its stage that are not in flight.
        settings: the user's.
        durable: whether results come back at once.
    """
    cores = max(1, capacity.cores)
    base = max(1, min(_ELEMENTS, left // _parts(cores, settings)))
    if settings.first_guess is not None:
        base = min(base, settings.first_guess)
    reason = "a probe: nothing is known yet"
    if about.smallest_exhausted is not None:
        base = max(1, min(base, int(about.smallest_exhausted) // 8))
        reason = f"a smaller probe: {show_count(about.smallest_exhausted)} elements did not fit"
    base = max(base, settings.min_chunksize)
    if "probes" in settings.without and about.exhausted == 0:
        guess = max(settings.first_guess or 64 * base, settings.min_chunksize)
        reason = "a guess: nothing is known yet"
        return [Shape(group.stage, group.group, None, guess, capacity.cores, reason, durable=durable)]
    if left <= base * cores:
        # No size to be found: each task is as small as it can be, and the workers hold all of them.
        tasks = group.in_flight + group.waiting + -(-group.pending_elements // base)
        return [Shape(group.stage, group.group, None, base, tasks, reason, durable=durable)]
    spread: Sequence[int] = SPREAD if about.exhausted == 0 else SPREAD[:1]
    if cores < len(spread):
        spread = (SPREAD[0], SPREAD[-1])  # sizes far apart tell most
    share = max(base, left // cores)  # a probe with more than that would be waited for
    return [
        Shape(group.stage, group.group, None, min(base * factor, share), count, reason, durable=durable)
        for count, factor in enumerate(spread[:cores], start=1)
    ]


def _parts(cores: int, settings: Settings) -> int:
    """Of how many parts of the work the first probe is one.

    Where cost counts it is alone, and processes its part at up to sqrt(cores) times the cost.
    """
    if settings.goal == "makespan":
        return _SHARE * cores
    dearer = math.sqrt(cores) - 1.0
    return round(min(_SHARE, max(_LARGE, dearer / _DEARER)))


def worth_a_wave(probe: Shape, left: int, capacity: Capacity) -> bool:
    """Whether a wave of such tasks is a part of the work that counts: waiting would lose more than probes tell."""
    return left <= _FILLS * probe.elements * capacity.cores
