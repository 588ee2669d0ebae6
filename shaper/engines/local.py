"""This machine: tasks packed by cores, memory and disk, each a monitored fork of a warm parent, results on disk."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shaper.engines.logs import Logs
from shaper.engines.surroundings import surroundings
from shaper.engines.translate import observed, pickled
from shaper.errors import BadInput, Damaged, SiteError, Stalled
from shaper.monitor import result as results
from shaper.monitor.call import Call, CallReport
from shaper.monitor.pool import Pool
from shaper.types import (
    Cancel,
    Capacity,
    Chunk,
    Code,
    Observation,
    Outcome,
    Resources,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
    WorkerKind,
)
from shaper.units import MIB, parse_mib, show_mib

# Of the available memory, where none is given.
_SHARE = 0.9
# A task that does not fit is passed by later ones this often, then nothing starts before it.
_PASSED_AT_MOST = 64


class Local:
    """The machine this process runs on.

    Args:
        cores: to use; all that this process may run on by default.
        memory: for all tasks together, MiB or a string with a unit; 90 % of what is available by default.
        disk: for all sandboxes together; not limited by default.
    """

    name = "local"
    lasting = False

    def __init__(
        self,
        *,
        cores: int | str | None = None,
        memory: str | int | None = None,
        disk: str | int | None = None,
    ) -> None:
        machine_cores, machine_mib = len(os.sched_getaffinity(0)), available_mib()
        self._cores = _whole(cores) if cores is not None else machine_cores
        self._takes_what_is_there = memory is None
        self._memory_mib = parse_mib(memory, "memory") if memory is not None else int(machine_mib * _SHARE)
        self._disk_mib = parse_mib(disk, "disk") if disk is not None else None
        if self._cores > machine_cores:
            warnings.warn(f"{self._cores} cores are declared, this machine has {machine_cores}", stacklevel=2)
        if self._memory_mib > machine_mib:
            warnings.warn(
                f"{show_mib(self._memory_mib)} of memory are declared, {show_mib(machine_mib)} are available: "
                "the system may kill tasks",
                stacklevel=2,
            )
        self.run_dir: Path | None = None
        self._made_dir: Path | None = None
        self._start_s = time.monotonic()
        self._pool = Pool()
        self._surroundings: object = None  # those the pool was started in
        self._free = [self._cores, self._memory_mib, self._disk_mib or 0]
        self._queue: deque[tuple[Task, float]] = deque()
        self._passed = 0
        self._running: dict[TaskId, tuple[Task, float, float, str]] = {}  # submitted, started, worker
        self._ended: list[Observation | ResultLost] = []
        self._results: dict[TaskId, ResultRef] = {}
        self._logs: Logs | None = None
        self._closed = False

    @property
    def now_s(self) -> float:
        """Seconds since this engine was made."""
        return time.monotonic() - self._start_s

    def open(self, stage: str, code: Code | None) -> None:
        """Load the functions of a stage in the warm parent."""
        if code is None:
            raise BadInput(f"stage {stage!r} needs process and merge functions on the local engine")
        if self._closed:
            self._begin_anew()
        elif self._surroundings is None:
            self._surroundings = surroundings()
        base = self._base()
        for folder in ("results", "sandbox"):
            (base / folder).mkdir(exist_ok=True)
        if self._logs is None:
            self._logs = Logs(base / "logs")
        self._pool.open(stage, code.payload)

    def _begin_anew(self) -> None:
        """The same engine object in a second run; where it is lasting, with what is loaded already."""
        self._closed, self._start_s, self._logs = False, time.monotonic(), None
        for kept in (self._results, self._queue, self._running, self._ended):
            kept.clear()
        if self._takes_what_is_there:
            self._memory_mib = int(available_mib() * _SHARE)
        self._free = [self._cores, self._memory_mib, self._disk_mib or 0]
        now = surroundings()
        if now != self._surroundings:
            self._pool.close()
            self._pool, self._surroundings = Pool(), now

    def _base(self) -> Path:
        if self.run_dir is None:
            self._made_dir = self.run_dir = Path(tempfile.mkdtemp(prefix="shaper-"))
        return self.run_dir

    def capacity(self) -> Capacity:
        """This machine as one worker."""
        kind = WorkerKind("local", self._cores, self._memory_mib, 1, self._disk_mib, self._free[0])
        return Capacity((kind,), len(self._queue))

    def submit(self, task: Task) -> None:
        """Queue a task; it starts as soon as it fits."""
        self._queue.append((task, self.now_s))
        self._start_what_fits()

    # -- starting ------------------------------------------------------------------------------------------------

    def _start_what_fits(self) -> None:
        if not self._queue or self._free[0] < 1:
            return
        waiting: deque[tuple[Task, float]] = deque()
        while self._queue and self._free[0] >= 1:
            task, submitted_s = self._queue.popleft()
            if self._fits(task.resources) and (not waiting or self._passed < _PASSED_AT_MOST):
                self._passed = self._passed + 1 if waiting else 0
                self._start(task, submitted_s)
            else:
                waiting.append((task, submitted_s))
        waiting.extend(self._queue)
        self._queue = waiting

    def _fits(self, given: Resources) -> bool:
        return (
            given.cores <= self._free[0]
            and given.memory_mib <= self._free[1]
            and (self._disk_mib is None or given.disk_mib is None or given.disk_mib <= self._free[2])
        )

    def _take(self, given: Resources, sign: int) -> None:
        self._free[0] -= sign * given.cores
        self._free[1] -= sign * given.memory_mib
        self._free[2] -= sign * (given.disk_mib or 0)

    def _start(self, task: Task, submitted_s: float) -> None:
        base = self._base()
        work: bytes | tuple[tuple[str, str], ...]
        if isinstance(task.work, Chunk):
            work = pickled(task.work)
        else:
            gone = tuple(task_id for task_id in task.work.inputs if task_id not in self._results)
            if gone:
                self._ended.append(ResultLost(gone))
                detail = "a result it merges is gone"
                self._ended.append(Observation(task, Outcome.LOST, None, submitted_s, None, self.now_s, "", detail))
                return
            refs = [self._results[task_id] for task_id in task.work.inputs]
            work = tuple((str(base / ref.place), ref.checksum) for ref in refs)
        call = Call(
            task.id,
            task.stage,
            work,
            task.resources,
            str(base / "results" / f"{task.id}.pkl"),
            str(base / "sandbox" / task.id),
            str(base / "logs" / task.id),
        )
        started_s = self.now_s
        slot = self._pool.start(call)
        self._take(task.resources, 1)
        self._running[task.id] = (task, submitted_s, started_s, f"local/{slot}")

    # -- ending --------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Return what has ended, starting what then fits."""
        if not self._running and self._queue and not self._ended:
            task = self._queue[0][0]
            raise Stalled(
                f"task {task.id} ({task.work}) asks for {task.resources.cores} cores and "
                f"{show_mib(task.resources.memory_mib)}; this machine was given {self._cores} cores and "
                f"{show_mib(self._memory_mib)}: give it more with cores=..., memory=..."
            )
        if self._running:
            for report in self._pool.reports(0.0 if self._ended else timeout_s):
                self._end(report)
            self._start_what_fits()
        elif not self._ended and timeout_s > 0:
            time.sleep(min(timeout_s, 0.05))
        ended, self._ended = self._ended, []
        return ended

    def _end(self, report: CallReport) -> None:
        task, submitted_s, started_s, worker = self._running.pop(report.name)
        if report.disk_full:
            raise SiteError(f"{report.detail}: make room in {self._base()} and run again, what is done is kept")
        self._take(task.resources, -1)
        if self._logs is not None:
            self._logs.keep(task.id, report.outcome)
        ref = None
        if report.checksum is not None:
            place = f"results/{task.id}.pkl"
            ref = ResultRef(place, report.usage.result_bytes or 0, report.checksum)
            self._results[task.id] = ref
        if report.damaged is not None and not isinstance(task.work, Chunk):
            lost = task.work.inputs[report.damaged]
            self._results.pop(lost, None)
            self._ended.append(ResultLost((lost,)))
        times_s = submitted_s, started_s, self.now_s
        self._ended.append(observed(task, report, times_s, worker, ref))

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take queued tasks back at once, and kill running ones."""
        if not actions:
            return
        wanted = {action.task_id: action.reason for action in actions}
        kept: deque[tuple[Task, float]] = deque()
        for task, submitted_s in self._queue:
            if task.id in wanted:
                now_s, reason = self.now_s, wanted[task.id]
                self._ended.append(Observation(task, Outcome.CANCELLED, None, submitted_s, None, now_s, "", reason))
            else:
                kept.append((task, submitted_s))
        self._queue = kept
        for task_id in wanted:
            if task_id in self._running:
                self._pool.cancel(task_id)

    # -- results -------------------------------------------------------------------------------------------------

    def fetch(self, task_id: TaskId) -> object:
        """Unpickle a result."""
        ref = self._results.get(task_id)
        if ref is None:
            raise Damaged(f"there is no result of task {task_id}")
        return results.read(self._base() / ref.place, ref.checksum)

    def adopt(self, refs: Mapping[TaskId, ResultRef], run: str = "") -> Collection[TaskId]:
        """Take over results of an earlier session that are whole, and remove what nobody refers to."""
        base = self._base()
        whole, missing = results.whole(base, refs, run)
        self._results.update(whole)
        if not run:
            shutil.rmtree(base / "sandbox", ignore_errors=True)
            (base / "sandbox").mkdir(exist_ok=True)
        return missing

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Delete results."""
        for task_id in task_ids:
            ref = self._results.pop(task_id, None)
            if ref is not None:
                (self._base() / ref.place).unlink(missing_ok=True)

    def close(self) -> None:
        """Kill what runs and remove the sandboxes; a directory that was made here goes too.

        A lasting engine keeps the processes that are ready for calls, where none runs.
        """
        if not self.lasting or self._running:
            self._pool.close()
            self._surroundings = None
        if self._closed:
            return
        self._closed = True
        if self.run_dir is not None:
            shutil.rmtree(self.run_dir / "sandbox", ignore_errors=True)
        if self._made_dir is not None:
            shutil.rmtree(self._made_dir, ignore_errors=True)


