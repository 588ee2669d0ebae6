"""What is noted of a run while it goes on, bounded: a sample of its attempts, and what its stages came to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shaper.models.group import size_of
from shaper.models.line import bin_of
from shaper.types import Accept, Chunk, Observation, Outcome, Verdict

# Of each half octave of size, and each outcome, the last so many attempts are kept; of a category so many.
_PER_BIN, _PER_CATEGORY = 8, 200
_TOLD = (Outcome.DONE, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_TIME, Outcome.OUT_OF_DISK)

_Row = dict[str, Any]


@dataclass(slots=True)
class _StageSums:
    """Sums over the processing tasks of a stage that were accepted."""

    category: str
    began_s: float
    others_held_s: float  # by tasks of other stages, before its first ended
    ended_s: float = 0.0
    held_s: float = 0.0
    load_s: float = 0.0
    tasks: int = 0
    elements: int = 0
    cores: int = 1
    weighted_elements: float = 0.0
    weighted_mib: float = 0.0


class Seen:
    """Collects rows of the history.

    Args:
        modes: of the stages, by name.
        engine: its name.
    """

    def __init__(self, modes: Mapping[str, str], engine: str) -> None:
        self._modes = modes
        self._engine = engine
        self._samples: dict[tuple[str, str, int, Outcome], deque[_Row]] = {}
        self._stages: dict[str, _StageSums] = {}
        self._held_s = 0.0  # of all stages

    def settled(self, seen: Observation, verdict: Verdict) -> None:
        """Note one attempt."""
        task = seen.task
        kind = "process" if isinstance(task.work, Chunk) else "merge"
        if seen.outcome in _TOLD and seen.started_s is not None:
            size = size_of(task.work)
            key = task.category, kind, bin_of(size), seen.outcome
            usage = seen.usage
            self._samples.setdefault(key, deque(maxlen=_PER_BIN)).append(
                {
                    "at_unix_s": round(time.time(), 3),
                    "group_name": task.group,
                    "work": kind,
                    "size": size,
                    "outcome": seen.outcome.value,
                    "wall_s": seen.finished_s - seen.started_s,
                    "cpu_s": usage.cpu_s if usage is not None else None,
                    "memory_mib": usage.memory_mib if usage is not None else None,
                    "cores": task.resources.cores,
                    "given_mib": task.resources.memory_mib,
                }
            )
        if kind == "process" and seen.started_s is not None:
            self._account(seen, seen.started_s, isinstance(verdict, Accept))

    def _account(self, seen: Observation, started_s: float, accepted: bool) -> None:
        task = seen.task
        held_s = max(0.0, seen.finished_s - started_s)
        sums = self._stages.get(task.stage)
        if sums is None:
            sums = self._stages[task.stage] = _StageSums(task.category, started_s, self._held_s)
        self._held_s += held_s
        sums.held_s += held_s
        sums.began_s = min(sums.began_s, started_s)
        sums.ended_s = max(sums.ended_s, seen.finished_s)
        sums.load_s = self._held_s - sums.held_s - sums.others_held_s
        if accepted:
            size = task.work.elements
            sums.tasks += 1
            sums.elements += size
            sums.cores = max(sums.cores, task.resources.cores)
            sums.weighted_elements += size * size
            sums.weighted_mib += size * task.resources.memory_mib

    def rows(self, category: str, status: str) -> tuple[list[_Row], list[_Row]]:
        """The observations and the stage runs of a category."""
        kept = [row for key, rows in self._samples.items() if key[0] == category for row in rows]
        kept.sort(key=lambda row: row["at_unix_s"])
        return kept[-_PER_CATEGORY:], [
            self._stage_run(stage, sums, status)
            for stage, sums in self._stages.items()
            if sums.category == category and sums.elements
        ]

    def _stage_run(self, stage: str, sums: _StageSums, status: str) -> _Row:
        """A stage as one run at some parallelism: by Little's law the mean number of its tasks that ran at once."""
        wall_s = max(sums.ended_s - sums.began_s, 1e-6)
        mode = self._modes.get(stage, "split")
        return {
            "stage": stage,
            "mode": mode,
            "s": sums.cores if mode == "threads" else max(1, round(sums.held_s / wall_s)),
            "elements": sums.elements,
            "load": max(0.0, sums.load_s) / wall_s,
            "wall_s": wall_s,
            "tasks": sums.tasks,
            "chunksize": sums.weighted_elements / sums.elements,
            "task_mib": sums.weighted_mib / sums.elements,
            "engine": self._engine,
            "status": status,
            "at_unix_s": round(time.time(), 3),
        }
