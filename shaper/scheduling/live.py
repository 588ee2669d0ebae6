"""Live: how many cores each job may use from now on, by what is believed of its run time. Asked at every event.

    symbol   meaning                                                  unit
    m        cores of all workers                                     1
    n        jobs that wait or run                                    1
    p_j      run time of a whole job on j cores, as predicted         s
    S        stretch: time in the system over p_1                     1

A job is cut into tasks, which may lie on any workers and end soon: its cores may change with every event. Or it is one
task, which lies on one worker and keeps its cores to its end.

In turn, by priority: `eq-spt` gives each job, shortest first, an equal share of the machine within the cap; the other
methods plan (`shaper.scheduling.plan`), and what is planned for now is given. A cap of m / 16 keeps cores free for who
comes next. What is left then is lent to the jobs that are cut into tasks, which give it back as their tasks end.

Any of these alone would let a long job wait for as long as more short ones come than the machine can do. So one goes
before all others of its priority: of the jobs that have been here for longer than they would run on one core, the one
that was due first. Before it may go only those that were due earlier still, and they are finitely many.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from shaper.errors import BadInput
from shaper.scheduling.checks import positive, whole
from shaper.scheduling.job import JobId, MoldableJob, Placement
from shaper.scheduling.plan import check, plan, usual_cap


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job that waits or runs, as it is known now.

    Args:
        job: with the run times of the whole of it that are believed now (posterior means).
        known: False where nothing is known of its run times; it is probed, and those of `job` are not looked at.
        one_task: it is one task of all its cores, on one worker; else it is cut into tasks.
        cores: what it has been given; 0 while it waits.
        since_s: when its one task began; None while it waits.
        done: which part of it is done; of a job that is cut into tasks.
        priority: those of a higher one are served first.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """

    job: MoldableJob
    known: bool = True
    one_task: bool = False
    cores: int = 0
    since_s: float | None = None
    done: float = 0.0
    priority: int = 0

    def __post_init__(self) -> None:
        if self.cores < 0:
            raise BadInput(f"job {self.job.id!r}: cores must be at least 0, got {self.cores!r}")
        if not 0.0 <= self.done <= 1.0:
            raise BadInput(f"job {self.job.id!r}: done must be from 0 to 1, got {self.done!r}")
        if self.stays and self.since_s is None:
            raise BadInput(f"job {self.job.id!r}: its one task runs, so since_s must say since when")

    @property
    def stays(self) -> bool:
        """Whether it runs and keeps its cores to its end."""
        return self.one_task and self.cores > 0


class Worker(NamedTuple):
    """A worker that is connected: its cores, and how many of them no task holds now."""

    cores: int
    free: int


class Budget(NamedTuple):
    """How many cores a job may use from now on, and why.

    Attributes:
        lent: how many of the cores are lent, until others want them.
        worker: the number of the worker with the best hole for one task that starts now.
    """

    id: JobId
    cores: int
    reason: str
    lent: int = 0
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Sharing:
    """How jobs share workers.

    Args:
        method: eq-spt, or one that plans: dbos, lex, iterative, improved-iterative.
        rho: of dbos and lex, by how much deadlines are relaxed.
        cap: the most cores that a job gets while they are not lent; None for a sixteenth of all.
        floor_s: a job's stretch is measured in no less, so that tiny ones do not set the pace of all.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """

    method: str = "eq-spt"
    rho: float = 1.5
    cap: int | None = None
    floor_s: float = 10.0

    def __post_init__(self) -> None:
        check(self.method, self.rho)
        if self.cap is not None:
            whole(self.cap, "cap")
        positive(self.floor_s, "floor_s")


_DEFAULT = Sharing()
_LEAST_PART = 1e-6  # of a job: what is always left of one that has not ended


