"""Kills for the chaos tests: run a script, kill its task processes or itself at random moments, and count the kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass
class Kills:
    """What was really killed."""

    tasks: int = 0
    managers: int = 0


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, parents first; processes that end meanwhile are left out."""
    found = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            threads = list(Path(f"/proc/{parent}/task").iterdir())
            children = [int(c) for t in threads for c in (t / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += children
        queue += children
    return found


def leaves(pid: int) -> list[int]:
    """Descendants without children of their own: the processes that run tasks, or wait for one."""
    every = descendants(pid)
    return [child for child in every if not descendants(child)]


def run_with_kills(
    script: list[str], seed: int, *, spare_s: float = 0.0, deadline_s: float = 180.0
) -> tuple[str, Kills]:
    """Run a script until it ends by itself, killing at random; a killed manager is started again.

    Nothing is killed in the first `spare_s` of a manager. Kills become rarer, so that the run ends. Returns what
    the last process printed.
    """
    rng = random.Random(seed)
    kills = Kills()
    end = time.monotonic() + deadline_s
    while True:
        # Files, not pipes: nobody reads while it runs, and a full pipe would stop it.
        out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        manager = subprocess.Popen(
            [sys.executable, *script], cwd=ROOT, stdout=out, stderr=err, text=True, start_new_session=True
        )
        try:
            _wait(manager, spare_s)
            while manager.poll() is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"not finished after {deadline_s} s and {kills}")
                try:
                    manager.wait(rng.expovariate(1.0) * (0.15 + 0.15 * (kills.tasks + 2 * kills.managers)))
                except subprocess.TimeoutExpired:
                    if rng.random() < 0.3 and kills.managers < 3:
                        manager.kill()
                        kills.managers += 1
                        manager.wait()
                    else:
                        kills.tasks += _kill_one(leaves(manager.pid), rng)
        finally:
            if manager.poll() is None:
                manager.kill()
                manager.wait()
        said = [(file.seek(0), file.read(), file.close())[1] for file in (out, err)]
        if manager.returncode == 0:
            return said[0], kills
        if manager.returncode != -signal.SIGKILL:
            raise AssertionError(f"exit {manager.returncode} after {kills}: {said[1][-2000:]}")


def _wait(manager: subprocess.Popen[str], seconds: float) -> None:
    try:
        manager.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _kill_one(pids: list[int], rng: random.Random) -> int:
    if not pids:
        return 0
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
