"""Waiting for a worker that can hold a task which none that is connected can."""

from __future__ import annotations

import warnings

from shaper.errors import Stalled
from shaper.types import Capacity, Resources, Task, WorkerKind
from shaper.units import show_mib, show_seconds


class Patience:
    """Batch systems keep a task that is larger than every worker for ever, without a word; this does not.

    Args:
        grace_s: how long such a task waits.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since_s: float | None = None

    def check(self, task: Task, capacity: Capacity, now_s: float) -> None:
        """Look at a task that waits while nothing comes back; warn once, then give up.

        Raises:
            Stalled: no worker that can hold it has come in time.
        """
        free = sum(kind.free_cores for kind in capacity.kinds)
        if not capacity.waiting or free < capacity.cores:
            self._since_s = None
            return
        if any(_holds(kind, task.resources) for kind in capacity.kinds):
            return
        if self._since_s is None:
            self._since_s = now_s
            if self._grace_s > 0:
                warnings.warn(
                    f"{_too_large(task, capacity)}; waiting {show_seconds(self._grace_s)} for one", stacklevel=2
                )
        if now_s - self._since_s >= self._grace_s:
            raise Stalled(f"{_too_large(task, capacity)}: start larger workers")


def _holds(kind: WorkerKind, given: Resources) -> bool:
    return kind.cores >= given.cores and kind.memory_mib >= given.memory_mib


def _too_large(task: Task, capacity: Capacity) -> str:
    largest = capacity.largest
    there = f"{largest.cores} cores and {show_mib(largest.memory_mib)}" if largest is not None else "nothing"
    return (
        f"no connected worker can hold task {task.id} ({task.work}), which asks for {task.resources.cores} cores and "
        f"{show_mib(task.resources.memory_mib)}; the largest has {there}"
    )
