"""What a run amounted to: counts and core-seconds, kept up one observation at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shaper.models.beliefs import Beliefs
from shaper.types import (
    Accept,
    Backlog,
    Capacity,
    Merge,
    Observation,
    Outcome,
    Retry,
    Shape,
    Span,
    Split,
    Task,
    Verdict,
    last_shapes,
)

_DECISIONS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Counts, waste and decisions of a run; core-seconds are slot time times cores.

    Args:
        makespan_s: on the engine's clock, of this session.
        elements: with an accepted result, of this and earlier sessions.
        tasks: attempts that were observed, merges included.
        busy_core_s: of all attempts.
        elements_before: the part of `elements` that earlier sessions of the run have done.
        lost_core_s: of attempts that exceeded a limit, failed, were lost or were taken back.
        exhausted_core_s: the part of it that exceeded a limit.
        offered_core_s: of all connected workers.
        idle_core_s: offered and not busy.
        peak_memory_mib: largest measured; None where nothing was measured.
        by_category: attempts, elements and core-seconds of each category.
        decisions: how chunksizes changed, one line each, the first thousand.
        skipped, missing: one line for each span left out by the user's leave, or without a result.
    """

    makespan_s: float
    elements: int
    tasks: int
    splits: int
    retries: int
    losses: int
    failures: int
    busy_core_s: float
    lost_core_s: float
    idle_core_s: float
    offered_core_s: float
    peak_memory_mib: float | None = None
    exhausted_core_s: float = 0.0
    elements_before: int = 0
    by_category: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    decisions: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    skipped_spans: tuple[Span, ...] = ()
    missing: tuple[str, ...] = ()
    run_dir: Path | None = None

    @property
    def lost_fraction(self) -> float:
        """Share of the busy core-seconds that came to nothing."""
        return self.lost_core_s / self.busy_core_s if self.busy_core_s else 0.0

    @property
    def redone_elements(self) -> int:
        """Processed more than once, because the first result was lost with its worker."""
        processed = sum(int(row["elements"]) for row in self.by_category.values())
        return processed - (self.elements - self.elements_before)

    @property
    def timeline(self) -> list[Mapping[str, Any]]:
        """The task lines of the records, in order; empty for a run without a directory."""
        if self.run_dir is None:
            return []
        from shaper.records import read

        return list(read(self.run_dir).tasks)


class Tally:
    """A watch that adds up."""

    def __init__(self) -> None:
        self.tasks = self.splits = self.retries = self.losses = self.failures = 0
        self.busy_core_s = self.lost_core_s = self.exhausted_core_s = self.offered_core_s = 0.0
        self.peak_memory_mib: float | None = None
        self.by_category: dict[str, dict[str, float]] = {}
        self.decisions: list[str] = []
        self._last: dict[tuple[str, str], int] = {}
        self._cores = 0
        self._at_s = 0.0

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note the workers on offer and chunksizes that changed by more than a fifth."""
        self.offered_core_s += self._cores * (now_s - self._at_s)
        self._cores, self._at_s = capacity.cores, now_s
        if len(self.decisions) >= _DECISIONS_KEPT:
            return
        for shape in last_shapes(shapes):
            if shape.fan_in is not None:
                continue
            before = self._last.get((shape.stage, shape.group))
            if before is None or not 0.8 <= shape.elements / before <= 1.25:
                self._last[(shape.stage, shape.group)] = shape.elements
                where = f"{shape.stage} {shape.group}".strip()
                self.decisions.append(f"{now_s:.2f} s  {where}: {shape.elements} elements, {shape.reason}")

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Nothing to add up yet."""

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Add one attempt."""
        self.tasks += 1
        task = seen.task
        held = (seen.finished_s - seen.started_s) * task.resources.cores if seen.started_s is not None else 0.0
        self.busy_core_s += held
        if seen.outcome is not Outcome.DONE:
            self.lost_core_s += held
        if seen.outcome.exhausted:
            self.exhausted_core_s += held
        self.losses += seen.outcome is Outcome.LOST
        self.failures += seen.outcome is Outcome.FAILED
        if seen.outcome is not Outcome.CANCELLED:
            self.splits += isinstance(verdict, Split)
            self.retries += isinstance(verdict, Retry)
        if seen.usage is not None and seen.usage.memory_mib is not None:
            self.peak_memory_mib = max(self.peak_memory_mib or 0.0, seen.usage.memory_mib)
        row = self.by_category.setdefault(task.category, {"tasks": 0, "elements": 0, "core_s": 0.0})
        row["tasks"] += 1
        row["core_s"] += held
        if isinstance(verdict, Accept) and not isinstance(task.work, Merge):
            row["elements"] += task.work.elements - sum(map(len, verdict.skipped))

    def report(self, now_s: float, elements: int) -> Report:
        """Return the totals at `now_s`."""
        offered = self.offered_core_s + self._cores * (now_s - self._at_s)
        return Report(
            makespan_s=now_s,
            elements=elements,
            tasks=self.tasks,
            splits=self.splits,
            retries=self.retries,
            losses=self.losses,
            failures=self.failures,
            busy_core_s=self.busy_core_s,
            lost_core_s=self.lost_core_s,
            idle_core_s=max(0.0, offered - self.busy_core_s),
            offered_core_s=offered,
            peak_memory_mib=self.peak_memory_mib,
            exhausted_core_s=self.exhausted_core_s,
            by_category=self.by_category,
            decisions=tuple(self.decisions),
        )
