"""How large tasks should be, together with how many a worker then holds: elements per second of the whole machine.

symbol   meaning
n        chunksize, elements
k        tasks side by side on one worker; each may use at most memory / k
w(n)     time a slot is held by a task of n elements (fixed cost included)
d        time the manager needs to start one task
X        elements per second that the data source gives
h        losses per second of a slot: workers that leave take their tasks with them
W(w)     time it takes to get through w seconds of work when a loss begins it anew: (exp(h w) - 1) / h

rate(n) = n min(sum over workers of k(n) / W(w(n)), 1 / d, X / n)

Where the source is the limit, w(n) is the time without waiting for it, and n so large that at most half of the observed
time is the same for every size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from shaper.models.group import GroupBeliefs
from shaper.models.line import Line
from shaper.policy.settings import Settings
from shaper.types import Capacity
from shaper.units import show_count, show_mib, show_seconds

# A chunk may be this much larger than the largest that ever finished: lines bend where nobody has looked.
GROWTH = 8.0
# Stop growing where this share of the best rate is reached: smaller tasks lose less, and end more evenly.
_ENOUGH = {"makespan": 0.992, "cost": 0.998}
# What a task costs in the manager and the journal besides the time it holds a slot; keeps tasks that seem free few.
TASK_S = 0.01
# Where one element needs more than the target, tasks may need this much more than one element.
_ABOVE_ONE = 1.25
# Tasks that could take so much more than the data source gives are held, to keep it busy.
_AHEAD = 2.0
# A source that gives less than this share of what it is known to give is idle in part.
_BUSY = 0.9
# So many standard errors below its estimate a slope surely is not.
_SURE = 2.0
# The last tasks are cut so that what is left makes this many rounds.
_ROUNDS = 2.7
# Where so many have finished and a size without the doubts promised so much more, one that many times larger is tried.
_STUCK, _WORTH_A_LOOK, _STEP = 16, 1.1, 4.0
CURIOUS = "larger, to see what larger tasks need"
_HALVINGS = 30
# The slowest of many tasks ends about this many standard deviations late.
_LATE = 2.5
# Where each slot has more to do than so many fixed costs it may be cut, however little tasks vary.
_LONG = 20.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What slows tasks down besides their own work: what one dispatch takes, and how often slots are lost."""

    dispatch_s: float = 0.0
    losses_per_s: float = 0.0
    source_per_s: float | None = None

    def lasting(self, wall_s: float) -> float:
        """The expected slot time until one attempt of `wall_s` has not been lost."""
        lost = min(self.losses_per_s * wall_s, 30.0)
        return math.expm1(lost) / self.losses_per_s if lost > 1e-9 else wall_s


@dataclass(frozen=True, slots=True)
class Size:
    """A chunksize, how many such tasks the workers hold, and why."""

    elements: int
    slots: int
    reason: str
    wall: Line | None = None  # the time of tasks


# Where an engine does not measure memory, it is no reason to cut smaller.
_UNMEASURED = Line(floor=1.0, intercept=1.0, slope=0.0, sigma=0.0, n=0.0)


def best(about: GroupBeliefs, capacity: Capacity, settings: Settings, pace: Pace) -> Size | None:
    """Return the size with the highest rate on these workers; None where nothing has finished yet.

    Sizes are tried for every number of tasks side by side on every kind of worker: for each, the largest that memory
    allows with the stated risk. One size serves all kinds; its rate counts what every kind then holds.
    """
    wall = real = about.wall.line
    if wall is None or real is None:
        return None
    given = fed(about, settings)
    if given is not None:
        wall = about.unhindered or wall
        pace = replace(pace, source_per_s=given)
    memory = about.memory.line or _UNMEASURED
    ceiling, bound = _ceiling(about, real, settings)
    chosen = _fastest(memory, wall, capacity, settings, pace, ceiling, bound)
    if chosen is None:
        return None
    larger = _larger(chosen, about, memory, wall, capacity, settings, pace, ceiling)
    if larger is not None and larger >= settings.min_chunksize:
        return Size(larger, max(1, slots(larger, memory, capacity, settings)), CURIOUS, real)
    rate, most, why = chosen
    n = most
    enough = _enough(n, rate, memory, wall, capacity, settings, pace) if "enough" not in settings.without else n
    if enough < 0.9 * n:
        n = enough
        fixed = wall.intercept / max(wall.median(n), 1e-9)
        why = f"fixed cost: {show_seconds(wall.intercept)} of each task, {fixed:.0%} at this size"
    if given is not None and n < (worth := min(_worth_its_wait(about, wall, real), most)):
        n, why = worth, "waiting: as long for the source, however little a task asks it for"
    n = max(float(settings.min_chunksize), n)
    elements = max(1, int(n))
    held = max(1, slots(elements, memory, capacity, settings))
    if given is not None and elements * held / wall.median(elements) > _AHEAD * given:
        fitting, held = held, math.ceil(_AHEAD * given * wall.median(elements) / elements)
        if about.given_now_per_s < _BUSY * given:
            # It is idle in part: by Little's law so many keep it busy as long as they take now.
            held = max(held, math.ceil(given * max(about.recent_held_s, real.median(elements)) / elements))
        held = max(1, min(held, fitting))
        why = f"bandwidth: the source gives about {show_count(given)} elements per second, for {held} tasks at once"
    return Size(elements, held, why, real)


