"""Tasks that cannot be cut and wait for a larger worker than any that is connected: for how long, and beside others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shaper.types import Backlog, Cancel, Chunk, Shape, Task, TaskId
from shaper.units import show_mib, show_seconds


class Oversized:
    """Those of one run; they hold no slot, so for whoever fills the workers they are not in flight."""

    def __init__(self) -> None:
        self._tasks: dict[TaskId, tuple[Task, float]] = {}

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self._tasks

    def add(self, task: Task, now_s: float) -> None:
        """Let a task wait from now on."""
        self._tasks.setdefault(task.id, (task, now_s))

    def waited(self, grace_s: float, most_mib: int, in_flight: Mapping[TaskId, Task], now_s: float) -> list[Cancel]:
        """Return those that have waited for as long as is worth it; forget those that have ended."""
        found = []
        for task_id, (task, since_s) in list(self._tasks.items()):
            if task_id not in in_flight:
                del self._tasks[task_id]
            elif task.resources.memory_mib <= most_mib:
                self._tasks[task_id] = task, now_s
            elif now_s - since_s >= grace_s:
                why = f"no worker with more than {show_mib(most_mib)} came within {show_seconds(grace_s)}"
                found.append(Cancel(task_id, why))
        return found

    def without(self, backlog: Backlog) -> Backlog:
        """The backlog as if they were not in flight."""
        groups, elements = self._counts()
        stages: Counter[str] = Counter()
        for (stage, _), count in groups.items():
            stages[stage] += count
        return Backlog(
            [
                replace(group, in_flight=group.in_flight - groups[group.stage, group.group])
                if (group.stage, group.group) in groups
                else group
                for group in backlog.groups
            ],
            [
                replace(
                    stage,
                    in_flight=stage.in_flight - stages[stage.stage],
                    in_flight_elements=stage.in_flight_elements - elements[stage.stage],
                )
                if stage.stage in stages
                else stage
                for stage in backlog.stages
            ],
        )

    def beside(self, shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes that such a backlog led to, for the one in which they are."""
        groups, _ = self._counts()
        return [
            replace(shape, in_flight=shape.in_flight + groups[shape.stage, shape.group])
            if shape.fan_in is None and (shape.stage, shape.group) in groups
            else shape
            for shape in shapes
        ]

    def _counts(self) -> tuple[Counter[tuple[str, str]], Counter[str]]:
        groups: Counter[tuple[str, str]] = Counter()
        elements: Counter[str] = Counter()
        for task, _ in self._tasks.values():
            if isinstance(task.work, Chunk):
                groups[task.stage, task.group] += 1
                elements[task.stage] += task.work.elements
        return groups, elements

    def __len__(self) -> int:
        return len(self._tasks)
