"""Iterative (Sabin et al. 2006) and its improved form: conservative backfilling with allotments that grow one by one.

All jobs begin with one processor. The job that gains most from the next allotment gets it, if the average flow of the
conservative backfilling plan becomes smaller; else it keeps what it has for good.

`iterative` looks at one processor more, so a job whose table has a step does not get past it; `improved_iterative`
looks at the largest gain per processor, over any number of processors more.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np

from shaper.scheduling.backfill import Backfill
from shaper.scheduling.job import MoldableJob, Placement
from shaper.scheduling.moment import Moment

# Of a job, the number of its allotment, and that of its last: the gain, and the number of the next.
Next = Callable[[MoldableJob, int, int], tuple[float, int] | None]


def iterative(moment: Moment) -> list[Placement]:
    """Allotments grow by one processor."""
    return _grown(moment, one_more)


def improved_iterative(moment: Moment) -> list[Placement]:
    """Allotments grow to where the gain per processor is largest."""
    return _grown(moment, steepest)


def one_more(job: MoldableJob, choice: int, last: int) -> tuple[float, int] | None:
    """The gain of one processor more; None where it is no faster."""
    if choice == last or job.allotments[choice + 1] != job.allotments[choice] + 1:
        return None
    return job.negated_s[choice + 1] - job.negated_s[choice], choice + 1


def steepest(job: MoldableJob, choice: int, last: int) -> tuple[float, int] | None:
    """The largest gain per processor, and of equal ones the nearest."""
    if choice == last:
        return None
    allotments = np.asarray(job.allotments[choice : last + 1])
    negated = np.asarray(job.negated_s[choice : last + 1])
    gains = (negated[1:] - negated[0]) / (allotments[1:] - allotments[0])
    best = int(gains.argmax())
    return float(gains[best]), choice + 1 + best


def _grown(moment: Moment, next_of: Next) -> list[Placement]:
    backfill = Backfill(moment)
    jobs, choices = backfill.jobs, backfill.choices
    lasts = [job.useful(moment.limit) - 1 for job in jobs]
    heap: list[tuple[float, int, int]] = []  # least first, so gains are negated; of equal ones the first come

    def offer(place: int) -> None:
        found = next_of(jobs[place], choices[place], lasts[place])
        if found is not None:
            heappush(heap, (-found[0], place, found[1]))

    for place in range(len(jobs)):
        offer(place)
    while heap:
        _, place, choice = heappop(heap)
        if backfill.improves(place, choice):
            offer(place)
    return backfill.plan()
