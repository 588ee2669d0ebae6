"""Real workers of the batch systems, for tests: each in a session of its own, ended by its own handle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import pytest

from shaper.engines import password, taskvine, workqueue
from shaper.errors import EngineMissing
from tests.conftest import needs


def needs_workqueue() -> None:
    """Skip, or fail in CI, where Work Queue is not installed for this interpreter."""
    try:
        workqueue.load()
        found = shutil.which("work_queue_worker") is not None
    except EngineMissing:
        found = False
    needs(found, "Work Queue (as root: apt-get install coop-computing-tools python3-workqueue)")


def needs_taskvine() -> None:
    """Skip where TaskVine is not installed for this interpreter; `scripts/debian13` runs these tests where it is."""
    try:
        taskvine.load()
    except EngineMissing:
        needs("SHAPER_DEBIAN13" not in os.environ, "TaskVine, which the Debian 13 of scripts/debian13 should have")
        pytest.skip("TaskVine is not here; scripts/debian13 pytest runs this test in a Debian 13 that has it")


PROGRAMS = {"workqueue": "work_queue_worker", "taskvine": "vine_worker"}


def needs_engine(name: str) -> None:
    """Skip where a batch system is not here."""
    {"workqueue": needs_workqueue, "taskvine": needs_taskvine}[name]()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Worker:
    """One worker; it tries to connect until a manager listens on the port."""

    def __init__(
        self,
        program: str,
        port: int,
        folder: Path,
        *,
        cores: int = 2,
        memory_mib: int = 3000,
        more: tuple[str, ...] = ("--single-shot",),
        environment: Mapping[str, str] | None = None,
        secret: Path | None = None,
        under: tuple[str, ...] = (),
    ) -> None:
        self.program, self.port, self.cores, self.memory_mib, self.more = program, port, cores, memory_mib, more
        self.folder = folder / f"worker-{os.urandom(3).hex()}"
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"
        options = ["--cores", str(cores), "--memory", str(memory_mib), "--disk", "4000", "-s", str(self.folder)]
        options += ["-d", "all", "-o", str(self.log), "-i", "1", "-b", "2", "--password", str(secret or password.of())]
        self.process = subprocess.Popen(
            [*under, shutil.which(program) or program, *options, *more, "localhost", str(port)],
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def log_text(self) -> str:
        """What it has written down so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """A signal to the worker and all that it started in its session."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """At once."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def until(condition: Callable[[], object], timeout_s: float = 180.0) -> None:
    """Wait for a condition."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)
