"""What is planned at one moment: the jobs that wait, and the processors that are free from then on."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

from shaper.errors import BadInput
from shaper.scheduling.checks import number, whole
from shaper.scheduling.job import MoldableJob, Placement
from shaper.scheduling.profile import Profile

# A job that has passed its predicted end is taken to need this part of its elapsed time more.
_OVERDUE = 0.2


@dataclass(frozen=True, eq=False)
class Moment:
    """Jobs that wait, and those that run; lists are in the order of the waiting jobs, by id.

    Args:
        cap: the most processors that one job may get; None for the machine's.

    Raises:
        BadInput: a number that cannot be used, two jobs of the same id, waiting or running, or a running job on
            processors for which it has no run time.
    """

    jobs: Sequence[MoldableJob]
    running: Sequence[Placement]
    processors: int
    now_s: float
    cap: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "processors", whole(self.processors, "processors"))
        object.__setattr__(self, "cap", None if self.cap is None else whole(self.cap, "cap"))
        object.__setattr__(self, "now_s", number(self.now_s, "now_s"))
        running = list(self.running)
        try:
            jobs = sorted(self.jobs, key=attrgetter("id"))
            ids = [*[job.id for job in jobs], *[one.job.id for one in running]]
        except TypeError as error:
            raise BadInput("ids of jobs must be all numbers or all strings: ties are broken by their order") from error
        except AttributeError as error:
            raise BadInput(f"jobs must be MoldableJobs, and what runs Placements: {error}") from error
        if len(set(ids)) < len(ids):
            raise BadInput(f"two jobs have the id {next(name for name, times in Counter(ids).items() if times > 1)!r}")
        for one in running:
            if whole(one.processors, "processors of a running job") > len(one.job.times):
                raise BadInput(
                    f"running job {one.job.id!r} holds {one.processors!r} processors: "
                    f"that must be from 1 to {len(one.job.times)}, for which it has run times"
                )
            number(one.start_s, "start_s of a running job")
        object.__setattr__(self, "jobs", jobs)
        object.__setattr__(self, "running", running)

    @cached_property
    def limit(self) -> int:
        """The most processors that one job may get."""
        return min(self.processors, self.cap or self.processors)

    @cached_property
    def ages_s(self) -> list[float]:
        """Since when each has waited; negative for one that is still to come."""
        return [self.now_s - job.release_s for job in self.jobs]

    @cached_property
    def counts(self) -> list[int]:
        """How many useful allotments of each are within the limit."""
        return [job.useful(self.limit) for job in self.jobs]

    @cached_property
    def soonest_s(self) -> list[float]:
        """How soon each could end if it were the only one that waits, from now."""
        return [
            _soonest_s(job, count, max(0.0, -age), self.profile)
            for job, count, age in zip(self.jobs, self.counts, self.ages_s, strict=True)
        ]

    @cached_property
    def free(self) -> int:
        """Processors that no running job holds; less than none where the machine has shrunk."""
        return self.processors - sum(one.processors for one in self.running)

    @cached_property
    def profile(self) -> Profile:
        """Free processors from now on, of the running jobs alone."""
        return Profile.of(self.processors, [(remaining_s(one, self.now_s), one.processors) for one in self.running])


def _soonest_s(job: MoldableJob, count: int, release_s: float, profile: Profile) -> float:
    """The least end on a profile that only rises, with the first `count` of the useful allotments."""
    soonest_s, shortest_s, free = math.inf, -job.negated_s[count - 1], 0
    for time, change in zip(profile.times, profile.changes, strict=True):
        start_s = max(time, release_s)
        if start_s + shortest_s >= soonest_s:
            break
        free += change
        if free > 0:
            soonest_s = min(soonest_s, start_s - job.negated_s[bisect_right(job.allotments, free, 0, count) - 1])
    return soonest_s


def remaining_s(running: Placement, now_s: float) -> float:
    """How long a running job still holds its processors, as predicted; an overdue one a fifth of its time so far."""
    left_s = running.end_s - now_s
    return left_s if left_s > 0 else max(_OVERDUE * (now_s - running.start_s), math.ulp(now_s))
