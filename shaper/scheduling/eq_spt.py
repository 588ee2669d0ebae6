"""EQ-SPT: equal shares, shortest first. It knows the order of the jobs by serial time, and little else of them."""

from __future__ import annotations

from operator import attrgetter

from shaper.scheduling.job import Placement
from shaper.scheduling.moment import Moment


def eq_spt(moment: Moment) -> list[Placement]:
    """Start what fits now, each on its largest useful allotment within an equal share of the machine."""
    now_s = moment.now_s
    waiting = sorted([job for job in moment.jobs if job.release_s <= now_s], key=attrgetter("serial_s"))
    free = moment.free
    share = min(max(1, moment.processors // (len(waiting) + len(moment.running) or 1)), moment.limit)
    plan = []
    for job in waiting:
        if free < 1:
            break
        processors = job.largest_useful(min(share, free))
        plan.append(Placement(job, processors, now_s))
        free -= processors
    return plan
