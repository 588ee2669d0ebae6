"""Kills for the chaos tests of batch systems: workers, their warm servers, the manager; counted when they happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import ROOT
from tests.engines.workers import PROGRAMS, Worker, free_port

ACTIONS = ("worker killed", "worker ended", "worker stopped", "server killed", "manager killed")
_STOPPED_S, _ENDS_S = 1.0, 5.0


def servers(folder: Path) -> list[int]:
    """Warm servers whose home lies below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"shaper.monitor.worker_server" in b" ".join(words) and any(os.fsencode(folder) in word for word in words):
            found.append(int(path.parent.name))
    return found


class Churn:
    """Two workers that are replaced when they are gone, and a manager that is started again when it was killed."""

    def __init__(self, engine: str, script: list[str], folder: Path, seed: int, actions: tuple[str, ...]) -> None:
        self.engine, self.folder, self.actions = engine, folder, actions
        self.rng = random.Random(seed)
        self.port = free_port()
        self.script = [*script, engine, str(self.port)]
        self.done: Counter[str] = Counter()
        self.workers: list[Worker] = []

    def run(self, deadline_s: float) -> str:
        """Until the manager ends by itself; return what it printed."""
        end_s = time.monotonic() + deadline_s
        with ExitStack() as stack:
            stack.callback(lambda: [worker.end() for worker in self.workers])
            while True:
                out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
                manager = subprocess.Popen(
                    [sys.executable, *self.script], cwd=ROOT, stdout=out, stderr=err, text=True, start_new_session=True
                )
                try:
                    self._disturb(manager, end_s)
                finally:
                    if manager.poll() is None:
                        manager.kill()
                        manager.wait()
                out.seek(0)
                err.seek(0)
                if manager.returncode == 0:
                    return out.read()
                if manager.returncode != -signal.SIGKILL:
                    raise AssertionError(f"exit {manager.returncode} after {dict(self.done)}: {err.read()[-2000:]}")

    def _disturb(self, manager: subprocess.Popen[str], end_s: float) -> None:
        while manager.poll() is None:
            if time.monotonic() > end_s:
                raise TimeoutError(f"not finished after {dict(self.done)}")
            self.workers = [worker for worker in self.workers if worker.process.poll() is None]
            while len(self.workers) < 2:
                self.workers.append(Worker(PROGRAMS[self.engine], self.port, self.folder, cores=2, more=()))
            try:
                # Rarer and rarer, so that it ends.
                manager.wait(self.rng.expovariate(1.0) * (0.6 + 0.6 * self.done.total()))
            except subprocess.TimeoutExpired:
                self._do(self.rng.choice(self.actions), manager)

    def _do(self, action: str, manager: subprocess.Popen[str]) -> None:
        worker = self.rng.choice(self.workers)
        if action == "worker killed":
            worker.end()
        elif action == "worker ended":
            worker.send(signal.SIGTERM)
            try:
                worker.process.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                worker.end()  # one that is about to connect may not listen to signals for a minute
        elif action == "worker stopped":
            worker.send(signal.SIGSTOP)
            time.sleep(_STOPPED_S)
            worker.send(signal.SIGCONT)
        elif action == "server killed":
            here = servers(worker.folder)
            if not here:
                return
            os.kill(here[0], signal.SIGKILL)
        elif self.done[action] >= 2:
            return
        else:
            manager.kill()
            manager.wait()
        self.done[action] += 1
