"""What Work Queue and TaskVine have in common: tasks as commands with files, calls monitored on the worker.

Each task runs `monitor/client.py` in a directory of its own on a worker, which hands the call to that worker's warm
server (`monitor/worker_server.py`). A batch system moves the files and places tasks by their cores and memory; whether
an attempt exceeded anything is measured by our own monitor, at the first try.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from shaper.engines import forks, managers, password
from shaper.engines.package import package
from shaper.engines.translate import observed, pickled
from shaper.errors import BadInput, Damaged, SiteError, Stalled, UserError
from shaper.monitor import remote, versions
from shaper.monitor import result as results
from shaper.monitor.call import Call
from shaper.monitor.pool import Place
from shaper.monitor.remote import RemoteCall, Reply
from shaper.types import (
    Cancel,
    Capacity,
    Chunk,
    Code,
    Merge,
    Observation,
    Outcome,
    Resources,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
    WorkerKind,
)
from shaper.units import show_mib, show_seconds

# A warm server without calls for so long ends, and gives its memory back.
_IDLE_S = 600
_CAPACITY_EVERY_S = 0.1
# The batch system is given this share more than its workers hold, so that no slot waits for us.
_BEYOND = 1 / 16
_NO_SERVER, _SERVER_ENDED = 71, 75
# So often the batch system is asked, each time for up to a second, whether what was taken back has ended.
_TRIES = 3
_OUTPUTS = (remote.RESULT, remote.REPLY)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a task: what it is called here and in the task's directory.

    Args:
        kept: on the worker for later tasks.
    """

    here: Path
    there: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A task as a batch system sees it.

    Args:
        call: content of the file `call.txt`.
        order: jobs of a lower number start first.
    """

    name: str
    category: str
    command: str
    resources: Resources
    order: int
    call: str
    inputs: tuple[File, ...]
    outputs: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that came back.

    Args:
        name: of the job.
        fault: why there is no reply, in the batch system's words; empty where the command ran.
        code: exit code of the command.
        said: what the command printed.
        inputs_gone: the batch system could not read the job's inputs.
        held_s: on the clock of `time.time`, from when the batch system sent it to a slot, until when it held that.
    """

    name: str
    worker: str
    held_s: tuple[float, float]
    code: int = 0
    said: str = ""
    fault: str = ""
    inputs_gone: bool = False


