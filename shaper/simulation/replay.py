"""A recorded run played again: its observations are the cost model of a simulated one.

A task of size n costs what the fitted line says for n, times how far a recorded attempt of about that size was from the
line; so noise, outliers and what the line misses come from the run itself. Where tasks were seen to wait for their data
source, its bandwidth is shared by all that read, and a task costs what it takes without waiting.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shaper import records
from shaper.engines import WorkerSpec
from shaper.errors import BadInput
from shaper.models import Beliefs
from shaper.models.line import Line, fit, with_observation
from shaper.records import Records
from shaper.types import Merge, Observation, Outcome, Source, Task, Usage

_NEIGHBOURS = 25
# What a source gives is known in elements: the bandwidth in bytes is anything.
_BYTES_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Saturated:
    """A data source that tasks have waited for.

    Args:
        given_per_s: elements that it gives.
        alone: slot time of a task that need not wait.
        cpu_s_per_element: of that what is computed.
    """

    given_per_s: float
    alone: Line
    cpu_s_per_element: float

    def read_bytes(self, elements: float) -> int:
        """What stands for so many elements."""
        return round(elements / self.given_per_s * _BYTES_PER_S)

    def computing_s(self, elements: float) -> float:
        """Slot time of a task besides reading."""
        return max(0.1 * self.alone.median(elements), self.alone.median(elements) - elements / self.given_per_s)


@dataclass(frozen=True)
class _Measured:
    """What attempts of one category and group used, by size."""

    sizes: tuple[float, ...]  # log of the size, sorted
    misses: tuple[tuple[float, float], ...]  # log of wall and memory over their lines, in the same order
    wall: Line
    memory: Line | None
    result_bytes: int
    source: Saturated | None = None

    def usage(self, x: float, rng: Any) -> Usage:
        at = bisect_left(self.sizes, math.log(x))
        first = max(0, min(at - _NEIGHBOURS // 2, len(self.sizes) - _NEIGHBOURS))
        last = min(len(self.sizes), first + _NEIGHBOURS)
        wall, memory = self.misses[int(rng.integers(first, last))]
        source, wall_s = self.source, self.wall.median(x)
        if source is not None:
            # Most of what they differ by is how long they waited, which is simulated.
            wall *= min(1.0, source.alone.median(x) / wall_s)
            wall_s = source.computing_s(x)
        return Usage(
            wall_s=wall_s * math.exp(wall),
            cpu_s=source.cpu_s_per_element * x * math.exp(wall) if source is not None else None,
            read_bytes=source.read_bytes(x) if source is not None else None,
            memory_mib=self.memory.median(x) * math.exp(memory) if self.memory is not None else None,
            result_bytes=self.result_bytes,
        )


@dataclass(frozen=True)
class Stage:
    """A recorded stage: sources like its own, and what its tasks cost."""

    category: str
    sources: tuple[Source, ...]
    measured: Mapping[tuple[str, str], _Measured] = field(repr=False)

    def cost(self, task: Task, rng: Any) -> Usage:
        """What an attempt would use if it were not limited."""
        found = self._of(task.category, task.group)
        if found is None:
            return Usage(wall_s=0.01, memory_mib=64.0, result_bytes=0)
        work = task.work
        x = (work.input_bytes or 1024) / 1024 if isinstance(work, Merge) else work.elements
        return found.usage(max(1.0, float(x)), rng)

    def _of(self, category: str, group: str) -> _Measured | None:
        return self.measured.get((category, group)) or self.measured.get((category, ""))

    @property
    def pure_core_s(self) -> float:
        """Core-seconds of the elements without any fixed cost: what no policy can save."""
        total = 0.0
        for source in self.sources:
            found = self._of(self.category, source.group)
            if found is not None:
                slope = found.source.cpu_s_per_element if found.source is not None else found.wall.slope
                total += slope * (source.elements or 0)
        return total

    @property
    def read_bytes(self) -> float:
        """What is read from a source that tasks have waited for; 0 where none did."""
        total = 0.0
        for source in self.sources:
            found = self._of(self.category, source.group)
            if found is not None and found.source is not None:
                total += found.source.read_bytes(source.elements or 0)
        return total


@dataclass(frozen=True)
class Replay:
    """A recorded run as something to simulate."""

    name: str
    stages: Mapping[str, Stage]
    workers: tuple[WorkerSpec, ...]
    makespan_s: float
    bandwidth: float | None = None
    loss_rate: float = 0.0
    dispatch_s: float = 0.0

    @property
    def engine_options(self) -> Mapping[str, Any]:
        """Keyword arguments of the simulated engine; times of slots were recorded with all that they include."""
        return {"loss_rate": self.loss_rate, "bandwidth": self.bandwidth, "dispatch_s": self.dispatch_s}

    def worlds(self, seed: int) -> Mapping[str, Stage]:
        """The stages; nothing of them is drawn."""
        return self.stages


def replay(run_dir: Path, elements: Mapping[str, int] | None = None) -> Replay:
    """Read a recorded run.

    Args:
        elements: how many of each stage to play; as many as have been done by default.

    Raises:
        BadInput: there are no records, or no task of it finished.
    """
    recorded = records.read(run_dir)
    beliefs = records.learnt_from(recorded)
    done = [
        seen
        for seen in map(records.observation, recorded.tasks)
        if seen.outcome is Outcome.DONE and seen.started_s is not None and seen.usage is not None
    ]
    if not any(not isinstance(seen.task.work, Merge) for seen in done):
        raise BadInput(f"no task of {run_dir} has finished: there is nothing to replay")
    by_group: dict[tuple[str, str], list[Observation]] = {}
    for seen in done:
        by_group.setdefault((seen.task.category, ""), []).append(seen)
        if seen.task.group:
            by_group.setdefault((seen.task.category, seen.task.group), []).append(seen)
    measured = {key: replace(_measured(rows), source=saturated(beliefs, *key)) for key, rows in by_group.items()}
    bandwidth = _BYTES_PER_S if any(one.source is not None for one in measured.values()) else None
    makespan_s = max(seen.finished_s for seen in done)
    stages = _stages(recorded, done, measured, elements or {})
    return Replay(Path(run_dir).name, stages, _workers(recorded), makespan_s, bandwidth)


def saturated(beliefs: Beliefs, category: str, group: str = "") -> Saturated | None:
    """The data source of a group where its tasks were seen to wait for it."""
    about = beliefs.about(category, group)
    alone, cpu_s = about.unhindered, about.cpu_s_per_element
    if about.source_per_s is None or alone is None or cpu_s is None:
        return None
    return Saturated(about.source_per_s, alone, cpu_s)


def _measured(rows: Sequence[Observation]) -> _Measured:
    points = []
    for seen in rows:
        work, usage = seen.task.work, seen.usage
        assert usage is not None
        assert seen.started_s is not None
        x = (work.input_bytes or 1024) / 1024 if isinstance(work, Merge) else work.elements
        wall_s = max(1e-6, seen.finished_s - seen.started_s)
        points.append((max(1.0, float(x)), wall_s, usage.memory_mib, usage.result_bytes or 0))
    points.sort()
    walls: dict[int, Any] = {}
    memories: dict[int, Any] = {}
    for x, wall_s, memory_mib, _ in points:
        walls = with_observation(walls, x, wall_s)
        if memory_mib:
            memories = with_observation(memories, x, memory_mib)
    wall, memory = fit(walls, {}), fit(memories, {})
    assert wall is not None
    misses = tuple(
        (
            math.log(wall_s / wall.median(x)),
            math.log(memory_mib / memory.median(x)) if memory is not None and memory_mib else 0.0,
        )
        for x, wall_s, memory_mib, _ in points
    )
    sizes = sorted(size for *_, size in points)
    return _Measured(tuple(math.log(x) for x, *_ in points), misses, wall, memory, sizes[len(sizes) // 2])


def _stages(
    recorded: Records,
    done: Sequence[Observation],
    measured: Mapping[tuple[str, str], _Measured],
    elements: Mapping[str, int],
) -> dict[str, Stage]:
    """Equal sources: as many and as large together as the run's; by group, as what was done of each."""
    stages = {}
    for row in recorded.stages.values():
        counts: dict[str, int] = {}
        for seen in done:
            if seen.task.stage == row["name"] and not isinstance(seen.task.work, Merge):
                counts[seen.task.group] = counts.get(seen.task.group, 0) + seen.task.work.elements
        total = sum(counts.values())
        wanted = elements.get(row["name"], total)
        whole = max(total, wanted, row["elements"])
        sources: list[Source] = []
        for group, count in sorted(counts.items()):
            size = round(wanted * count / max(1, total))
            if size < 1:
                continue
            number = max(1, round(row["sources"] * size / max(1, whole)))
            number = min(number, size)
            each, rest = divmod(size, number)
            sources += [Source(f"{row['name']} {group} {n}", each + (n < rest), group=group) for n in range(number)]
        if sources:
            stages[row["name"]] = Stage(row["category"], tuple(sources), measured)
    return stages


def _workers(recorded: Records) -> tuple[WorkerSpec, ...]:
    """The most workers of each kind that were connected at once."""
    kinds: dict[tuple[str, int, int], int] = {}
    for entry in recorded.capacities:
        for kind in entry["kinds"]:
            key = kind["name"], kind["cores"], kind["memory_mib"]
            kinds[key] = max(kinds.get(key, 0), kind["count"])
    return tuple(
        WorkerSpec(cores, memory_mib, count, name=name) for (name, cores, memory_mib), count in kinds.items() if count
    )