def budgets(
    jobs: Sequence[LiveJob], workers: Sequence[Worker], now_s: float, sharing: Sharing = _DEFAULT
) -> list[Budget]:
    """Give each job its cores, in the order of the jobs.

    The sum is no more than there are cores, unless workers have left that one-task jobs had counted on. A one-task job
    that waits for a hole on a worker has no cores, but its cores are not given to others: ask again as tasks end.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """
    floor = _Floor(jobs, workers, sharing)
    moving = sorted((one for one in jobs if not one.stays), key=lambda one: -one.priority)
    for _, group in groupby(moving, key=lambda one: one.priority):
        peers = list(group)
        probes = [one for one in peers if not one.known]
        for one in sorted(probes, key=_arrival):
            floor.give(one, 1, "a probe: nothing is known of its run time yet", any_hole=True)
        known = [one for one in peers if one.known]
        late = _late(known, now_s, sharing.floor_s)
        if late is not None:
            known.remove(late)
            floor.give(late, floor.share, "the job that is late for longest", any_hole=True)
        if sharing.method == "eq-spt":
            _share(floor, known)
        else:
            _plan(floor, known, now_s)
    floor.lend()
    return [floor.given[one.job.id] for one in jobs]


def _late(jobs: Sequence[LiveJob], now_s: float, floor_s: float) -> LiveJob | None:
    """Of the jobs that have been here for longer than they would run on one core, the one that was due first."""

    def due_s(one: LiveJob) -> float:
        return one.job.release_s + max(floor_s, one.job.serial_s)

    late = [one for one in jobs if due_s(one) < now_s]
    return min(late, key=lambda one: (due_s(one), *_arrival(one))) if late else None


def _share(floor: _Floor, jobs: Sequence[LiveJob]) -> None:
    """EQ-SPT: equal shares, shortest first."""
    floor_s = floor.sharing.floor_s
    for one in sorted(jobs, key=lambda one: (max(floor_s, one.job.serial_s), *_arrival(one))):
        floor.give(one, floor.share, f"an equal share of {floor.cores} cores; jobs: {len(floor.jobs)}")


def _arrival(one: LiveJob) -> tuple[float, str]:
    return one.job.release_s, str(one.job.id)


def _plan(floor: _Floor, jobs: Sequence[LiveJob], now_s: float) -> None:
    """What a plan has for now."""
    sharing = floor.sharing
    waiting = {one.job.id: one for one in jobs}
    held = [_placed(one, now_s) for one in floor.jobs if one.stays]
    held += [Placement(floor.rest(one), floor.given[one.job.id].cores, now_s) for one in floor.started]
    if floor.cores < 1:
        return
    rests = [floor.rest(one) for one in jobs]
    placements = plan(rests, held, floor.cores, now_s, sharing.method, sharing.rho, floor.cap)
    for placement in placements:
        if placement.start_s <= now_s:
            floor.give(waiting.pop(placement.job.id), placement.processors, f"planned for now by {sharing.method}")
        else:
            floor.wait(waiting.pop(placement.job.id), f"planned to start in {placement.start_s - now_s:.3g} s")


def _placed(one: LiveJob, now_s: float) -> Placement:
    """A task that runs. Of one that is not known, or has more cores than were foreseen, as if it should have ended."""
    assert one.since_s is not None
    if one.known and one.cores <= len(one.job.times):
        return Placement(one.job, one.cores, one.since_s)
    elapsed_s = max(math.ulp(now_s), now_s - one.since_s)
    return Placement(MoldableJob(one.job.id, one.job.release_s, [elapsed_s] * one.cores), one.cores, one.since_s)


