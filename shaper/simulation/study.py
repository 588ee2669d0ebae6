"""Jobs of a trace, or made up at given loads, under several rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shaper.errors import BadInput
from shaper.scheduling import MoldableJob
from shaper.scheduling.measures import DOWNEY_CLASSES_S, MAPPING_CLASSES_S, Fared
from shaper.simulation.moldable import MAPPING_JOBS, PROCESSORS, TRACE_JOBS, Rule, downey_jobs, mapping_jobs
from shaper.simulation.swf import Trace, read


class Study:
    """What is simulated: a machine, and jobs that are drawn anew with each seed.

    Args:
        trace: a file in the Standard Workload Format; or
        loads: of made-up sequence mapping, one after the other.
        count: how many jobs; None for as many as the source slides had.

    Attributes:
        loads: of the made-up jobs; of a trace only None.
        bounds_s: of the classes of jobs.

    Raises:
        BadInput: neither or both of trace and loads, a number that cannot be used, or a trace that cannot be read.
    """

    def __init__(
        self,
        trace: Path | None = None,
        loads: Sequence[float] = (),
        *,
        processors: int = PROCESSORS,
        count: int | None = None,
        seeds: Sequence[int] = (0,),
    ) -> None:
        if (trace is None) == (not loads):
            raise BadInput("give a trace (--trace FILE), or the load of a made-up one (--load 330)")
        if processors < 1 or (count is not None and count < 1) or not seeds:
            raise BadInput(f"processors, jobs and seeds must be at least 1, got {processors}, {count}, {len(seeds)}")
        if min(seeds) < 0:
            raise BadInput(f"a seed must be at least 0, got {min(seeds)}")
        self.processors, self.seeds = processors, seeds
        self.trace: Trace | None = read(trace) if trace is not None else None
        self.name = trace.name if trace is not None else "short sequence mapping"
        self.loads: Sequence[float | None] = loads or [None]
        self.count = count or (MAPPING_JOBS if trace is None else TRACE_JOBS)
        self.bounds_s = MAPPING_CLASSES_S if trace is None else DOWNEY_CLASSES_S

    def jobs(self, load: float | None, seed: int) -> list[MoldableJob]:
        """Draw the jobs."""
        if self.trace is not None:
            return downey_jobs(self.trace.records, seed, self.processors, self.count)
        return mapping_jobs(load or 0.0, seed, self.processors, self.count)

    def run(self, rule: Rule) -> list[Fared]:
        """Simulate; how the jobs of all seeds fared, by load."""
        return [Fared.pooled([self._fared(rule, load, seed) for seed in self.seeds]) for load in self.loads]

    def _fared(self, rule: Rule, load: float | None, seed: int) -> Fared:
        return Fared.of(rule.run(self.jobs(load, seed), self.processors))

    def about(self) -> dict[str, Any]:
        """What there is to know of the trace besides its jobs, for JSON: what was left out, and why."""
        if self.trace is None:
            return {}
        first = self.trace.records[: self.count]
        return {
            "trace": self.name,
            "malformed_lines": len(self.trace.troubles),
            "lines_of_parts": self.trace.parts,
            "jobs_without_run_time": sum(not (record.run_s and record.processors) for record in first),
            "troubles": list(self.trace.troubles),
        }