def _worth_its_wait(about: GroupBeliefs, alone: Line, real: Line) -> float:
    """The size at which half of the time is the same for every size, what tasks wait for the source included.

    How long a task waits that asks for little is up to the source: it may serve requests, not bytes. Where the observed
    line leaves open how much of the wait grows with the size, larger tasks than the recent ones show it.
    """
    half = 0.0
    if real.identified:
        half = real.intercept / real.slope if real.slope > 0 else math.inf
    if alone.slope <= 0 or not about.waits:
        return half
    surely = real.slope - _SURE * math.sqrt(max(0.0, real.covariance[2])) if real.identified else 0.0
    open_half = about.recent_held_s / max(alone.slope, surely) - about.recent_x
    return max(half, min(_STEP * about.recent_x, open_half))


def _ceiling(about: GroupBeliefs, wall: Line, settings: Settings) -> tuple[float, str]:
    """The largest size to be tried, whatever memory there is, and why."""
    ceiling = max(1.0, GROWTH * about.largest_done)
    bound = f"growing: at most {GROWTH:.0f} times the largest that finished"
    if settings.target_wall_s is None:
        return ceiling, bound
    fitting = wall.largest(settings.target_wall_s, 0.5, ceiling)
    why = f"run time: {show_seconds(settings.target_wall_s)} per task"
    if fitting == 0.0:
        one_s = wall.median(1.0)
        fitting = wall.largest(_ABOVE_ONE * one_s, 0.5, ceiling)
        why = f"run time: the target cannot be met, one element takes {show_seconds(one_s)}"
    return (max(1.0, fitting), why) if fitting < ceiling else (ceiling, bound)


def largest(about: GroupBeliefs, capacity: Capacity, settings: Settings, at_once: int) -> int:
    """The largest size of which the workers hold so many tasks at once, or as many as of any size."""
    memory, wall = about.memory.line or _UNMEASURED, about.wall.line
    if wall is None:
        return 1
    low, high = 1.0, _ceiling(about, wall, settings)[0]
    if capacity.largest is not None and not about.memory.guessed:
        # Of what is larger than any worker `slots` would hold one.
        high = max(1.0, memory.largest(limited(capacity.largest.memory_mib, settings), settings.risk, high))
    at_once = min(at_once, slots(low, memory, capacity, settings))
    if slots(high, memory, capacity, settings) >= at_once:
        return int(high)
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slots(middle, memory, capacity, settings) >= at_once else (low, middle)
    return int(low)


def fed(about: GroupBeliefs, settings: Settings) -> float | None:
    """Elements per second that the data source gives; None where tasks are not known to wait for it."""
    return about.source_per_s if "bandwidth" not in settings.without and settings.cores == 1 else None


def _fastest(
    memory: Line, wall: Line, capacity: Capacity, settings: Settings, pace: Pace, ceiling: float, bound: str
) -> tuple[float, float, str] | None:
    """The rate, the size and the reason of the size with the highest rate."""
    chosen: tuple[float, float, str] | None = None
    for n, why in _candidates(memory, wall, capacity, settings, ceiling, bound):
        rate = _rate(n, memory, wall, capacity, settings, pace)
        if chosen is None or rate > chosen[0] * 1.001:
            chosen = (rate, n, why)
    if chosen is None or pace.losses_per_s <= 0.0:
        return chosen
    # Long tasks are lost more often than they are worth: the best size lies below what memory allows.
    rate, n, why = chosen
    while n > 2.0:
        n /= 2.0
        slower = _rate(n, memory, wall, capacity, settings, pace)
        if slower > rate:
            rate, chosen = slower, (slower, n, f"losses: one in {show_seconds(1.0 / pace.losses_per_s)} of a slot")
    return chosen