class BatchSystem(Protocol):
    """The little that an engine needs of a batch system; one adapter each."""

    port: int

    def submit(self, job: Job) -> None: ...

    def wait(self) -> Sequence[Ended]:
        """What has come back, waiting up to a second for the first: they know no shorter time."""

    def lost(self) -> Collection[str]:
        """Names of jobs whose worker went away, newly seen; the batch system would run them again by itself."""

    def cancel(self, name: str) -> None:
        """End a job, now or when it starts; it does not come back."""

    def forget(self, path: Path) -> None:
        """Nobody will read this file again."""

    def workers(self) -> tuple[tuple[WorkerKind, ...], int]:
        """The connected workers by kind, and how many jobs wait for one."""

    def empty(self) -> bool:
        """Whether it has no jobs, those that were cancelled included."""

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Touch nothing any more: this process is a fork, the workers are those of its parent."""


class Batch:
    """An engine on top of a batch system; what the two engines share.

    Args:
        port: where workers connect: a number, a range `(first, last)`, or 0 for any that is free.
        manager_name: a name under which workers find this manager through the catalog server; needs no port.
        password_file: workers must hold the same; `~/.shaper/password` by default, False for none.
        python: the interpreter that workers run; the one of this process by default, as on a shared file system.
        grace_s: how long a task that no connected worker can hold waits for one that can.
    """

    name = "batch"
    ssl = False
    lasting = False

    def __init__(
        self,
        *,
        port: int | str | tuple[int, int] = (9123, 9200),
        manager_name: str | None = None,
        password_file: str | os.PathLike[str] | bool | None = None,
        python: str | None = None,
        grace_s: float = 300.0,
    ) -> None:
        self.port = port if isinstance(port, tuple) else int(port)
        self.manager_name = manager_name
        self.password_file = password.of(password_file)
        self.run_dir: Path | None = None
        self._made_dir: Path | None = None
        self._python = python or sys.executable
        self._start_s = time.time()
        self._system: BatchSystem | None = None
        self._codes: dict[str, tuple[Path, str, Mapping[str, str]]] = {}  # by stage: file, name on workers, versions
        self._flying: dict[TaskId, tuple[Task, float]] = {}
        self._queue: dict[TaskId, Task] = {}  # those that the batch system has not got yet
        self._handed: dict[TaskId, float] = {}  # those that it has, and since when
        self._held = [0, 0]  # cores and MiB of those that it has
        self._number = 0
        self._ended: list[Observation | ResultLost] = []
        self._results: dict[TaskId, ResultRef] = {}
        self._manager: managers.Manager
        self._capacity: Capacity | None = None
        self._capacity_s = 0.0
        self._tag = ""
        self._package: Path
        self._place: Place
        self._grace_s = grace_s
        self._too_large_since_s: float | None = None
        self._running = self._closed = False
        forks.inherited(self)

    def _connect(self) -> BatchSystem:
        raise NotImplementedError

    def _announced(self, port: int) -> managers.Manager:
        secret = str(self.password_file) if self.password_file is not None else None
        host, name = socket.gethostname(), self.manager_name
        return managers.Manager(self.name, host, port, os.getpid(), secret, self.ssl, name)

    @property
    def hint(self) -> str:
        """How to get workers."""
        where = f"port {self.system.port} of {socket.gethostname()}"
        return f"workers connect to {where}; to start some: shaper workers start --count 2 --cores 4 --memory 8GB"

    @property
    def now_s(self) -> float:
        """Seconds since this engine was made."""
        return time.time() - self._start_s

    # -- opening -------------------------------------------------------------------------------------------------

    def open(self, stage: str, code: Code | None) -> None:
        """Keep the functions of a stage as a file that every worker gets once."""
        if code is None:
            raise BadInput(f"stage {stage!r} needs process and merge functions on the {self.name} engine")
        base = self._base()
        if not self._running:
            self._running = True
            if self._closed:
                self._begin_anew()
            for folder in ("results", "logs", "ship"):
                (base / folder).mkdir(exist_ok=True)
            shutil.copyfile(Path(results.__file__).with_name(remote.CLIENT), base / "ship" / remote.CLIENT)
        if self._system is None:
            self._system = self._connect()
            self._manager = self._announced(self._system.port)
            managers.write(self._manager)
        shipped, self._place = package(), Place.here()
        # A worker keeps one server for each: of an older one, calls would find other modules, files or arguments.
        self._tag = hashlib.sha256(shipped + repr((self._python, self._place)).encode()).hexdigest()[:12]
        self._package = base / "ship" / f"{self._tag}.zip"
        self._package.write_bytes(shipped)
        digest = hashlib.sha256(code.payload).hexdigest()[:12]
        path = base / "ship" / f"code-{digest}.pkl"
        path.write_bytes(code.payload)
        self._codes[stage] = path, f"{stage} {digest}", versions.needed(code.payload)

    def _begin_anew(self) -> None:
        """The same engine object in a second run; where it is lasting, with the workers that it has."""
        self._start_s, self._capacity, self._too_large_since_s = time.time(), None, None
        self._results.clear()
        self._ended.clear()

    def _base(self) -> Path:
        if self.run_dir is None:
            self._made_dir = self.run_dir = Path(tempfile.mkdtemp(prefix="shaper-"))
        return self.run_dir

    @property
    def system(self) -> BatchSystem:
        """The batch system; there is one once a stage is open."""
        if self._system is None:
            raise BadInput("open a stage first")
        return self._system

    def capacity(self) -> Capacity:
        """The connected workers, as they were a moment ago."""
        now_s = time.monotonic()
        if self._capacity is None or now_s - self._capacity_s > _CAPACITY_EVERY_S:
            kinds, waiting = self.system.workers()
            self._capacity, self._capacity_s = Capacity(kinds, waiting), now_s
        return replace(self._capacity, waiting=self._capacity.waiting + len(self._queue))

    # -- tasks ---------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Queue a task. The batch system gets it when a slot is nearly free: what it holds it starts in its own order,
        and is slow, or unable, to take back."""
        self._flying[task.id] = task, self.now_s
        self._queue[task.id] = task
        self._hand_in()

    def _hand_in(self) -> None:
        if not self._queue:
            return
        kinds = self.capacity().kinds
        cores, memory_mib = (
            sum(getattr(kind, name) * kind.count for kind in kinds) * (1.0 + _BEYOND)
            for name in ("cores", "memory_mib")
        )
        while self._queue:
            task = next(iter(self._queue.values()))
            given = task.resources
            fits = self._held[0] + given.cores <= cores + 1 and self._held[1] + given.memory_mib <= memory_mib
            if self._handed and not fits:
                return
            del self._queue[task.id]
            job = self._job(task)
            if job is not None:
                self._hold(task, 1)
                self.system.submit(job)

    def _hold(self, task: Task, sign: int) -> None:
        self._held[0] += sign * task.resources.cores
        self._held[1] += sign * task.resources.memory_mib
        if sign > 0:
            self._handed[task.id] = self.now_s
        else:
            del self._handed[task.id]

    def _job(self, task: Task) -> Job | None:
        """The task as files and a command; None where a result that it merges is gone."""
        base = self._base()
        inputs = []
        work: bytes | tuple[tuple[str, str], ...]
        if isinstance(task.work, Chunk):
            work = pickled(task.work)
        else:
            refs = [self._results.get(task_id) for task_id in task.work.inputs]
            gone = tuple(task_id for task_id, ref in zip(task.work.inputs, refs, strict=True) if ref is None)
            if gone:
                self._ended.append(ResultLost(gone))
                self._ended.append(self._unstarted(self._take(task.id), Outcome.LOST, "a result it merges is gone"))
                return None
            inputs = [File(base / ref.place, f"in.{number}") for number, ref in enumerate(refs) if ref is not None]
            work = tuple((f"in.{number}", ref.checksum) for number, ref in enumerate(refs) if ref is not None)
        code_path, code_name, needed = self._codes[task.stage]
        call = Call(task.id, code_name, work, task.resources, "", "", "")
        here = self._place
        shipped = (
            (base / "ship" / remote.CLIENT, remote.CLIENT),
            (self._package, remote.PACKAGE),
            (code_path, remote.CODE),
        )
        inputs += [File(path, name, kept=True) for path, name in shipped]
        self._number += 1
        return Job(
            task.id,
            task.category,
            f"{self._python} -I -S {remote.CLIENT} {self._tag} {_IDLE_S}",
            task.resources,
            self._number,
            remote.encoded(RemoteCall(call, here.sys_path, here.argv, here.cwd, needed)),
            tuple(inputs),
            tuple(File(path, name) for path, name in zip(self._outputs(task.id), _OUTPUTS, strict=True)),
        )

    def _outputs(self, name: TaskId) -> tuple[Path, Path]:
        """Where the result and the reply of a task come to lie."""
        return self._base() / "results" / f"{name}.pkl", self._base() / "ship" / f"{name}.reply"

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Return what has come back; waits up to a second whatever `timeout_s` says."""
        if not self._ended:
            for ended in self.system.wait():
                if ended.name in self._flying:
                    self._end(ended)
                else:  # it was taken back, too late to be stopped
                    for path in self._outputs(ended.name):
                        path.unlink(missing_ok=True)
            for name in self.system.lost():
                if name in self._flying:
                    self.system.cancel(name)
                    # About since when its slot was held: how long workers live is learnt from this.
                    started_s = self._handed.get(name)
                    lost = self._unstarted(self._take(name), Outcome.LOST, "its worker went away")
                    self._ended.append(replace(lost, started_s=started_s))
        self._hand_in()
        found, self._ended = self._ended, []
        if found:
            self._capacity = None
        elif self._flying:
            self._check_stalled()
        return found

    def _check_stalled(self) -> None:
        """Batch systems keep a task that is larger than every worker for ever, without a word."""
        capacity = self.capacity()
        free = sum(kind.free_cores for kind in capacity.kinds)
        if not capacity.waiting or free < capacity.cores:
            self._too_large_since_s = None
            return
        task = next(iter(self._flying.values()))[0]
        if any(_holds(kind, task.resources) for kind in capacity.kinds):
            return
        now_s = self.now_s
        if self._too_large_since_s is None:
            self._too_large_since_s = now_s
            if self._grace_s > 0:
                warnings.warn(
                    f"{_too_large(task, capacity)}; waiting {show_seconds(self._grace_s)} for one", stacklevel=2
                )
        if now_s - self._too_large_since_s >= self._grace_s:
            raise Stalled(f"{_too_large(task, capacity)}: start larger workers")

    def _take(self, name: TaskId) -> tuple[Task, float]:
        task, submitted_s = self._flying.pop(name)
        self._queue.pop(name, None)
        if name in self._handed:
            self._hold(task, -1)
        return task, submitted_s

    def _unstarted(self, flying: tuple[Task, float], outcome: Outcome, detail: str) -> Observation:
        task, submitted_s = flying
        return Observation(task, outcome, None, submitted_s, None, self.now_s, "", detail)

    def _end(self, ended: Ended) -> None:
        task, submitted_s = self._take(ended.name)
        result_path, reply_path = self._outputs(task.id)
        reply = _reply(reply_path) if not ended.fault and ended.code == 0 else None
        reply_path.unlink(missing_ok=True)
        # What a batch system knows of files must not grow with the tasks that have ended.
        self.system.forget(reply_path)
        if reply is None or reply.report is None:
            result_path.unlink(missing_ok=True)
            self.system.forget(result_path)
            self._end_without_report(task, submitted_s, ended, reply)
            return
        report = reply.report
        for ending, log in zip(("out", "err"), reply.logs, strict=True):
            if log:
                (self._base() / "logs" / f"{task.id}.{ending}").write_bytes(log)
        ref = None
        if report.checksum is not None:
            ref = ResultRef(f"results/{task.id}.pkl", report.usage.result_bytes or 0, report.checksum)
            self._results[task.id] = ref
        else:
            result_path.unlink(missing_ok=True)
            self.system.forget(result_path)
        if report.damaged is not None and isinstance(task.work, Merge):
            self._lose(task.work.inputs[report.damaged])
        now_s = self.now_s
        started_s, finished_s = (min(max(submitted_s, at_s - self._start_s), now_s) for at_s in ended.held_s)
        self._ended.append(observed(task, report, (submitted_s, started_s, finished_s), ended.worker, ref))

    def _end_without_report(self, task: Task, submitted_s: float, ended: Ended, reply: Reply | None) -> None:
        if reply is not None and reply.kind == "versions":
            raise SiteError(
                f"worker {ended.worker} cannot run this: {reply.fault}; start workers in this process's environment"
            )
        if reply is not None and reply.kind == "code":
            raise UserError(reply.fault)
        if ended.code == _NO_SERVER:
            raise SiteError(
                f"worker {ended.worker} cannot run Python functions: {ended.said.strip() or 'no reason given'}"
            )
        if ended.inputs_gone and isinstance(task.work, Merge):
            for task_id in task.work.inputs:
                ref = self._results.get(task_id)
                if ref is None or not (self._base() / ref.place).exists():
                    self._lose(task_id)
        detail = ended.fault or (reply.fault if reply is not None else "")
        if not detail:
            detail = (
                "its warm server was killed" if ended.code == _SERVER_ENDED else f"its command ended with {ended.code}"
            )
        self._ended.append(self._unstarted((task, submitted_s), Outcome.LOST, f"{detail} {ended.said.strip()}".strip()))

    def _lose(self, task_id: TaskId) -> None:
        self._results.pop(task_id, None)
        self._ended.append(ResultLost((task_id,)))

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take tasks back; what has come back already is observed as it ended."""
        for action in actions:
            if action.task_id in self._flying:
                if action.task_id in self._handed:
                    self.system.cancel(action.task_id)
                self._ended.append(self._unstarted(self._take(action.task_id), Outcome.CANCELLED, action.reason))

    # -- results -------------------------------------------------------------------------------------------------

    def fetch(self, task_id: TaskId) -> object:
        """Unpickle a result."""
        ref = self._results.get(task_id)
        if ref is None:
            raise Damaged(f"there is no result of task {task_id}")
        return results.read(self._base() / ref.place, ref.checksum)

    def adopt(self, refs: Mapping[TaskId, ResultRef]) -> Collection[TaskId]:
        """Take over results of an earlier session that are whole, and remove what nobody refers to."""
        whole, missing = results.whole(self._base(), refs)
        self._results.update(whole)
        return missing

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Delete results."""
        for task_id in task_ids:
            ref = self._results.pop(task_id, None)
            if ref is not None:
                path = self._base() / ref.place
                path.unlink(missing_ok=True)
                if self._system is not None:
                    self._system.forget(path)

    def close(self) -> None:
        """Cancel what runs and leave the workers; a lasting engine keeps them where nothing runs any more."""
        if self._system is not None and not (self.lasting and self._at_rest()):
            for name in self._handed:
                self._system.cancel(name)
            self._system.close()
            self._system = None
            managers.remove(self._manager)
        self._running, self._closed = False, True
        self._flying.clear()
        self._queue.clear()
        self._handed.clear()
        self._held = [0, 0]
        if self.run_dir is not None:
            shutil.rmtree(self.run_dir / "ship", ignore_errors=True)
        if self._made_dir is not None:
            shutil.rmtree(self._made_dir, ignore_errors=True)

    def _at_rest(self) -> bool:
        """Whether the batch system has nothing of this run left; what it knows of its files is forgotten then."""
        for _ in range(_TRIES):
            if self._flying or self.system.empty():
                break
            self.wait(1.0)  # for those that were taken back
        if self._flying or not self.system.empty():
            return False
        base = self._base()
        ship = (base / "ship").glob("*")
        for path in (*ship, *(base / ref.place for ref in self._results.values())):
            self.system.forget(path)
        return True

    def abandon(self) -> None:
        """Begin anew: this process is a fork of the one whose run and workers these are."""
        if self._system is not None:
            self._system.abandon()
        self._system = self.run_dir = self._made_dir = None
        self.close()


def worker_counts(stats: Any) -> tuple[int, ...]:
    """What changes whenever a worker comes, has told its size, or goes; in some version each alone also goes back."""
    names = ("workers_joined", "workers_removed", "workers_lost", "workers_connected", "total_cores", "total_memory")
    return tuple(int(getattr(stats, name)) for name in names)


def kinds_of(workers: Mapping[tuple[int, int, int], int]) -> tuple[WorkerKind, ...]:
    """Workers counted by cores, MiB of memory and MiB of disk, as kinds."""
    return tuple(
        WorkerKind(f"{cores}x{memory_mib}", cores, memory_mib, count, disk_mib, 0)
        for (cores, memory_mib, disk_mib), count in sorted(workers.items())
    )


def share_out(kinds: tuple[WorkerKind, ...], free_cores: int) -> tuple[WorkerKind, ...]:
    """Batch systems do not say which workers are free: the cores are shared out from the first kind on."""
    found = []
    for kind in kinds:
        here = min(free_cores, kind.cores * kind.count)
        free_cores -= here
        found.append(replace(kind, free_cores=here))
    return tuple(found)


def _holds(kind: WorkerKind, given: Resources) -> bool:
    return kind.cores >= given.cores and kind.memory_mib >= given.memory_mib


def _too_large(task: Task, capacity: Capacity) -> str:
    largest = capacity.largest
    there = f"{largest.cores} cores and {show_mib(largest.memory_mib)}" if largest is not None else "nothing"
    return (
        f"no connected worker can hold task {task.id} ({task.work}), which asks for {task.resources.cores} cores and "
        f"{show_mib(task.resources.memory_mib)}; the largest has {there}"
    )


def _reply(path: Path) -> Reply | None:
    try:
        reply = pickle.loads(path.read_bytes())
    except Exception:  # cut off, or not there
        return None
    return reply if isinstance(reply, Reply) else None
