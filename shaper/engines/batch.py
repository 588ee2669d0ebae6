"""What Work Queue and TaskVine have in common: tasks as commands with files, calls monitored on the worker.

Each task runs `monitor/client.py` in a directory of its own on a worker, which hands the call to that worker's warm
server (`monitor/worker_server.py`). A batch system moves the files and places tasks by their cores and memory; whether
an attempt exceeded anything is measured by our own monitor, at the first try.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from shaper.engines import forks, managers, password, ports
from shaper.engines.delivery import Delivery
from shaper.engines.logs import Logs
from shaper.engines.replies import Replies
from shaper.engines.room import Room
from shaper.engines.shipping import Shipping
from shaper.engines.system import BatchSystem, Ended, File, Job
from shaper.engines.translate import observed, pickled
from shaper.engines.waiting import Waiting
from shaper.errors import BadInput, Damaged
from shaper.monitor import result as results
from shaper.monitor.remote import Reply
from shaper.types import (
    Cancel,
    Capacity,
    Chunk,
    Code,
    Merge,
    Observation,
    Outcome,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
)
from shaper.units import seconds_within

# Workers are asked after half of it, in whole seconds.
_LEAST_SILENT_S = 2
_MOST_S = 10**7
_CAPACITY_EVERY_S = 0.1
# So often the batch system is asked, each time for up to a second, whether what was taken back has ended.
_TRIES = 3


class Batch:
    """An engine on top of a batch system; what the two engines share.

    Args:
        port: where workers connect: a number, a range `(first, last)` or `"first-last"`, or 0 for any that is free.
        manager_name: a name under which workers find this manager through the catalog server; needs no port.
        password_file: workers must hold the same; `~/.shaper/password` by default, False for none.
        python: the interpreter that workers run; the one of this process by default, as on a shared file system.
        environment: a tarball of `shaper env pack`, conda-pack or poncho that workers run instead; `"pack"` packs the
            environment of this process.
        delivery: how workers come to it: `"worker"` (unpacked once by each, the default), `"task"` (by each task),
            `"factory"` (they were started in it: `python3` is that of their PATH) or `"shared"` (`python=`).
        x509_proxy: a grid proxy that travels to every task; functions find it through X509_USER_PROXY.
        extra_input_files: that travel too; functions find them in their working directory.
        grace_s: how long a task that no connected worker can hold waits for one that can.
        silent_s: a worker that has not answered for so long counts as gone, and what it held runs elsewhere.
    """

    name = "batch"
    ssl = False
    lasting = False

    def __init__(
        self,
        *,
        port: int | str | Sequence[int] = (9123, 9200),
        manager_name: str | None = None,
        password_file: str | os.PathLike[str] | bool | None = None,
        python: str | None = None,
        environment: str | os.PathLike[str] | None = None,
        delivery: str | None = None,
        x509_proxy: str | os.PathLike[str] | None = None,
        extra_input_files: Sequence[str | os.PathLike[str]] = (),
        grace_s: float = 300.0,
        silent_s: float = 60.0,
    ) -> None:
        self.port = ports.of(port)
        self.manager_name = manager_name
        self.password_file = password.of(password_file)
        self.silent_s = seconds_within(silent_s, "silent_s", _LEAST_SILENT_S, _MOST_S)
        self.run_dir: Path | None = None
        self._made_dir: Path | None = None
        self._delivery = Delivery.of(delivery, python, environment, x509_proxy, extra_input_files)
        self._start_s = time.time()
        self._system: BatchSystem | None = None
        self._shipping: Shipping
        self._replies: Replies
        self._logs: Logs
        self._flying: dict[TaskId, tuple[Task, float]] = {}
        self._waiting = Waiting(seconds_within(grace_s, "grace_s", 0, _MOST_S))
        self._number = 0
        self._ended: list[Observation | ResultLost] = []
        self._results: dict[TaskId, ResultRef] = {}
        self._kept: dict[TaskId, str] = {}  # of those that stay on workers, on which
        self._manager: managers.Manager
        self._capacity: Capacity | None = None
        self._capacity_s = 0.0
        self._room: Room
        self._running = self._closed = False
        forks.inherited(self)

    def _connect(self) -> BatchSystem:
        raise NotImplementedError

    def _announced(self, port: int) -> managers.Manager:
        secret = str(self.password_file) if self.password_file is not None else None
        host, name = socket.gethostname(), self.manager_name
        tarball = self._shipping.tarball if self._delivery.mode == "factory" else None
        environment = str(tarball.path.absolute()) if tarball is not None else None
        run_dir = str(self.run_dir)
        return managers.Manager(self.name, host, port, os.getpid(), secret, self.ssl, name, run_dir, environment)

    @property
    def announced(self) -> managers.Manager:
        """This manager, as it is written down; there is one once a stage is open."""
        return self._manager

    def dismiss(self, count: int) -> int:
        """Tell up to so many idle workers to end; return how many were told: none while results stay on workers."""
        return 0 if self._kept else self.system.dismiss(count)

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
            for folder in ("results", "ship"):
                (base / folder).mkdir(exist_ok=True)
            self._shipping, self._room = Shipping(base / "ship", self._delivery), Room(base)
            self._logs = Logs(base / "logs")
            self._waiting.begin(self._room)
            if self._system is None:
                self._system = self._connect()
            self._replies = Replies(base / "ship", self._system.block)
            self._manager = self._announced(self._system.port)
            managers.write(self._manager)
        self._shipping.open(stage, code)

    def _begin_anew(self) -> None:
        """The same engine object in a second run; where it is lasting, with the workers that it has."""
        self._start_s, self._capacity = time.time(), None
        self._results.clear()
        self._kept.clear()
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
            self._capacity, self._capacity_s = Capacity(kinds, waiting, self._waiting.patience.grace_s), now_s
        return replace(self._capacity, waiting=self._capacity.waiting + len(self._waiting))

    # -- tasks ---------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Queue a task; the batch system gets it when a slot is nearly free."""
        self._flying[task.id] = task, self.now_s
        self._waiting.add(task)
        self._hand_in()

    def _hand_in(self) -> None:
        for task in self._waiting.ready(self.capacity, self._stays):
            job = self._job(task)
            if job is not None:
                self._waiting.hand_in(task, self.now_s, stays=self._stays(task))
                self.system.submit(job)

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
            named = [(f"in.{number}", ref) for number, ref in enumerate(refs) if ref is not None]
            inputs = [File(base / ref.place, there, stays=not ref.durable) for there, ref in named]
            work = tuple((there, ref.checksum) for there, ref in named)
        self._number += 1
        shipping = self._shipping
        most_bytes = None if self._stays(task) else self._room.allowance_bytes
        return Job(
            task.id,
            task.category,
            shipping.command,
            task.resources,
            self._number,
            shipping.call(task.id, task.stage, work, task.resources, most_bytes),
            (*inputs, *shipping.inputs(task.stage)),
            shipping.outputs(self._result_path(task.id), self._replies.path(task.id), stays=self._stays(task)),
        )

    def _stays(self, task: Task) -> bool:
        """Whether the result of a task stays on its worker."""
        return self.system.keeps and not task.durable

    def _result_path(self, name: TaskId) -> Path:
        return self._base() / "results" / f"{name}.pkl"

    def _unlink_outputs(self, name: TaskId) -> None:
        for path in (self._result_path(name), self._replies.path(name)):
            path.unlink(missing_ok=True)

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Return what has come back; waits up to a second whatever `timeout_s` says."""
        if not self._ended:
            self._room.check()
            for ended in self.system.wait():
                if ended.name in self._flying:
                    self._end(ended)
                else:  # it was taken back, too late to be stopped
                    self._unlink_outputs(ended.name)
            for name in self.system.lost():
                if name in self._flying:
                    self._end_lost(name, "its worker went away")
            if self._kept and (gone := self.system.gone(set(self._kept.values()))):
                self._lose_kept(gone)
        self._hand_in()
        found, self._ended = self._ended, []
        if found:
            self._capacity = None
        patience = self._waiting.patience
        alone = len(self._flying) == len(patience.aside)
        patience.check(alone and not found, self.capacity(), self.now_s)
        return found

    def _end_lost(self, name: TaskId, detail: str) -> None:
        if name in self._waiting.handed:
            self.system.cancel(name)
        self._unlink_outputs(name)
        # About since when its slot was held: how long workers live is learnt from this.
        started_s = self._waiting.handed.get(name)
        self._ended.append(replace(self._unstarted(self._take(name), Outcome.LOST, detail), started_s=started_s))

    def _lose_kept(self, workers: Collection[str]) -> None:
        """Results that were on workers which are gone, and the merges that wait for them: TaskVine would make these
        results again, in its own time and past our accounts."""
        lost = {task_id for task_id, worker in self._kept.items() if worker in workers}
        for task, _ in list(self._flying.values()):
            if isinstance(task.work, Merge) and not lost.isdisjoint(task.work.inputs):
                self._end_lost(task.id, "a result it merges was lost with its worker")
        for task_id in lost:
            self._lose(task_id)

    def _take(self, name: TaskId) -> tuple[Task, float]:
        task, submitted_s = self._flying.pop(name)
        self._waiting.take(task)
        return task, submitted_s

    def _unstarted(self, flying: tuple[Task, float], outcome: Outcome, detail: str) -> Observation:
        task, submitted_s = flying
        return Observation(task, outcome, None, submitted_s, None, self.now_s, "", detail)

    def _end(self, ended: Ended) -> None:
        task, submitted_s = self._take(ended.name)
        result_path, reply_path = self._result_path(task.id), self._replies.path(task.id)
        reply = self._replies.read(ended)
        reply_path.unlink(missing_ok=True)
        # What a batch system knows of files must not grow with the tasks that have ended.
        self.system.forget(reply_path)
        if reply is None or reply.report is None:
            result_path.unlink(missing_ok=True)
            self.system.forget(result_path)
            self._end_without_report(task, submitted_s, ended, reply)
            return
        report = reply.report
        self._logs.write(task.id, reply.logs)
        self._logs.keep(task.id, report.outcome)
        ref = None
        if report.checksum is not None:
            place, stays = f"results/{task.id}.pkl", self._stays(task)
            ref = ResultRef(place, report.usage.result_bytes or 0, report.checksum, durable=not stays)
            self._results[task.id] = ref
            if stays:
                self._kept[task.id] = ended.worker
            else:
                self._room.learn(task, ref.size_bytes)
        else:
            result_path.unlink(missing_ok=True)
            self.system.forget(result_path)
        if report.damaged is not None and isinstance(task.work, Merge):
            self._lose(task.work.inputs[report.damaged])
        now_s = self.now_s
        began_s, ended_s = ended.held_s
        # A worker loads the user's modules once; what calls had to wait for that says nothing about later ones.
        began_s = min(began_s + reply.warming_s, ended_s)
        started_s, finished_s = (min(max(submitted_s, at_s - self._start_s), now_s) for at_s in (began_s, ended_s))
        self._ended.append(observed(task, report, (submitted_s, started_s, finished_s), ended.worker, ref))

    def _end_without_report(self, task: Task, submitted_s: float, ended: Ended, reply: Reply | None) -> None:
        if reply is not None and reply.kind == "room":
            raise self._room.full(reply.bytes_wanted)
        detail = self._replies.fault(ended, reply)
        if ended.inputs_gone and isinstance(task.work, Merge):
            for task_id in task.work.inputs:
                ref = self._results.get(task_id)
                if ref is None or not ref.durable or not (self._base() / ref.place).exists():
                    self._lose(task_id)
        self._ended.append(self._unstarted((task, submitted_s), Outcome.LOST, detail))

    def _lose(self, task_id: TaskId) -> None:
        self._drop(task_id, lost=True)
        self._ended.append(ResultLost((task_id,)))

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take tasks back; what has come back already is observed as it ended."""
        for action in actions:
            if action.task_id in self._flying:
                if action.task_id in self._waiting.handed:
                    self.system.cancel(action.task_id)
                self._ended.append(self._unstarted(self._take(action.task_id), Outcome.CANCELLED, action.reason))

    # -- results -------------------------------------------------------------------------------------------------

    def fetch(self, task_id: TaskId) -> object:
        """Unpickle a result."""
        ref = self._results.get(task_id)
        if ref is None:
            raise Damaged(f"there is no result of task {task_id}")
        return results.read(self._base() / ref.place, ref.checksum)

    def adopt(self, refs: Mapping[TaskId, ResultRef], run: str = "") -> Collection[TaskId]:
        """Take over results of an earlier session that are whole, and remove what nobody refers to."""
        whole, missing = results.whole(self._base(), refs, run)
        self._results.update(whole)
        return missing

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Delete results."""
        for task_id in task_ids:
            self._drop(task_id)

    def _drop(self, task_id: TaskId, *, lost: bool = False) -> None:
        ref = self._results.pop(task_id, None)
        self._kept.pop(task_id, None)
        if ref is not None:
            path = self._base() / ref.place
            path.unlink(missing_ok=True)
            if self._system is not None:
                self._system.forget(path, lost=lost and not ref.durable)

    def close(self) -> None:
        """Cancel what runs and leave the workers; a lasting engine keeps them where nothing runs any more."""
        if self._system is not None and not (self.lasting and self._at_rest()):
            for name in self._waiting.handed:
                self._system.cancel(name)
            # First: once the port is free another may listen there, and be written down under the same name.
            managers.remove(self._manager)
            self._system.close()
            self._system = None
        self._running, self._closed = False, True
        self._flying.clear()
        self._waiting.clear()
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