def _larger(
    chosen: tuple[float, float, str],
    about: GroupBeliefs,
    memory: Line,
    wall: Line,
    capacity: Capacity,
    settings: Settings,
    pace: Pace,
    ceiling: float,
) -> int | None:
    """A larger size where only ignorance speaks against it: small tasks alone never show what larger ones need.

    The memory that such a task is given is still what it may need at the stated risk.
    """
    if about.done < _STUCK or capacity.largest is None or "curiosity" in settings.without:
        return None
    rate, n, _ = chosen
    surer = replace(memory, covariance=(0.0, 0.0, 0.0))
    if about.memory.guessed:
        surer = replace(surer, intercept=memory.median(n), slope=0.0)
    if not wall.identified:
        wall = replace(wall, intercept=wall.median(n), slope=0.0)
    hoped = _fastest(surer, wall, capacity, settings, pace, ceiling, "")
    if hoped is None or hoped[0] < _WORTH_A_LOOK * rate or hoped[1] < 2.0 * n:
        return None
    whole = limited(capacity.largest.memory_mib, settings)
    larger = min(_STEP * n, hoped[1])
    if memory.upper(1.0, settings.risk) <= whole:
        larger = min(larger, memory.largest(whole, settings.risk, ceiling))
    return int(larger) if larger >= 2.0 * n else None


