"""Real workers for the benchmarks: each in a session of its own, killed whole, watched as a batch system would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shaper.engines import password
from shaper.monitor import sample
from shaper.workers.plan import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]


def own_password(folder: Path) -> Path:
    """Make a password for the managers and workers of this benchmark; this process and what it starts find it."""
    path = folder / "password"
    path.write_text(os.urandom(16).hex())
    path.chmod(0o600)
    os.environ["SHAPER_PASSWORD_FILE"] = str(path)
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Worker:
    """One worker; it tries once a second to connect until a manager listens on the port."""

    def __init__(self, engine: str, port: int, folder: Path, *, cores: int = 2, memory_mib: int = 4000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = [PROGRAMS[engine], "--cores", str(cores), "--memory", str(memory_mib), "--disk", "8000"]
        words += ["-s", str(folder), "-i", "1", "-b", "1", "--password", str(password.of()), "localhost", str(port)]
        quiet = subprocess.DEVNULL
        # Coffea's tasks import the user's modules, which lie here.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, env=environment
        )

    def end(self) -> None:
        """SIGKILL to all of its session: with its transfer server, which would outlive it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def end_all(pids: Sequence[int]) -> None:
    """SIGKILL to processes and all below them."""
    for pid in [below for top in pids for below in (top, *sample.descendants(top))]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def used_mib(pids: Sequence[int], enough_mib: float) -> float:
    """Memory of processes, what they share counted once; exactly only where it may be more than `enough_mib`."""
    most = sample.total_rss_mib(pids)
    return most if most <= enough_mib else sample.total_pss_mib(pids)
