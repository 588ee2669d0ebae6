"""The workers that were started for one manager, written down so that a later command finds them."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shaper.engines.local import available_mib
from shaper.errors import SiteError
from shaper.units import show_mib
from shaper.workers import batch as batches
from shaper.workers.plan import PROGRAMS, Plan, script
from shaper.workers.watch import Watched

_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """One worker.

    Args:
        job: id of the batch job; of a local worker its process id.
        since: of a local worker, when the process started, so that another of the same id is not taken for it.
    """

    batch: str
    job: str
    cores: int
    memory_mib: int
    since: str = ""


def home() -> Path:
    """Where pools are written down by default."""
    return Path(os.environ.get("SHAPER_HOME", Path.home() / ".shaper")) / "workers"


class Pool:
    """Workers for one manager.

    Args:
        manager: as in a Plan.
        folder: where pools are written down; `~/.shaper/workers` by default.
    """

    def __init__(self, manager: str, folder: Path | None = None) -> None:
        self.manager = manager
        self.home = folder or home()
        self.path = self.home / (manager.replace("/", "_").replace(":", "-") + ".json")

    @classmethod
    def all(cls, folder: Path | None = None) -> list[Pool]:
        """Every pool that is written down."""
        folder = folder or home()
        found = []
        for path in sorted(folder.glob("*.json")):
            with suppress(FileNotFoundError):  # its last worker has just ended
                found.append(cls(str(_content(path)["manager"]), folder))
        return found

    @contextmanager
    def _held(self) -> Iterator[list[Started]]:
        """The list of workers, for this process alone; written back at the end."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read()
            yield known
            if known:
                part = self.path.with_suffix(".part")
                part.write_text(
                    json.dumps({"manager": self.manager, "workers": [asdict(one) for one in known]}, indent=1)
                )
                part.rename(self.path)
            else:
                self.path.unlink(missing_ok=True)

    def _read(self) -> list[Started]:
        try:
            return list(_content(self.path)["workers"])
        except FileNotFoundError:
            return []

    def start(self, plan: Plan, count: int, watch: list[Watched] | None = None) -> list[Started]:
        """Start so many workers more; return them.

        Args:
            watch: local ones are added, for a look at how they begin.

        Raises:
            SiteError: the worker's program or the batch system is not there, or refuses.
        """
        new: list[Started] = []
        with self._held() as known:
            try:
                local = plan.batch == "local"
                new.extend(_start_local(plan, watch) if local else self._submit(plan) for _ in range(count))
            finally:
                known += new  # also those before one that was refused
        return new

    def _submit(self, plan: Plan) -> Started:
        text = script(plan)
        path = self.home / f"{plan.batch}-worker"
        path.write_text(text)
        job = batches.submit(plan.batch, text, str(path))
        return Started(plan.batch, job, plan.cores, plan.memory_mib)

    def alive(self) -> list[Started]:
        """Workers that run or wait in a queue; those that are gone are forgotten."""
        with self._held() as known:
            known[:] = alive(known)
            return list(known)

    def stop(self, count: int | None = None) -> int:
        """End so many workers, the youngest first; all by default. Return how many."""
        here = self.alive()
        return self.end(here if count is None else here[max(0, len(here) - count) :])

    def end(self, workers: Collection[Started]) -> int:
        """End these; return how many of them there still were."""
        with self._held() as known:
            here = alive(known)
            ending = [one for one in here if one in workers]
            for batch in {one.batch for one in ending}:
                own = [one for one in ending if one.batch == batch]
                if batch == "local":
                    _end_local(own)
                else:
                    batches.cancel(batch, [one.job for one in own])
            known[:] = [one for one in here if one not in ending]
        return len(ending)


def _content(path: Path) -> dict[str, Any]:
    """What is written down of a pool."""
    try:
        said = json.loads(path.read_text())
        return {"manager": said["manager"], "workers": [Started(**entry) for entry in said["workers"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise SiteError(f"{path} cannot be read ({error}): remove it; its workers end when they idle") from error


def alive(workers: Sequence[Started]) -> list[Started]:
    """Those that run or wait in a queue."""
    return _found(workers, running=False)


def running(workers: Sequence[Started]) -> list[Started]:
    """Those that run."""
    return _found(workers, running=True)


def _found(workers: Sequence[Started], *, running: bool) -> list[Started]:
    found = set()
    for batch in {one.batch for one in workers}:
        own = [one for one in workers if one.batch == batch]
        if batch == "local":
            found |= {one.job for one in own if started_at(int(one.job)) == one.since}
        else:
            found |= batches.alive(batch, [one.job for one in own], getpass.getuser(), running=running)
    return [one for one in workers if one.job in found]


def _start_local(plan: Plan, watch: list[Watched] | None) -> Started:
    program = PROGRAMS[plan.engine]
    if shutil.which(program) is None:
        raise SiteError(
            f"{program} is not there: install what the {plan.engine} engine needs, on every machine of workers"
        )
    where = plan.site.local_directory
    if where is not None and not Path(where).is_dir():
        raise SiteError(f"workers cannot start in {where}: it is no directory")
    # Without a name: it is gone when the worker and those who watch it are.
    output = tempfile.TemporaryFile() if watch is not None else None  # noqa: SIM115  # others read it
    process = subprocess.Popen(
        ["/bin/sh", "-c", script(plan)],
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if watch is not None and output is not None:
        watch.append(Watched(process, output))
    return Started("local", str(process.pid), plan.cores, plan.memory_mib, started_at(process.pid) or "")


def too_many(plan: Plan, count: int) -> list[str]:
    """Say where so many local workers are more than the machine: they believe what is declared, and fill it."""
    cores, memory_mib = len(os.sched_getaffinity(0)), available_mib()
    said = []
    if count * plan.cores > cores:
        said.append(f"{count} workers of {plan.cores} cores: this machine has {cores}")
    if count * plan.memory_mib > memory_mib:
        many = f"{count} workers of {show_mib(plan.memory_mib)}: {show_mib(memory_mib)} are available here"
        said.append(f"{many}, the system may kill tasks")
    return said


def _end_local(workers: Sequence[Started]) -> None:
    """SIGTERM to the session of each, SIGKILL to what is left after a while."""
    for number, wait_s in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        left = [one for one in workers if started_at(int(one.job)) == one.since]
        for one in left:
            try:
                os.killpg(int(one.job), number)
            except ProcessLookupError:
                continue
        end_s = time.monotonic() + wait_s
        while left and time.monotonic() < end_s:
            _bury(left)
            left = [one for one in left if started_at(int(one.job)) == one.since]
            time.sleep(0.02)


def _bury(workers: Sequence[Started]) -> None:
    """Workers that this very process has started would stay as zombies."""
    for one in workers:
        with suppress(ChildProcessError):
            os.waitpid(int(one.job), os.WNOHANG)


def started_at(pid: int) -> str | None:
    """When a process started; None where it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
