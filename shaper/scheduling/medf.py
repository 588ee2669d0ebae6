"""MEDF: moldable jobs, each by its deadline, in the order of deadlines, on as few processors as will do.

    symbol   meaning
    S        the stretch that every job may reach: deadline D = r + S p_1, with r its release and p_1 its serial time
    S*       the least S for which a plan is found

In the order (D, id) each job takes the smallest allotment that can end by D, at its earliest start, and keeps it.

Source: Saule, Bozdag, Catalyurek, "A Moldable Online Scheduling Algorithm and Its Application to Parallel Short
Sequence Mapping" (2009).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from shaper.scheduling.job import Placement
from shaper.scheduling.moment import Moment

# Of the time that a deadline gives: one that is met exactly is met, rounding may not decide.
_SLACK = 1e-12
_LEAST = 2.0**-1022  # the smallest normal number: a stretch to begin with, where division rounds to 0


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch for which there is a plan, and the job that stands against less."""

    stretch: float
    plan: list[Placement]
    blocking: int


def medf(moment: Moment, stretches: Sequence[float]) -> list[Placement] | int:
    """Plan with a stretch for each job; or return the number of the first job that misses its deadline."""
    jobs, counts, ages, now_s = moment.jobs, moment.counts, moment.ages_s, moment.now_s
    given = [stretch * job.serial_s for stretch, job in zip(stretches, jobs, strict=True)]
    due = [span - age for span, age in zip(given, ages, strict=True)]
    order = sorted(range(len(due)), key=due.__getitem__)  # stable, so ties are by id
    profile = moment.profile.copy()
    plan = []
    for at in order:
        job, until, count = jobs[at], due[at] + _SLACK * given[at], counts[at]
        release = -ages[at] if ages[at] < 0.0 else 0.0
        choice = bisect_left(job.negated_s, release - until, 0, count)
        while True:
            if choice == count:
                return at
            duration, processors = -job.negated_s[choice], job.allotments[choice]
            start = profile.earliest(processors, duration, release, until)
            if start is not None:
                break
            # No gap of more processors is longer than the longest of so many: go on with what would fit into that.
            choice = bisect_left(job.negated_s, -profile.longest_s * (1.0 + _SLACK), choice + 1, count)
        profile.reserve(start, duration, processors)
        plan.append(Placement(job, processors, now_s + start))
        if profile.steps > profile.patience:
            profile.sweep(min((jobs[later].least_work_s for later in order[len(plan) :]), default=0.0))
    return plan


def least_stretch(
    moment: Moment, tolerance: float, pinned: Sequence[float | None] = (), enough: Found | None = None
) -> Found:
    """Return S* by doubling and bisection, from what the most urgent job needs if it is alone with those that run.

    The specification begins as if nothing ran. No plan is lost by beginning here, and where the most urgent job gets
    what it needs one call is enough instead of twelve. But feasibility is not monotone, so where one begins may decide
    which S* is found: docs/scheduling.md.

    Args:
        tolerance: where bisection stops, as a part of S*; on an idle machine that is far below 1, in a queue far above.
        pinned: stretches that are given already, by number of the job; None for the others.
        enough: what is known to be found, so that there is nothing to double.
    """
    pinned = pinned or [None] * len(moment.jobs)

    def tried(stretch: float) -> list[Placement] | int:
        return medf(moment, [stretch if pin is None else pin for pin in pinned])

    least = [
        (age + end) / job.serial_s if pin is None else 0.0
        for job, age, end, pin in zip(moment.jobs, moment.ages_s, moment.soonest_s, pinned, strict=True)
    ]
    blocking = least.index(max(least))
    high = max(least[blocking], _LEAST)
    found = tried(high)
    if not isinstance(found, int):
        return Found(high, found, blocking)
    low = high
    if enough is None:
        while isinstance(found, int):
            low, blocking = high, found
            high *= 2.0
            found = tried(high)
        best = found
    else:
        blocking, high, best = found, enough.stretch, enough.plan
    while high - low > tolerance * low:
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        found = tried(middle)
        if isinstance(found, int):
            low, blocking = middle, found
        else:
            high, best = middle, found
    return Found(high, best, blocking)
