"""TaskVine: tasks on workers that connect to this process. cctools is GPL-2, and imported in its adapters only."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from shaper.engines import debian
from shaper.engines.batch import Batch
from shaper.engines.system import UNNAMED, BatchSystem, Ended, File, Job, kinds_of, share_out, worker_counts
from shaper.errors import EngineMissing, SiteError
from shaper.monitor import remote
from shaper.types import WorkerKind

_TAKEN_AT_ONCE = 256
# Tasks are sent to workers about in the order of submission: after so many that were not, none later was.
_NOT_SENT = 64


class TaskVine(Batch):
    """Workers of TaskVine; the arguments are those of `Batch`, and one more.

    Args:
        ssl: True to encrypt what travels with a key made for this run, or `(key, certificate)`, files in PEM format;
            workers then need `--ssl`.
    """

    name = "taskvine"

    def __init__(self, *, ssl: bool | tuple[str, str] = False, **options: Any) -> None:
        super().__init__(**options)
        self.ssl, self._ssl = bool(ssl), ssl
        self._module = load()

    def _connect(self) -> BatchSystem:
        log = self._base() / "vine"
        return _Manager(self._module, self.port, self.manager_name, self.password_file, self._ssl, log, self.silent_s)


def load() -> ModuleType:
    """Import TaskVine.

    Raises:
        EngineMissing: it is not installed for this interpreter.
    """
    found = debian.load("ndcctools.taskvine")
    if found is None:
        raise EngineMissing(
            f"the taskvine engine needs TaskVine for this Python ({sys.version_info.major}.{sys.version_info.minor}): "
            "conda install -c conda-forge ndcctools, or on Debian 13 apt-get install coop-computing-tools "
            "python3-workqueue; Debian 12 has none: use engine='workqueue' there"
        )
    return found


class _Manager:
    """The adapter: TaskVine's calls and words in, ours out."""

    keeps = True

    def __init__(
        self,
        module: ModuleType,
        port: int | tuple[int, int],
        manager_name: str | None,
        password_file: Path | None,
        ssl: bool | tuple[str, str],
        log: Path,
        silent_s: float,
    ) -> None:
        self._vine = module
        try:
            # A folder of its own: two managers that were made in the same second share one otherwise.
            self._manager = module.Manager(
                port=list(port) if isinstance(port, tuple) else port,
                name=manager_name,
                ssl=ssl or None,
                run_info_path=str(log),
                staging_path=str(log),
            )
        except Exception as error:  # the module raises plain exceptions
            raise SiteError(f"TaskVine cannot listen on port {port}: {error}; give another port=...") from error
        # Its own log grows with every message, and it ends the process where that cannot be written any more.
        module.cvine.vine_enable_debug_log(os.devnull)
        self.port = int(self._manager.port)
        if password_file is not None:
            self._manager.set_password_file(str(password_file))
        self._manager.enable_peer_transfers()
        # Asked after half of the time, and given the other half to answer.
        half_s = max(1, round(silent_s / 2))
        self._manager.tune("keepalive-interval", half_s)
        self._manager.tune("keepalive-timeout", half_s)
        # Where it stops in the middle of an answer, the manager would do nothing else for an hour.
        for name in ("long-timeout", "min-transfer-timeout"):
            self._manager.tune(name, 2 * half_s)
        self._tasks: dict[str, Any] = {}
        self._calls: dict[str, Any] = {}
        self._files: dict[Path, Any] = {}
        self._not_sent: dict[str, Any] = {}
        self._sent: dict[str, int] = {}  # when, in us: what is sent again had lost its worker
        self._dispatched = 0
        self._counts: tuple[int, ...] = ()
        self._look_for_remakes = False
        self._remakes: set[int] = set()  # those that were told to end
        self._connected: set[str] = set()
        self._connected_at: tuple[int, ...] = ()
        self._seen: tuple[int, ...] = ()
        self._kinds: tuple[WorkerKind, ...] = ()
        self._blocked: set[str] = set()
        self._blocked_cores = 0

    def submit(self, job: Job) -> None:
        given = job.resources
        task = self._vine.Task(job.command)
        task.set_tag(job.name)
        task.set_category(job.category)
        task.set_cores(given.cores)
        task.set_memory(given.memory_mib)
        # No limit: workers look every 5 s, and would count what is linked into the task's directory, its inputs too.
        # Ours is enforced by the monitor.
        task.set_disk(0)
        task.set_priority(-float(job.order))
        for file in job.inputs:
            task.add_input(self._file(file), file.there)
        self._calls[job.name] = call = self._manager.declare_buffer(job.call.encode(), cache=False)
        task.add_input(call, remote.CALL)
        for file in job.outputs:
            task.add_output(self._file(file), file.there)
        self._manager.submit(task)
        self._tasks[job.name] = self._not_sent[job.name] = task

    def _file(self, file: File) -> Any:
        known = self._files.get(file.here)
        if known is None and file.stays:
            known = self._files[file.here] = self._manager.declare_temp()
        elif known is None:
            cache = "workflow" if file.kept else False
            known = self._files[file.here] = self._manager.declare_file(str(file.here), cache=cache)
        return known

    def wait(self) -> Sequence[Ended]:
        found: list[Ended] = []
        if self._look_for_remakes:
            self._end_remakes()
        task = self._manager.wait(1)
        while task is not None:
            if str(task.tag) in self._tasks:
                found.append(self._ended(task))
            # Asked when nothing is there it would wait again, for up to a second, before it sends what was submitted.
            more = len(found) < _TAKEN_AT_ONCE and self._manager.stats.tasks_with_results > 0
            task = self._manager.wait(0) if more else None
        self._note_sent()
        return found

    def _note_sent(self) -> None:
        dispatched = int(self._manager.stats.tasks_dispatched)
        if dispatched == self._dispatched:
            return
        self._dispatched = dispatched
        skipped = 0
        for name in list(islice(self._not_sent, dispatched - len(self._sent) + _NOT_SENT)):
            at_us = self._not_sent[name].get_metric("time_when_commit_start")
            if at_us:
                self._sent[name] = at_us
                del self._not_sent[name]
                skipped = 0
            elif (skipped := skipped + 1) > _NOT_SENT:
                break

    def _ended(self, task: Any) -> Ended:
        name = str(task.tag)
        self._drop(name)
        fault = "" if task.result in ("success", "output missing") else f"TaskVine says {task.result}"
        sent_s = task.get_metric("time_when_commit_start") / 1e6
        ran_s = task.get_metric("time_workers_execute_last") / 1e6
        loaded_s = task.get_metric("time_when_commit_end") / 1e6
        return Ended(
            name,
            f"{task.hostname or UNNAMED}/{task.addrport or UNNAMED}",
            (sent_s, max(sent_s, loaded_s) + ran_s),
            int(task.exit_code),
            task.std_output or "",
            fault,
            task.result == "input missing",
        )

    def _drop(self, name: str) -> None:
        del self._tasks[name]
        self._not_sent.pop(name, None)
        self._sent.pop(name, None)
        self._manager.undeclare_file(self._calls.pop(name))

    def lost(self) -> Collection[str]:
        counts = worker_counts(self._manager.stats)
        if counts == self._counts:
            return ()
        self._counts = counts
        return [
            name
            for name, at_us in self._sent.items()
            if self._tasks[name].get_metric("time_when_commit_start") != at_us
        ]

    def gone(self, workers: Collection[str]) -> Collection[str]:
        counts = worker_counts(self._manager.stats)
        if counts != self._connected_at or not self._connected.issuperset(workers):
            self._connected_at = counts
            self._connected = {f"{row['hostname']}/{row['addrport']}" for row in self._manager.status("workers")}
        return set(workers) - self._connected

    def cancel(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is not None:
            self._manager.cancel_by_task_id(task.id)
            self._drop(name)

    def forget(self, path: Path, *, lost: bool = False) -> None:
        known = self._files.pop(path, None)
        if known is not None and lost:
            # It is never forgotten: TaskVine still looks at the tasks that made it, and a worker that is fetching it
            # from one that went silent crashes.
            self._look_for_remakes = True
        elif known is not None:
            self._manager.undeclare_file(known)

    def _end_remakes(self) -> None:
        """A lost file that a waiting task asks for is made again by a task of TaskVine's own, past our accounts."""
        ours = set(self._manager._task_table)
        remakes = {int(row["task_id"]) for row in self._manager.status("tasks")} - ours
        for number in remakes - self._remakes:
            self._manager.cancel_by_task_id(number)
        self._remakes, self._look_for_remakes = remakes, bool(remakes)

    def workers(self) -> tuple[tuple[WorkerKind, ...], int]:
        stats = self._manager.stats
        counts = worker_counts(stats)
        if counts != self._seen or not self._kinds:
            self._seen, self._kinds = counts, self._summary()
        free = max(0, int(stats.total_cores) - self._blocked_cores - int(stats.committed_cores))
        return share_out(self._kinds, free), int(stats.tasks_waiting)

    def _summary(self) -> tuple[WorkerKind, ...]:
        found: dict[tuple[int, int, int], int] = {}
        self._blocked_cores = 0
        for row in self._manager.status("workers"):
            key = int(row["cores_total"]), int(row["memory_total"]), int(row["disk_total"])
            if row["hostname"] in self._blocked:
                self._blocked_cores += key[0]
            elif key[0] > 0:
                found[key] = found.get(key, 0) + 1
        return kinds_of(found)

    def dismiss(self, count: int) -> int:
        # Asked for none it would end all.
        return int(self._manager.workers_shutdown(count)) if count > 0 else 0

    def block(self, host: str) -> None:
        self._manager.block_host(host)
        self._blocked.add(host)
        self._kinds = ()

    def empty(self) -> bool:
        return bool(self._manager.empty())

    def close(self) -> None:
        for name in list(self._tasks):
            self.cancel(name)
        self._manager.__del__()

    def abandon(self) -> None:
        self._manager._taskvine = None  # what its finaliser looks at
