"""Waiting for a worker that can hold a task which none that is connected can."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from shaper.errors import Stalled
from shaper.types import Capacity, Resources, Task, TaskId
from shaper.units import show_mib, show_seconds

# A policy is told how long it is worth waiting and may take a task back then; only what it leaves is given up here.
_POLICY_FIRST = 1.25


class Patience:
    """Batch systems keep a task that is larger than every worker for ever, without a word; this does not.

    Such tasks are set aside, so that others pass them.

    Args:
        grace_s: how long such a task waits for a larger worker.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.aside: dict[TaskId, Task] = {}
        self._since_s: float | None = None

    def set_aside(self, task: Task, capacity: Capacity) -> None:
        """Keep a task until a larger worker connects; the first of them is said."""
        if not self.aside and self.grace_s > 0:
            warnings.warn(f"{too_large(task, capacity)}; waiting {show_seconds(self.grace_s)} for one", stacklevel=2)
        self.aside[task.id] = task

    def fitting(self, capacity: Capacity) -> Iterable[Task]:
        """Take out those that a worker can hold now."""
        found = [task for task in self.aside.values() if holds(capacity, task.resources)]
        for task in found:
            del self.aside[task.id]
        return found

    def check(self, alone: bool, capacity: Capacity, now_s: float) -> None:
        """Give up when such tasks were alone for too long.

        Args:
            alone: whether nothing else is in flight.

        Raises:
            Stalled: no worker that can hold it has come in time.
        """
        if not (self.aside and alone and capacity.kinds):
            self._since_s = None
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s >= _POLICY_FIRST * self.grace_s:
            raise Stalled(f"{too_large(next(iter(self.aside.values())), capacity)}: start larger workers")


def holds(capacity: Capacity, given: Resources) -> bool:
    """Whether a connected worker is large enough; so it is taken to be while none is connected."""
    return not capacity.kinds or any(
        kind.cores >= given.cores
        and kind.memory_mib >= given.memory_mib
        and (given.disk_mib is None or kind.disk_mib is None or kind.disk_mib >= given.disk_mib)
        for kind in capacity.kinds
    )


def too_large(task: Task, capacity: Capacity) -> str:
    """What is wrong, in words."""
    largest = capacity.largest
    given = task.resources
    asked, there = _words(given.cores, given.memory_mib, given.disk_mib), "nothing"
    if largest is not None:
        there = _words(largest.cores, largest.memory_mib, None if given.disk_mib is None else largest.disk_mib)
    return f"no connected worker can hold task {task.id} ({task.work}), which asks for {asked}; the largest has {there}"


def _words(cores: int, memory_mib: int, disk_mib: int | None) -> str:
    words = f"{cores} cores and {show_mib(memory_mib)}"
    return words if disk_mib is None else f"{words}, {show_mib(disk_mib)} of disk"
