"""Work Queue: tasks on workers that connect to this process. cctools is GPL-2, and imported in its adapters only."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from shaper.engines import debian
from shaper.engines.batch import Batch
from shaper.engines.system import UNNAMED, BatchSystem, Ended, Job, kinds_of, share_out, worker_counts
from shaper.errors import EngineMissing, SiteError
from shaper.monitor import remote
from shaper.types import WorkerKind

_TAKEN_AT_ONCE = 256
_RESULTS = {
    1: "an input is missing",
    2: "an output is missing",
    4: "its standard output was lost",
    8: "a signal ended it",
    16: "the worker's own limit was exceeded",
}


class WorkQueue(Batch):
    """Workers of Work Queue; the arguments are those of `Batch`."""

    name = "workqueue"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._module = load()

    def _connect(self) -> BatchSystem:
        return _Queue(self._module, self.port, self.manager_name, self.password_file, self.silent_s)


def load() -> ModuleType:
    """Import Work Queue, of either generation.

    Raises:
        EngineMissing: it is not installed for this interpreter.
    """
    found = debian.load("ndcctools.work_queue") or debian.load("work_queue", "_work_queue")
    if found is None:
        raise EngineMissing(
            f"the workqueue engine needs Work Queue for Python {sys.version_info.major}.{sys.version_info.minor}: "
            "conda install -c conda-forge ndcctools, or apt-get install coop-computing-tools python3-workqueue "
            "(Debian 12 has it for 3.11, Debian 13 for 3.13)"
        )
    return found


class _Queue:
    """The adapter: Work Queue's calls and numbers in, ours out."""

    keeps = False

    def __init__(
        self,
        module: ModuleType,
        port: int | tuple[int, int],
        manager_name: str | None,
        password_file: Path | None,
        silent_s: float,
    ) -> None:
        self._wq = module
        try:
            self._queue = module.WorkQueue(port=port, name=manager_name)
        except Exception as error:  # the module raises plain exceptions
            raise SiteError(f"Work Queue cannot listen on port {port}: {error}; give another port=...") from error
        self.port = int(self._queue.port)
        if password_file is not None:
            self._queue.specify_password_file(str(password_file))
        # Asked after half of the time, and given the other half to answer.
        half_s = max(1, round(silent_s / 2))
        self._queue.specify_keepalive_interval(half_s)
        self._queue.specify_keepalive_timeout(half_s)
        # Where it stops in the middle of an answer, the manager would do nothing else for an hour.
        for name in ("long-timeout", "min-transfer-timeout"):
            self._queue.tune(name, 2 * half_s)
        self._ids: dict[str, int] = {}
        self._tasks: dict[int, Any] = {}
        self._unwanted: dict[int, Any] = {}  # taken back, and not running yet
        self._cancelled: list[Any] = []
        self._categories: set[str] = set()
        self._counts: tuple[int, ...] = ()
        self._seen: tuple[int, ...] = ()
        self._kinds: tuple[WorkerKind, ...] = ()

    def submit(self, job: Job) -> None:
        wq, given = self._wq, job.resources
        if job.category not in self._categories:
            # An attempt comes back after one try: what happens next is our policy's decision.
            self._queue.specify_category_mode(job.category, wq.WORK_QUEUE_ALLOCATION_MODE_FIXED)
            self._categories.add(job.category)
        task = wq.Task(job.command)
        task.specify_tag(job.name)
        task.specify_category(job.category)
        task.specify_cores(given.cores)
        task.specify_memory(given.memory_mib)
        task.specify_disk(given.disk_mib or 1)
        # Equal priorities run newest first.
        task.specify_priority(-float(job.order))
        for file in job.inputs:
            task.specify_input_file(str(file.here), file.there, cache=file.kept)
        task.specify_buffer(job.call, remote.CALL, cache=False)
        for file in job.outputs:
            task.specify_output_file(str(file.here), file.there, cache=False)
        number = self._queue.submit(task)
        self._ids[job.name], self._tasks[number] = number, task

    def wait(self) -> Sequence[Ended]:
        found: list[Ended] = []
        task = self._queue.wait(1)
        while task is not None:
            self._unwanted.pop(task.id, None)
            found.append(self._ended(task))
            # Asked when nothing is there it would wait again, for up to a second, before it sends what was submitted.
            more = len(found) < _TAKEN_AT_ONCE and self._queue.stats.tasks_with_results > 0
            task = self._queue.wait(0) if more else None
        if self._unwanted:
            self._end_unwanted()
        return found

    def _ended(self, task: Any) -> Ended:
        wq, name = self._wq, str(task.tag)
        self._tasks.pop(self._ids.pop(name, -1), None)
        code = int(task.result)
        fault = ""
        if code != wq.WORK_QUEUE_RESULT_SUCCESS and not (
            code == wq.WORK_QUEUE_RESULT_OUTPUT_MISSING and task.return_status != 0
        ):
            fault = f"Work Queue says {_RESULTS.get(code, task.result_str)}"
        return Ended(
            name,
            f"{task.hostname or UNNAMED}/{task.host or UNNAMED}",
            (task.send_input_start / 1e6, task.execute_cmd_finish / 1e6),
            int(task.return_status),
            task.output or "",
            fault,
            code == wq.WORK_QUEUE_RESULT_INPUT_MISSING,
        )

    def lost(self) -> Collection[str]:
        counts = worker_counts(self._queue.stats)
        if counts == self._counts:
            return ()
        self._counts = counts
        wq, found = self._wq, []
        for name, number in self._ids.items():
            tries = self._tasks[number]._task.try_count
            if tries > 1 or (tries == 1 and self._queue.task_state(number) == wq.WORK_QUEUE_TASK_READY):
                found.append(name)
        return found

    def gone(self, workers: Collection[str]) -> Collection[str]:
        """Nothing stays on workers."""
        return ()

    def cancel(self, name: str) -> None:
        number = self._ids.pop(name, None)
        if number is not None:
            self._unwanted[number] = self._tasks.pop(number)
            self._end_unwanted()

    def _end_unwanted(self) -> None:
        """Work Queue 7 starts tasks that were cancelled while they waited, and counts their slot as taken for ever; so
        they are cancelled once they run. Nor may a cancelled task be freed: Work Queue still looks at it."""
        newer = self._wq.__name__.startswith("ndcctools")
        for number in list(self._unwanted):
            if not newer or self._queue.task_state(number) == self._wq.WORK_QUEUE_TASK_RUNNING:
                self._queue.cancel_by_taskid(number)
                self._cancelled.append(self._unwanted.pop(number))
                self._queue._task_table.pop(number, None)

    def forget(self, path: Path, *, lost: bool = False) -> None:
        """Nothing is kept of results on workers."""

    def workers(self) -> tuple[tuple[WorkerKind, ...], int]:
        stats = self._queue.stats
        waiting = int(stats.tasks_waiting)
        counts = worker_counts(stats)
        if counts != self._seen or not self._kinds:
            self._seen, self._kinds = counts, self._summary(stats)
        free = max(0, int(stats.total_cores) - int(stats.committed_cores))
        return share_out(self._kinds, free), waiting

    def _summary(self, stats: Any) -> tuple[WorkerKind, ...]:
        found: dict[tuple[int, int, int], int] = {}
        rows = [row for row in self._queue.workers_summary() if row["workers"] > 0 and row["cores"] > 0]
        for row in rows:
            memory_mib = _unrounded(row["memory"], stats.max_memory, stats.min_memory)
            disk_mib = _unrounded(row["disk"], stats.max_disk, stats.min_disk)
            key = row["cores"], memory_mib, disk_mib
            found[key] = found.get(key, 0) + row["workers"]
        return kinds_of(found)

    def dismiss(self, count: int) -> int:
        # Asked for none it would end all.
        return int(self._queue.shutdown_workers(count)) if count > 0 else 0

    def block(self, host: str) -> None:
        # Draining them, which would end them too, crashes: it reads where no worker is.
        self._queue.block_host(host)

    def empty(self) -> bool:
        return bool(self._queue.empty())

    def close(self) -> None:
        for name in list(self._ids):
            self.cancel(name)
        self._queue.__del__()  # the one name for it that both generations have

    def abandon(self) -> None:
        self._queue._work_queue = None  # what its finaliser looks at


def _unrounded(rounded: int, *extremes: int) -> int:
    """What the summary rounds down; the extremes are known exactly."""
    return next((int(exact) for exact in extremes if rounded <= exact < rounded * 1.15 + 64), rounded)
