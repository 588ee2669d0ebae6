"""When workers are started and let go: between two bounds, with what a run wants.

Workers are started as soon as they are wanted, unless what is left would be over before they have come; those that
wait in a queue count as coming. They are let go only once fewer were wanted for a while, and those that run only after
as long as it takes to get one. So what is wanted may swing: the number of workers stays at the most of lately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shaper.errors import BadInput
from shaper.policy.wanted import Wanted
from shaper.units import show_seconds

# No worker is held for longer than this, however long it takes to get one.
_HOLD_MOST_S = 600.0
# After workers that ended at once no more are started for so long, twice as long each time.
_PAUSE_S, _PAUSE_MOST_S = 5.0, 600.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Keep at least and at most so many workers; let some go once fewer were wanted for `hold_s`."""

    least: int
    most: int
    hold_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise BadInput(f"--min and --max are 0 <= MIN <= MAX and MAX at least 1, got {self.least} and {self.most}")


@dataclass(frozen=True, slots=True)
class Need:
    """What a run wants, in workers of one size.

    Args:
        workers: that all tasks that could run now would fill.
        work_s: worker time that is left altogether; None where it is not known.
        reason: in words.
    """

    workers: int
    work_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """The workers as they are.

    Args:
        running, queued: those that run, and those that wait in a batch system's queue.
        coming_s: how long it takes from starting a worker until it works.
        failed: those that have ended, since the last look, right after they began.
        proven: whether one has run for longer than that.
    """

    now_s: float
    running: int
    queued: int = 0
    coming_s: float = 0.0
    failed: int = 0
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept from one decision to the next.

    Args:
        wanted: when how many were wanted, within bounds, as long as that matters.
        pauses: how often in a row starting was put off because workers ended at once.
        not_before_s: when workers may be started again.
    """

    wanted: tuple[tuple[float, int], ...] = ()
    pauses: int = 0
    not_before_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    Args:
        wanted: workers, within the bounds.
        start: so many more.
        cancel: so many of those that wait in a queue.
        keep: at most so many running ones: idle ones beyond may go; None where all may stay.
    """

    wanted: int
    start: int
    cancel: int
    keep: int | None
    reason: str


def need(wanted: Wanted, cores: int, memory_mib: int) -> Need:
    """Return how many workers of a size what is wanted fills; a task larger than that wants a single one.

    With workers of its own size connected a policy cuts smaller; without any it cannot know that there are such.
    """
    workers, tasks, reason = 0.0, 0, wanted.reason
    for row in wanted.tasks:
        slots = min(cores // row.cores, memory_mib // row.memory_mib if row.memory_mib else cores)
        workers += row.count / slots if slots else 1.0
        tasks += row.count if slots else 1
        if not slots:
            reason = f"{reason}; tasks of {row.cores} cores and {row.memory_mib} MiB do not fit such workers"
    filled = math.ceil(workers - 1e-9)
    work_s = wanted.work_s * workers / tasks if wanted.work_s is not None and tasks else None
    return Need(filled, work_s, reason)


def decide(need: Need | None, seen: Seen, bounds: Bounds, memory: Memory) -> tuple[Step, Memory]:
    """Return what to do, and what to remember; without a need only the lower bound is kept up."""
    here = seen.running + seen.queued
    useful, reason = (need.workers, need.reason) if need is not None else (here, "the run says nothing")
    if useful > bounds.most:
        useful, reason = bounds.most, f"{reason}; at most {bounds.most}"
    in_time = _in_time(need, seen) if need is not None else None
    if in_time is not None and useful > max(in_time, here):
        useful = max(in_time, here)
        reason += f"; no more would come in time, {show_seconds(seen.coming_s)} from now"
    target = max(useful, bounds.least)
    hold_s = max(bounds.hold_s, min(seen.coming_s, _HOLD_MOST_S))
    memory = _paused(_with(memory, seen.now_s, target, hold_s), seen)
    if here < target:
        if seen.now_s < memory.not_before_s:
            left = show_seconds(memory.not_before_s - seen.now_s)
            why = f"{reason}; workers ended as soon as they began, the next are tried in {left}"
            return Step(target, 0, 0, None, why), memory
        return Step(target, target - here, 0, None, reason), memory
    cancel = min(seen.queued, max(0, here - _most(memory, seen.now_s - bounds.hold_s)))
    level = _most(memory, seen.now_s - hold_s)
    # Before the first window is over nothing is known of its beginning.
    known = memory.wanted[0][0] <= seen.now_s - hold_s
    return Step(target, 0, cancel, level if known and seen.running > level else None, reason), memory


def _with(memory: Memory, now_s: float, target: int, hold_s: float) -> Memory:
    """Note a change; of what is older than the window only what held at its beginning is kept."""
    past = list(memory.wanted)
    if not past or past[-1][1] != target:
        past.append((now_s, target))
    while len(past) > 1 and past[1][0] <= now_s - hold_s:
        del past[0]
    return replace(memory, wanted=tuple(past))


def _most(memory: Memory, since_s: float) -> int:
    """The most that was wanted since then, what held at that time included."""
    later = [number for at_s, number in memory.wanted if at_s > since_s]
    before = [number for at_s, number in memory.wanted if at_s <= since_s]
    return max([*before[-1:], *later])


def _in_time(need: Need, seen: Seen) -> int | None:
    """So many workers would each still have as much to do as it takes to get one, once they have come."""
    if need.work_s is None or seen.coming_s <= 0.0:
        return None
    return max(0, math.floor((need.work_s - seen.running * seen.coming_s) / seen.coming_s))


def _paused(memory: Memory, seen: Seen) -> Memory:
    if seen.failed:
        pause_s = min(_PAUSE_MOST_S, _PAUSE_S * 2.0**memory.pauses)
        return replace(memory, pauses=memory.pauses + 1, not_before_s=seen.now_s + pause_s)
    return replace(memory, pauses=0) if seen.proven and memory.pauses else memory
