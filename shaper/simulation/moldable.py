"""The experiments with moldable jobs: a real trace with Downey's curves, and short sequence mapping at given loads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator

from shaper.errors import BadInput
from shaper.scheduling import METHODS, Downey, MoldableJob, Replan, Schedule, mapping_times, run_times, simulate
from shaper.scheduling.checks import whole
from shaper.scheduling.mapping import GENOMES, READS
from shaper.scheduling.measures import Fared, by_class, summary
from shaper.scheduling.plan import check
from shaper.simulation.swf import Record

PROCESSORS = 512
TRACE_JOBS = 5000
MAPPING_JOBS = 2000
MOST_VARIANCE = 2.0
RHOS = (1.0, 1.1, 1.3, 1.5)
# Bands of load of the slides: processors that the jobs would keep busy, each run on one.
LOADS = ((100, 120), (200, 240), (300, 360), (500, 600), (650, 800))


@dataclass(frozen=True, slots=True)
class Rule:
    """A method with its settings."""

    method: str
    rho: float = 1.5
    cap: int | None = None
    replan: Replan = "events"

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `METHOD[:RHO[:CAP]]`, for instance `dbos:1.5:32`.

        Raises:
            BadInput: it is written otherwise, or has a setting that cannot be used.
        """
        method, *settings = text.split(":")
        try:
            rho = float(settings[0]) if settings and settings[0] else 1.5
            cap = int(settings[1]) if settings[1:] else None
        except ValueError:
            method = ""
        if method not in METHODS or len(settings) > 2:
            raise BadInput(f"method {text!r}: write METHOD[:RHO[:CAP]], with one of {', '.join(METHODS)}")
        check(method, rho)
        return cls(method, rho, cap if cap is None else whole(cap, "cap"))

    def __str__(self) -> str:
        relaxed = f" {self.rho:g}" if self.method in ("dbos", "lex") else ""
        capped = f", cap {self.cap}" if self.cap is not None else ""
        return f"{self.method}{relaxed}{capped}{', arrivals only' if self.replan == 'arrivals' else ''}"

    def run(self, jobs: Sequence[MoldableJob], processors: int) -> Schedule:
        """Simulate a machine.

        Raises:
            BadInput: as `shaper.scheduling.simulate`.
        """
        return simulate(jobs, processors, self.method, rho=self.rho, cap=self.cap, replan=self.replan)


def figures(fared: Fared, bounds_s: Sequence[float]) -> dict[str, Any]:
    """Return the figures of schedules for JSON, with the share of jobs above a stretch of 1 by class."""
    classes = [
        {**asdict(one), "name": one.name, "high_s": one.high_s if math.isfinite(one.high_s) else None}
        for one in by_class(fared, bounds_s)
    ]
    return {**asdict(summary(fared)), "classes": classes}


def downey_jobs(
    records: Sequence[Record], seed: int, processors: int = PROCESSORS, count: int = TRACE_JOBS
) -> list[MoldableJob]:
    """Make moldable jobs of the first `count` of a trace, those of which run time and processors are known.

    A job does the work it did in the trace, run time times processors. Its average parallelism is uniform from the
    processors that it used to all, its variance uniform from 0 to 2.

    Raises:
        BadInput: there are none.
    """
    rng = Generator(PCG64([seed, 1]))
    jobs = []
    for record in records[:count]:
        if not record.run_s or not record.processors:
            continue
        curve = Downey(
            float(rng.uniform(min(record.processors, processors), processors)), float(rng.uniform(0.0, MOST_VARIANCE))
        )
        times = run_times(record.run_s * record.processors, curve, processors)
        jobs.append(MoldableJob(record.number, record.submit_s, times))
    if not jobs:
        raise BadInput("no job of the trace has both a run time and a number of processors")
    return jobs


def mapping_jobs(
    load: float, seed: int, processors: int = PROCESSORS, count: int = MAPPING_JOBS, *, printed: bool = False
) -> list[MoldableJob]:
    """Make requests to map reads of random size to random genomes, arriving uniformly.

    Args:
        load: processors that they would keep busy, each run on one.
        printed: run times by the form that the slides print.

    Raises:
        BadInput: no load, or no jobs.
    """
    if not (0 < load < math.inf and count > 0):
        raise BadInput(f"load and number of jobs must be more than zero and finite, got {load!r} and {count!r}")
    rng = Generator(PCG64([seed, 2]))
    tables = [mapping_times(genome, reads, processors, printed=printed) for genome in GENOMES for reads in READS]
    drawn = [tables[at] for at in rng.integers(len(tables), size=count)]
    span_s = sum(float(times[0]) for times in drawn) / load
    releases_s = np.sort(rng.uniform(0.0, span_s, count))
    return [MoldableJob(at, float(releases_s[at]), drawn[at]) for at in range(count)]