class _Floor:
    """The cores that are shared out, and who has been given what."""

    def __init__(self, jobs: Sequence[LiveJob], workers: Sequence[Worker], sharing: Sharing) -> None:
        for worker in workers:
            if not 0 <= worker.free <= worker.cores:
                raise BadInput(f"a worker has {worker.cores} cores, so 0 to that many may be free, got {worker.free}")
        name, times = next(iter(Counter(one.job.id for one in jobs).most_common(1)), ("", 0))
        if times > 1:
            raise BadInput(f"two jobs have the id {name!r}")
        self.jobs, self.sharing = jobs, sharing
        self.cores = sum(worker.cores for worker in workers)
        self.cap = sharing.cap or usual_cap(self.cores)
        self.largest = max((worker.cores for worker in workers), default=0)
        self.holes = sorted((worker.free, number) for number, worker in enumerate(workers) if worker.free)
        self.given: dict[JobId, Budget] = {}
        self.started: list[LiveJob] = []
        self.free = self.cores
        self.share = max(1, self.cores // max(1, len(jobs)))
        for one in jobs:
            self.wait(one, "waits: all cores are given to others")
            if one.stays:
                self.given[one.job.id] = Budget(one.job.id, one.cores, "keeps its cores to its end")
                self.free -= one.cores

    def rest(self, one: LiveJob) -> MoldableJob:
        """What is left of a job; its stretch is measured as that of the whole."""
        job, floor_s = one.job, self.sharing.floor_s
        if not one.known:
            return MoldableJob(job.id, job.release_s, [floor_s])
        left = max(_LEAST_PART, 1.0 - one.done)
        times = job.times[: max(1, self.largest)] if one.one_task else job.times
        return MoldableJob(job.id, job.release_s, [left * time for time in times], max(floor_s, job.serial_s))

    def give(self, one: LiveJob, cores: int, reason: str, *, any_hole: bool = False) -> None:
        """Give at most so many cores, as far as there are; to one task on a worker with a hole of at least half."""
        limit = min(cores, self.cap, self.free)
        if one.one_task:
            limit = min(limit, self.largest)
        if limit < 1:
            return
        fit, worker = one.job.largest_useful(limit) if one.known else 1, None
        if one.one_task:
            hole, worker = self._hole(fit)
            if hole < (1 if any_hole else fit / 2):
                self.free -= fit
                self.wait(one, f"waits for {fit} cores on one worker; there are {hole}")
                return
            fit = one.job.largest_useful(min(fit, hole)) if one.known else 1
            self.holes.remove((hole, worker))
            insort(self.holes, (hole - fit, worker))
        self.free -= fit
        self.given[one.job.id] = Budget(one.job.id, fit, reason, worker=worker)
        self.started.append(one)

    def wait(self, one: LiveJob, reason: str) -> None:
        """Say why a job gets nothing now."""
        self.given[one.job.id] = Budget(one.job.id, 0, reason)

    def lend(self) -> None:
        """Give what is left to jobs that are cut into tasks, by priority, then evenly, as far as they can use it."""
        moving = sorted((one for one in self.jobs if not one.one_task), key=lambda one: -one.priority)
        for _, peers in groupby(moving, key=lambda one: one.priority):
            self._lend(list(peers))

    def _lend(self, takers: Sequence[LiveJob]) -> None:
        wanted = {
            one.job.id: (one.job.allotments[-1] if one.known else self.cores) - self.given[one.job.id].cores
            for one in takers
        }
        # Who can use least first, so that what one leaves goes to the others.
        order = sorted(takers, key=lambda one: (wanted[one.job.id], *_arrival(one)))
        for number, name in enumerate(one.job.id for one in order):
            lent = min(wanted[name], -(-self.free // (len(takers) - number)))
            if lent < 1:
                continue
            before = self.given[name]
            reason = f"{before.reason}; {lent} that nobody waits for are lent"
            self.given[name] = Budget(name, before.cores + lent, reason, lent)
            self.free -= lent

    def _hole(self, cores: int) -> tuple[int, int]:
        """The best fit: the smallest hole of so many cores, or the largest of all; and its worker."""
        at = bisect_left(self.holes, (cores, 0))
        return self.holes[min(at, len(self.holes) - 1)] if self.holes else (0, -1)
