"""Whole traces in virtual time: jobs arrive, are planned, run as long as their table says (or not), and end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import attrgetter
from typing import Literal

from shaper.errors import BadInput
from shaper.scheduling.checks import positive
from shaper.scheduling.job import JobId, MoldableJob, Placement
from shaper.scheduling.moment import Moment
from shaper.scheduling.plan import check, plan

Replan = Literal["events", "arrivals"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What became of each job.

    Attributes:
        placements: in the order of their starts.
        ends_s: when each ended.
        flow: how long each was there, from its release to its end, s.
        serial_s: its run time on one processor, as it turned out.
        stretch: its flow over that.
    """

    placements: tuple[Placement, ...]
    ends_s: Mapping[JobId, float]
    flow: Mapping[JobId, float]
    serial_s: Mapping[JobId, float]
    stretch: Mapping[JobId, float]


def simulate(
    jobs: Sequence[MoldableJob],
    processors: int,
    method: str = "dbos",
    *,
    rho: float = 1.5,
    cap: int | None = None,
    replan: Replan = "events",
    slowdown: Mapping[JobId, float] | None = None,
) -> Schedule:
    """Run jobs through a machine.

    Args:
        method: as of `plan`, and so are rho and cap.
        replan: plan anew at every arrival and completion (`events`), or only at arrivals.
        slowdown: by how much longer a job really runs than its table says, on any allotment; 1 where it has no entry.

    Raises:
        BadInput: a value that cannot be used; the message says which.
    """
    if replan not in ("events", "arrivals"):
        raise BadInput(f"replan must be 'events' or 'arrivals', got {replan!r}")
    check(method, rho)
    checked = Moment(jobs, (), processors, 0.0, cap).jobs
    arriving = sorted(checked, key=attrgetter("release_s"), reverse=True)
    machine = _Machine(processors, _checked(slowdown or {}))
    planned: list[Placement] = []
    while arriving or machine.waiting or machine.running:
        machine.advance(min(_next(arriving, machine, planned)))
        arrived = False
        while arriving and arriving[-1].release_s <= machine.now_s:
            job = arriving.pop()
            machine.waiting[job.id] = job
            arrived = True
        if replan == "events":
            planned = []
        # Where no processor is free nothing can start, and there will be an event before something can. Only arrivals
        # count otherwise, but a method that plans nothing for later has to be asked again.
        if machine.waiting and (machine.free > 0 if replan == "events" else arrived or not planned):
            waiting, running = list(machine.waiting.values()), list(machine.running.values())
            planned = plan(waiting, running, processors, machine.now_s, method, rho, cap)
        planned = [one for one in planned if not machine.started(one)]
    return machine.schedule()


def _next(arriving: Sequence[MoldableJob], machine: _Machine, planned: Sequence[Placement]) -> Iterator[float]:
    """When something will happen."""
    if arriving:
        yield arriving[-1].release_s
    if machine.ending:
        yield machine.ending[0][0]
    yield from (one.start_s for one in planned if one.start_s > machine.now_s)


def _checked(slowdown: Mapping[JobId, float]) -> Mapping[JobId, float]:
    for job, factor in slowdown.items():
        positive(factor, f"slowdown of job {job!r}")
    return slowdown


class _Machine:
    """Processors, what waits for them and what runs on them."""

    def __init__(self, processors: int, slowdown: Mapping[JobId, float]) -> None:
        self.slowdown = slowdown
        self.now_s = -math.inf
        self.free = processors
        self.waiting: dict[JobId, MoldableJob] = {}
        self.running: dict[JobId, Placement] = {}
        self.ending: list[tuple[float, int, Placement]] = []  # a heap; the number breaks ties
        self.placements: list[Placement] = []
        self.ends_s: dict[JobId, float] = {}

    def advance(self, now_s: float) -> None:
        """Go on to a moment, and end what ends by then."""
        self.now_s = now_s
        while self.ending and self.ending[0][0] <= now_s:
            end_s, _, placement = heappop(self.ending)
            self.ends_s[placement.job.id] = end_s
            self.free += placement.processors
            del self.running[placement.job.id]

    def started(self, planned: Placement) -> bool:
        """Start a job whose time has come, where its processors are free."""
        if planned.start_s > self.now_s or planned.processors > self.free:
            return False
        job = planned.job
        placement = planned._replace(start_s=self.now_s)
        self.free -= placement.processors
        del self.waiting[job.id]
        self.running[job.id] = placement
        self.placements.append(placement)
        end_s = self.now_s + placement.duration_s * self.slowdown.get(job.id, 1.0)
        heappush(self.ending, (end_s, len(self.placements), placement))
        return True

    def schedule(self) -> Schedule:
        """What became of each job."""
        flow, serial_s = {}, {}
        for job, processors, start_s in self.placements:
            slowdown = self.slowdown.get(job.id, 1.0)
            # Not its end less its release: late on a clock, a short run would be lost in the rounding of both.
            flow[job.id] = (start_s - job.release_s) + job.times[processors - 1] * slowdown
            serial_s[job.id] = job.serial_s * slowdown
        stretch = {name: flow[name] / serial_s[name] for name in flow}
        return Schedule(tuple(self.placements), self.ends_s, flow, serial_s, stretch)
