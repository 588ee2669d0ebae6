"""Tasks on their way to a batch system: it gets each when a slot is nearly free.

What a batch system holds it starts in its own order, and is slow, or unable, to take back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

from shaper.engines.patience import Patience, holds
from shaper.engines.room import Room
from shaper.types import Capacity, Task, TaskId

# The batch system is given this share more than its workers hold, so that no slot waits for us.
_BEYOND = 1 / 16


class Waiting:
    """Which tasks the batch system has not got yet, which it has, and which may follow.

    Args:
        grace_s: how long a task that no connected worker can hold waits for one that can.
    """

    def __init__(self, grace_s: float) -> None:
        self.patience = Patience(grace_s)
        self.handed: dict[TaskId, float] = {}  # those that the batch system has, and since when
        self._queue: dict[TaskId, Task] = {}
        self._held = [0, 0]  # cores and MiB of those that were handed in
        self._room: Room
        self._short_told = False

    def begin(self, room: Room) -> None:
        """A run starts, whose results go there."""
        self._room, self.patience = room, Patience(self.patience.grace_s)

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, task: Task) -> None:
        """A task more, after the others."""
        self._queue[task.id] = task

    def ready(self, capacity: Callable[[], Capacity], stays: Callable[[Task], bool]) -> Iterator[Task]:
        """Take out, one by one, what the batch system should get now; those that it gets are said by `hand_in`.

        Args:
            capacity: the connected workers; asked only where something waits.
            stays: whether the result of a task stays on its worker, and needs no room here.
        """
        if self.patience.aside:
            self._queue.update((task.id, task) for task in self.patience.fitting(capacity()))
        if not self._queue:
            return
        there = capacity()
        cores, memory_mib = (
            sum(getattr(kind, name) * kind.count for kind in there.kinds) * (1.0 + _BEYOND)
            for name in ("cores", "memory_mib")
        )
        while self._queue:
            task = next(iter(self._queue.values()))
            given = task.resources
            if not holds(there, given):
                del self._queue[task.id]
                self.patience.set_aside(task, there)
                continue
            fits = self._held[0] + given.cores <= cores + 1 and self._held[1] + given.memory_mib <= memory_mib
            if self.handed and not (fits and (stays(task) or self._has_room(task))):
                return
            del self._queue[task.id]
            yield task

    def hand_in(self, task: Task, now_s: float, *, stays: bool) -> None:
        """The batch system gets a task."""
        self._hold(task, 1)
        self.handed[task.id] = now_s
        if not stays:
            self._room.hold(task)

    def take(self, task: Task) -> None:
        """A task has ended, or is taken back, wherever it was."""
        self._queue.pop(task.id, None)
        self.patience.aside.pop(task.id, None)
        if task.id in self.handed:
            self._hold(task, -1)
            del self.handed[task.id]
            self._room.let_go(task.id)

    def clear(self) -> None:
        """The run is over."""
        self._queue.clear()
        self.patience.aside.clear()
        self.handed.clear()
        self._held = [0, 0]

    def _hold(self, task: Task, sign: int) -> None:
        self._held[0] += sign * task.resources.cores
        self._held[1] += sign * task.resources.memory_mib

    def _has_room(self, task: Task) -> bool:
        if self._room.fits(task):
            return True
        if not self._short_told:
            self._short_told = True
            warnings.warn(f"little room is left in {self._room.folder}: not all workers are used", stacklevel=2)
        return False
