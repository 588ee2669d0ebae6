"""A Slurm of four virtual nodes on this machine, for tests of workers and outages; needs root and Debian packages."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.conftest import needs
from tests.engines.workers import free_port, until

NODES = 4
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONF = """
ClusterName=shaper
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MpiDefault=none
ReturnToService=1
KillWait=2
{nodes}
PartitionName=long Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The daemons, each ended by its own handle."""

    def __init__(self, folder: Path, cores: int = 2, memory_mib: int = 4000) -> None:
        missing = [
            name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_PATH) is None
        ]
        needs(not missing and os.geteuid() == 0, f"a virtual Slurm (root; Debian's slurmctld slurmd munge): {missing}")
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)
        (folder / "state").mkdir()
        lines = [
            f"NodeName=n{number} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={free_port()} "
            f"CPUs={cores} RealMemory={memory_mib} State=UNKNOWN"
            for number in range(1, NODES + 1)
        ]
        self.conf = folder / "slurm.conf"
        host = socket.gethostname()
        text = _CONF.format(host=host, controller=free_port(), folder=folder, nodes="\n".join(lines))
        self.conf.write_text(text)
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": _PATH}

    def __enter__(self) -> Slurm:
        try:
            key = self.folder / "munge.key"
            key.write_bytes(os.urandom(128))
            key.chmod(0o400)
            names = {"key-file": key, "socket": self.folder / "munge.socket", "pid-file": self.folder / "munge.pid"}
            names |= {"log-file": self.folder / "munge.log", "seed-file": self.folder / "munge.seed"}
            # Its folders belong to root, and are open to all, as a test's are.
            self._start("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in names.items()))
            until((self.folder / "munge.socket").exists)
            self._start("slurmctld", "-D")
            for number in range(1, NODES + 1):
                self._start("slurmd", "-D", "-N", f"n{number}")
            until(lambda: self.run("sinfo", "--noheader", "--format=%D %t").split() == [str(NODES), "idle"])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self, *words: str) -> None:
        log = (self.folder / f"{words[0]}-{len(self.processes)}.out").open("wb")
        with log:
            self.processes.append(
                subprocess.Popen(
                    words,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def run(self, *words: str) -> str:
        """What one of Slurm's commands prints; nothing where it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout

    def jobs(self) -> Sequence[str]:
        """Ids of running jobs."""
        return self.run("squeue", "--noheader", "--states=RUNNING", "--format=%A").split()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.jobs():
            self.run("scancel", "--signal=KILL", "--full", job)
        end_s = time.monotonic() + 5
        while self.jobs() and time.monotonic() < end_s:
            time.sleep(0.05)
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
