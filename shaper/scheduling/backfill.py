"""Conservative backfilling: first come, first served, each at the earliest start that delays nobody before it."""

from __future__ import annotations

from itertools import accumulate
from operator import attrgetter

from shaper.scheduling.job import Placement
from shaper.scheduling.moment import Moment

_INFINITE = float("inf")
_SMALLER = 1.0 - 1e-12  # what rounding may make of a flow that stayed the same
_KEPT = 64  # profiles at most that are kept along the queue, to go on from where an allotment changes


class Backfill:
    """A plan of conservative backfilling whose allotments may change, one at a time.

    Attributes:
        jobs: first come first.
        choices: which of its useful allotments each has.
    """

    def __init__(self, moment: Moment) -> None:
        self.now_s = moment.now_s
        self.jobs = sorted(moment.jobs, key=attrgetter("release_s"))  # stable, so ties are by id
        self.choices = [0] * len(self.jobs)
        self._spans_s = [job.times[0] for job in self.jobs]
        self._releases_s = [max(0.0, job.release_s - self.now_s) for job in self.jobs]
        self._least_work_s = [*list(accumulate((job.least_work_s for job in reversed(self.jobs)), min))[::-1], 0.0]
        self._starts_s: list[float] = []
        self._every = 1 + len(self.jobs) // _KEPT
        self._kept = [moment.profile]
        self._total_s = _INFINITE
        self._place(0)

    def improves(self, place: int, choice: int) -> bool:
        """Give a job another allotment if the average flow becomes smaller for it."""
        before = self.choices[place], self._spans_s[place]
        self.choices[place], self._spans_s[place] = choice, -self.jobs[place].negated_s[choice]
        if self._place(place):
            return True
        self.choices[place], self._spans_s[place] = before
        return False

    def plan(self) -> list[Placement]:
        """The plan as it stands."""
        return [
            Placement(job, job.allotments[choice], self.now_s + start)
            for job, choice, start in zip(self.jobs, self.choices, self._starts_s, strict=True)
        ]

    def _place(self, first: int) -> bool:
        """Place jobs anew from `first` on; keep it if the sum of all ends, hence of all flows, is smaller."""
        jobs, choices, spans, releases = self.jobs, self.choices, self._spans_s, self._releases_s
        since = first - first % self._every
        kept = self._kept[: since // self._every + 1]
        profile = kept[-1].copy()
        starts = self._starts_s[:first]
        for place in range(since, first):
            profile.reserve(starts[place], spans[place], jobs[place].allotments[choices[place]])
        # Those that are not placed yet start at once, at best.
        total = sum(spans) + sum(starts) + sum(releases[first:])
        bound = self._total_s * _SMALLER
        for place in range(first, len(jobs)):
            processors, span, release = jobs[place].allotments[choices[place]], spans[place], releases[place]
            start = profile.earliest(processors, span, release, _INFINITE)
            assert start is not None
            total += start - release
            if total >= bound:
                return False
            starts.append(start)
            profile.reserve(start, span, processors)
            if profile.steps > profile.patience:
                profile.sweep(self._least_work_s[place + 1])
            if (place + 1) % self._every == 0:
                kept.append(profile.copy())
        self._starts_s, self._kept, self._total_s = starts, kept, total
        return True
