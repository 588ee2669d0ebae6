"""Room for results in the run directory: no more is started on workers than will fit there when it comes back.

Where a batch system cannot write a result it drops the worker that holds it, and runs its tasks again elsewhere, for
ever; Work Queue 7 and TaskVine up to 7.14 then also use memory that they have freed, and may crash. So the disk is
looked at before they write: results are expected to be as large as those of the largest chunk so far, in proportion
where a chunk is larger still.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from shaper.types import Merge, Task, TaskId
from shaper.units import MIB

# What a task brings back besides its result: the reply, what it printed, its lines in journal and records.
_BESIDES = 2**18
# The run stops where less than so many times the largest result that is expected is left.
_LEFT = 2


@dataclass(slots=True)
class _Seen:
    """Of one stage: the largest chunk, its result, and the largest result."""

    elements: int
    result_bytes: int
    most_bytes: int


class Room:
    """Knows what the tasks that a batch system holds will need in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, _Seen] = {}
        self._held: dict[TaskId, int] = {}
        self._held_bytes = 0

    @property
    def allowance_bytes(self) -> int:
        """The largest result that a task which starts now may bring back."""
        return self._free_bytes() // _LEFT

    def fits(self, task: Task) -> bool:
        """Whether a task may start beside those that are held."""
        return self._held_bytes + self._expected_bytes(task) <= self._free_bytes()

    def hold(self, task: Task) -> None:
        """It is on its way to a worker."""
        size_bytes = self._held[task.id] = self._expected_bytes(task)
        self._held_bytes += size_bytes

    def let_go(self, task_id: TaskId) -> None:
        """It has come back, or will not."""
        self._held_bytes -= self._held.pop(task_id, 0)

    def learn(self, task: Task, result_bytes: int) -> None:
        """A result has come back."""
        if isinstance(task.work, Merge):
            return
        size, seen = task.work.elements, self._seen.get(task.stage)
        if seen is None:
            self._seen[task.stage] = _Seen(size, result_bytes, result_bytes)
            return
        seen.most_bytes = max(seen.most_bytes, result_bytes)
        if size >= seen.elements:
            seen.elements, seen.result_bytes = size, result_bytes

    def check(self) -> None:
        """Look before the batch system writes.

        Raises:
            OSError: ENOSPC, what is running may not fit.
        """
        if not self._held:
            return
        free = self._free_bytes()
        if free >= _LEFT * self._held_bytes:
            return
        most = max(self._held.values())
        if free < _LEFT * most:
            raise self.full(most)

    def full(self, size_bytes: int) -> OSError:
        """The error of a result that does not fit."""
        left = f"{self._free_bytes() / MIB:.1f} MiB are too little for results of {size_bytes / MIB:.1f} MiB"
        return OSError(errno.ENOSPC, left, str(self.folder))

    def _expected_bytes(self, task: Task) -> int:
        if isinstance(task.work, Merge):
            return (task.work.input_bytes or 0) + _BESIDES
        seen = self._seen.get(task.stage)
        if seen is None:
            return _BESIDES
        larger = max(1.0, task.work.elements / seen.elements)
        return max(seen.most_bytes, round(seen.result_bytes * larger)) + _BESIDES

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free