def _whole(cores: int | str) -> int:
    try:
        number = int(cores)
    except ValueError:
        number = 0
    if number < 1:
        raise BadInput(f"cores must be a whole number of at least 1, got {cores!r}")
    return number


def available_mib() -> int:
    """What may still be used: of this machine, and of the control groups (container, batch job) this process is in."""
    try:
        with open("/proc/meminfo") as meminfo:  # noqa: PTH123
            found = [int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:")]
    except OSError as error:
        raise SiteError("shaper runs on Linux only: it reads /proc") from error
    if not found:
        raise SiteError("/proc/meminfo has no MemAvailable line: give memory=... yourself")
    return min(found[0], *_group_free_bytes(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))) // MIB


def _group_free_bytes(root: Path, membership: Path) -> list[int]:
    """Limit less use of the memory control groups of this process, versions 1 and 2, from the innermost outwards."""
    free = [sys.maxsize]
    try:
        rows = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return free
    for _, controllers, path in rows:
        if controllers == "":
            top, limit, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        while group == top or top in group.parents:
            try:
                # `max` is no limit; the page cache counts as used, and gives way.
                cache = _cached_bytes(group)
                free.append(max(0, int((group / limit).read_text()) - int((group / used).read_text()) + cache))
            except (OSError, ValueError):
                pass
            group = group.parent
    return free


def _cached_bytes(group: Path) -> int:
    for line in (group / "memory.stat").read_text().splitlines():
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0
