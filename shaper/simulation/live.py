"""Jobs that arrive one after the other and share workers as in live use, in virtual time, with predicted run times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import PCG64, Generator

from shaper.errors import BadInput
from shaper.scheduling import Amdahl, MoldableJob, UniversalScalability, mapping_times, run_times
from shaper.scheduling.live import LiveJob, Sharing, Worker, budgets
from shaper.scheduling.mapping import GENOMES, READS
from shaper.scheduling.measures import Fared

_ENDED = 1.0 - 1e-9  # of a job; what rounding may leave of it


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that will come.

    Args:
        job: as it will run.
        one_task: it is one task, that keeps its cores; else it is cut into tasks, small beside the job.
        factor: by how much longer it runs than is predicted, on any number of cores.
    """

    job: MoldableJob
    one_task: bool = False
    factor: float = 1.0


def kinds(load: float, seed: int, cores: int, count: int) -> list[Arrival]:
    """Make jobs of three kinds that arrive uniformly.

    A third are analyses of collision events, cut into tasks (nearly all of it is parallel), a third stages of a genome
    workflow, cut into tasks (its speed-up falls off, as its published table does: 5.3 on 8), and a third alignments to
    the smaller genomes, each one task. The analyses have half of the work, the alignments nearly the other half.

    Args:
        load: cores that they would keep busy, each run on one.

    Raises:
        BadInput: no load, or no jobs.
    """
    if not (0 < load < math.inf and count > 0):
        raise BadInput(f"load and number of jobs must be more than zero and finite, got {load!r} and {count!r}")
    rng = Generator(PCG64([seed, 5]))
    alignments = [mapping_times(genome, reads, cores) for genome in GENOMES[:4] for reads in READS]
    tables = []
    for at in range(count):
        if at % 3 == 0:
            tables.append(run_times(float(rng.lognormal(11.5, 1.5)), Amdahl(float(rng.uniform(0.0, 0.01))), cores))
        elif at % 3 == 1:
            curve = UniversalScalability(float(rng.uniform(0.03, 0.1)), float(rng.uniform(0.0, 1e-3)))
            tables.append(run_times(float(rng.lognormal(8.0, 1.0)), curve, cores))
        else:
            tables.append(alignments[int(rng.integers(len(alignments)))])
    releases_s = rng.uniform(0.0, sum(float(times[0]) for times in tables) / load, count)
    return [
        Arrival(MoldableJob(at, float(releases_s[at]), times), one_task=at % 3 == 2) for at, times in enumerate(tables)
    ]


def mispredicted(arrivals: Sequence[Arrival], sigma: float, seed: int) -> list[Arrival]:
    """The same jobs, of which the run times are not known but predicted, with log-normal errors."""
    factors = np.random.default_rng([seed, 6]).lognormal(0.0, sigma, len(arrivals)).tolist()
    return [replace(one, factor=factor) for one, factor in zip(arrivals, factors, strict=True)]


def share(arrivals: Sequence[Arrival], workers: Sequence[int], sharing: Sharing) -> Fared:
    """Run jobs on workers of so many cores; how they fared, in the order in which they ended.

    Jobs that are cut into tasks change their cores at once: their tasks are taken to be small beside the jobs.
    """
    coming = sorted(arrivals, key=lambda one: one.job.release_s, reverse=True)
    present: list[_Present] = []
    ended: list[tuple[float, float, float]] = []  # as Fared has them
    now_s = -math.inf
    while coming or present:
        now_s = min(
            coming[-1].job.release_s if coming else math.inf, min((one.end_s for one in present), default=math.inf)
        )
        assert now_s < math.inf, "jobs wait, and nothing runs"
        for one in present:
            one.advance(now_s)
        for one in [one for one in present if one.ended]:
            flow_s = now_s - one.true.release_s
            ended.append((flow_s / one.true.serial_s, flow_s, one.true.serial_s))
        present = [one for one in present if not one.ended]
        while coming and coming[-1].job.release_s <= now_s:
            present.append(_Present(coming.pop(), now_s))
        free = list(workers)
        for one in present:
            if one.worker is not None:
                free[one.worker] -= one.cores
        machine = [Worker(cores, left) for cores, left in zip(workers, free, strict=True)]
        for one, budget in zip(present, budgets([one.live() for one in present], machine, now_s, sharing), strict=True):
            one.give(budget.cores, budget.worker, now_s)
    return Fared(*map(np.array, zip(*ended, strict=True)))


class _Present:
    """A job that waits or runs."""

    def __init__(self, arrival: Arrival, now_s: float) -> None:
        self.true, self.one_task = arrival.job, arrival.one_task
        times = np.asarray(arrival.job.times) / arrival.factor if arrival.factor != 1.0 else arrival.job.times
        self.predicted = MoldableJob(arrival.job.id, arrival.job.release_s, times)
        self.cores, self.done = 0, 0.0
        self.worker: int | None = None
        self.now_s = self.since_s = now_s
        self.end_s = math.inf
        self.ended = False

    def live(self) -> LiveJob:
        """What is known of it."""
        if self.one_task:
            return LiveJob(self.predicted, one_task=True, cores=self.cores, since_s=self.since_s)
        return LiveJob(self.predicted, cores=self.cores, done=self.done)

    def advance(self, now_s: float) -> None:
        """Go on to a moment."""
        if self.cores:
            self.done = min(1.0, self.done + (now_s - self.now_s) / self._span_s)
            self.ended = self.end_s <= now_s or self.done >= _ENDED
        self.now_s = now_s

    def give(self, cores: int, worker: int | None, now_s: float) -> None:
        """Use so many cores from now on."""
        if self.one_task and self.cores:
            return
        self.cores, self.worker, self.since_s = cores, worker, now_s
        self.end_s = now_s + (1.0 - self.done) * self._span_s if cores else math.inf

    @property
    def _span_s(self) -> float:
        return self.true.times[self.true.largest_useful(self.cores) - 1]