def _candidates(
    memory: Line, wall: Line, capacity: Capacity, settings: Settings, ceiling: float, bound: str
) -> list[tuple[float, str]]:
    found = []
    for kind in capacity.kinds:
        if not kind.count:
            continue
        most = max(1, kind.cores // settings.cores)
        for k in range(most, 0, -1):
            share = targeted(kind.memory_mib // k, settings)
            n = memory.largest(share, settings.risk, ceiling)
            if n >= 1.0:
                if n >= ceiling:
                    found.append((ceiling, bound))
                    break
                per_worker = f"{k} tasks of {show_mib(share)}" if k > 1 else f"one task of {show_mib(share)}"
                found.append((n, f"memory: {per_worker} on a worker, risk {settings.risk:.1%}"))
            if found and "packing" in settings.without:
                break
            if k > 1 and share == targeted(kind.memory_mib // (k - 1), settings):
                break
    return found or _least_bad(memory, wall, capacity, settings, ceiling)


def _least_bad(
    memory: Line, wall: Line, capacity: Capacity, settings: Settings, ceiling: float
) -> list[tuple[float, str]]:
    """Where not even one element meets the risk: the size that gets most done, the attempts that die included.

    Such a task gets a whole worker. Where memory hardly depends on the size, cutting smaller would only repeat the risk
    for every piece. A target that is less than one element needs gives way likewise: to a little more than that need.
    """
    largest = capacity.largest
    if largest is None:
        return []
    whole = limited(largest.memory_mib, settings)
    if memory.upper(1.0, settings.risk) <= whole:
        needed = memory.upper(1.0, settings.risk)
        n = memory.largest(_ABOVE_ONE * needed, settings.risk, ceiling)
        return [(n, f"memory: the target cannot be met, one element needs {show_mib(needed)}")]
    chosen = (0.0, 1.0, 1.0)
    n = 1.0
    while n <= ceiling:
        risk = memory.risk(n, whole)
        rate = n * (1.0 - risk) / (wall.median(n) + TASK_S)
        if rate > chosen[0]:
            chosen = (rate, n, risk)
        n *= 2.0
    _, n, risk = chosen
    return [(n, f"memory: this needs more than {show_mib(whole)} with a risk of {risk:.0%}, but so do smaller ones")]


def limited(share_mib: int, settings: Settings) -> int:
    """Apply the user's cap to a worker's share of memory."""
    return share_mib if settings.cap_mib is None else min(share_mib, settings.cap_mib)


def targeted(share_mib: int, settings: Settings) -> int:
    """Apply the user's cap and target. A target is a wish: it bounds sizes, never what a task is given."""
    share_mib = limited(share_mib, settings)
    return share_mib if settings.target_memory_mib is None else min(share_mib, settings.target_memory_mib)


def slots(elements: float, memory: Line, capacity: Capacity, settings: Settings) -> int:
    """How many tasks of this size the connected workers hold at once; no task is given more than the largest has."""
    most = max((kind.memory_mib for kind in capacity.kinds), default=1)
    need = max(1.0, min(memory.upper(elements, settings.risk), limited(most, settings)))
    return sum(
        kind.count * min(kind.cores // settings.cores, int(kind.memory_mib / need + 1e-9)) for kind in capacity.kinds
    )


def _rate(n: float, memory: Line, wall: Line, capacity: Capacity, settings: Settings, pace: Pace) -> float:
    per_s = slots(n, memory, capacity, settings) / pace.lasting(wall.median(n) + TASK_S)
    if pace.dispatch_s > 0:
        per_s = min(per_s, 1.0 / pace.dispatch_s)
    if pace.source_per_s is not None:
        per_s = min(per_s, _AHEAD * pace.source_per_s / n)
    return n * per_s


def _enough(
    n: float, rate: float, memory: Line, wall: Line, capacity: Capacity, settings: Settings, pace: Pace
) -> float:
    """The smallest size whose rate is nearly the best one."""
    low, high = 0.0, math.log(max(n, 1.0))
    wanted = _ENOUGH[settings.goal] * rate
    for _ in range(20):
        middle = (low + high) / 2
        if _rate(math.exp(middle), memory, wall, capacity, settings, pace) >= wanted:
            high = middle
        else:
            low = middle
    return math.exp(high)


def tail(size: Size, left: float, share_each: float, settings: Settings, dispatch_s: float) -> Size:
    """Shrink the size as work runs out, so that the workers end together.

    Factoring (Hummel et al. 1992): what is left makes `_ROUNDS` rounds over all slots. Halving the last tasks costs
    one more fixed cost a and saves `late` standard deviations s of a task of half the length, so shrinking ends
    where a + b n = a / (late s), but for a larger even share of all slots. Nor are tasks shorter than it takes to
    dispatch one to every slot. Where slots are idle, none stays so to save fixed costs.

    Args:
        size: the best while there is much to do.
        left: elements that are not done yet, those of tasks in flight included.
        share_each: of `left`, for each slot that is idle or works on it.
        settings: the user's.
        dispatch_s: what one dispatch takes.
    """
    if settings.goal == "cost" or left <= 0 or "tail" in settings.without:
        return size
    wall = size.wall
    noise = wall.noise(size.elements) if wall is not None else 0.2
    share = left / (size.slots * (1.0 + _ROUNDS * noise))
    if share >= size.elements:
        return size
    least = 1.0
    if wall is not None and wall.identified:
        even = max(left / size.slots, shortest(size.elements, wall))
        least = min(shortest(size.elements, wall, late(size.slots), _LONG), even, share_each)
    if wall is not None and wall.identified and wall.slope > 0:
        # Fewer than one task for every slot: what is left takes d for each, and the time of the last.
        serial = min((size.slots * dispatch_s - wall.intercept) / wall.slope, math.sqrt(left * dispatch_s / wall.slope))
        least = max(least, serial)
    n = max(share, least, float(settings.min_chunksize), 1.0)
    if n >= size.elements:
        return size
    reason = f"the tail: {show_count(round(left))} elements left for {size.slots} slots"
    return Size(max(1, math.ceil(n)), size.slots, reason)


def even_share(size: Size, left: float, idle: int, busy: int) -> float:
    """What each slot gets where some are idle and no more others work on the same; inf where more do.

    While as many work on it, what would take less time than its fixed cost is not cut further: how much those have
    still to do is not known so well.
    """
    if idle < max(1, busy):
        return math.inf
    share = left / min(size.slots, idle + busy)
    if busy < idle or size.wall is None or size.wall.slope <= 0:
        return share
    return max(share, (size.wall.intercept + TASK_S) / size.wall.slope)


def late(slots: int) -> float:
    """How many standard deviations the slowest of so many tasks ends late: Blom (1958), up to `_LATE`."""
    return min(_LATE, max(0.0, NormalDist().inv_cdf((slots - 0.375) / (slots + 0.25))))


def shortest(elements: float, wall: Line, deviations: float = _LATE, most: float = 8.0) -> float:
    """The size below which another fixed cost is worth more than ending more evenly, at most so many times it."""
    worth = min(most, max(0.25, 1.0 / max(deviations * wall.noise(elements), 1e-9) - 1.0))
    return worth * (wall.intercept + TASK_S) / wall.slope if wall.slope > 0 else elements
