"""What workers are wanted, and the command or batch script that starts one. The words are those of dask-jobqueue."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from shaper.errors import BadInput

PROGRAMS = {"workqueue": "work_queue_worker", "taskvine": "vine_worker"}
_MOST_PORT = 65535
BATCHES = ("local", "slurm", "condor", "sge", "pbs")


@dataclass(frozen=True, slots=True)
class Site:
    """What a batch system wants to know besides the size of a worker.

    Args:
        queue: partition (slurm) or queue.
        account: to charge.
        walltime: as the batch system writes it, for instance 04:00:00.
        job_extra_directives: lines that are added to the directives, without their prefix.
        job_script_prologue: shell lines that run before the worker, for instance to load a module.
        local_directory: where workers keep their files; the batch system's scratch or /tmp by default.
        log_directory: where the batch system writes what workers print.
    """

    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    job_extra_directives: Sequence[str] = ()
    job_script_prologue: Sequence[str] = ()
    local_directory: str | None = None
    log_directory: str | None = None

    def __post_init__(self) -> None:
        for field_ in fields(self):
            given = getattr(self, field_.name)
            for text in (given,) if isinstance(given, str) else given or ():
                _one_line(field_.name, text)


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers of one kind.

    Args:
        engine: `workqueue` or `taskvine`.
        manager: `HOST:PORT`, or the name under which a manager is in the catalog.
        batch: where they run: `local`, `slurm`, `condor`, `sge`, `pbs`.
        cores, memory_mib, disk_mib: of one worker.
        password_file: that of the manager; None for none.
        ssl: whether the manager wants it (TaskVine).
        idle_s: a worker without a manager or work for so long ends.
        site: what the batch system wants to know.
        environment: the tarball of one in which workers start; it must be readable where they do.
    """

    engine: str
    manager: str
    batch: str = "local"
    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int | None = None
    password_file: Path | None = None
    ssl: bool = False
    idle_s: int = 900
    site: Site = field(default_factory=Site)
    environment: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in PROGRAMS:
            raise BadInput(f"engine {self.engine!r} has no workers: use {' or '.join(map(repr, PROGRAMS))}")
        if self.batch not in BATCHES:
            raise BadInput(f"batch {self.batch!r} is not known: use {', '.join(BATCHES)}")
        if self.cores < 1 or self.memory_mib < 1:
            raise BadInput(f"a worker needs at least 1 core and 1 MiB, got {self.cores} and {self.memory_mib}")
        host, colon, port = self.manager.rpartition(":")
        is_address = host and port.isdigit() and 0 < int(port) <= _MOST_PORT
        if not (is_address or (port and not colon)):
            raise BadInput(f"manager {self.manager!r} is neither HOST:PORT nor a name")
        for name, text in (
            ("manager", self.manager),
            ("password_file", self.password_file),
            ("environment", self.environment),
        ):
            _one_line(name, str(text))
        if self.idle_s < 1:
            raise BadInput(f"workers end after a second without work at the earliest, got {self.idle_s}")
        if re.search(r"\s", self.site.local_directory or ""):
            # They hand it to a shell as it is, and end at once.
            raise BadInput(f"workers cannot use a local directory with blanks, got {self.site.local_directory!r}")


def _one_line(name: str, text: str) -> None:
    """Every option becomes a part of a line of a script; what follows a line break there would be run, or be obeyed."""
    if text.splitlines() not in ([], [text]) or "\0" in text:
        raise BadInput(f"{name} must be one line, got {text!r}; what may be given several times takes a line each time")


def command(plan: Plan) -> list[str]:
    """Return the command of one worker."""
    words = [PROGRAMS[plan.engine], "--cores", str(plan.cores), "--memory", str(plan.memory_mib)]
    if plan.disk_mib is not None:
        words += ["--disk", str(plan.disk_mib)]
    if plan.password_file is not None:
        words += ["--password", str(plan.password_file)]
    if plan.ssl:
        words.append("--ssl")
    words += ["--timeout", str(plan.idle_s)]
    if plan.site.local_directory:
        words += ["--workdir", plan.site.local_directory]
    host, _, port = plan.manager.rpartition(":")
    return [*words, host, port] if host else [*words, "-M", plan.manager]


def script(plan: Plan) -> str:
    """Return the script that a batch system runs for one worker; for condor its submit description.

    Those for slurm and for this machine are tested; those for condor, sge and pbs follow their documentation and are
    not.
    """
    if plan.batch == "condor":
        return _condor(plan)
    return "\n".join(["#!/bin/sh", *_directives(plan), *_body(plan)]) + "\n"


def _body(plan: Plan) -> list[str]:
    """The shell lines of a worker; each stands alone, so that `;` may join them."""
    words = shlex.join(command(plan))
    if plan.environment is None:
        return [*plan.site.job_script_prologue, f"exec {words}"]
    tarball = shlex.quote(str(plan.environment))
    # In the worker's own directory it could not be unpacked before the worker has made that.
    scratch = shlex.quote(plan.site.local_directory) if plan.site.local_directory else '"${TMPDIR:-/tmp}"'
    unpack = '"$environment/bin/conda-unpack"'
    return [
        *plan.site.job_script_prologue,
        f"environment=$(mktemp -d {scratch}/shaper-environment-XXXXXX) || exit 1",
        # The worker ends first, then what was unpacked for it.
        "worker=; trap 'rm -rf \"$environment\"' EXIT",
        'trap \'test "$worker" || exit 143; kill -TERM "$worker" 2>/dev/null\' TERM INT HUP',
        f'tar -xzof {tarball} -C "$environment" || exit 1',
        f'test ! -e {unpack} || "$environment/bin/python3" {unpack} || exit 1',
        'export PATH="$environment/bin:$PATH" PYTHONNOUSERSITE=1',
        "unset PYTHONHOME PYTHONPATH",
        f"{words} & worker=$!",
        'while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done',
    ]


def _directives(plan: Plan) -> list[str]:
    site, name = plan.site, "shaper-worker"
    if plan.batch == "slurm":
        wanted = [
            f"--job-name={name}",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={plan.cores}",
            f"--mem={plan.memory_mib}M",
            *([f"--partition={site.queue}"] if site.queue else []),
            *([f"--account={site.account}"] if site.account else []),
            *([f"--time={site.walltime}"] if site.walltime else []),
            f"--output={site.log_directory or '.'}/{name}-%j.log" if site.log_directory else "--output=/dev/null",
        ]
        prefix = "#SBATCH"
    elif plan.batch == "pbs":
        wanted = [
            f"-N {name}",
            f"-l select=1:ncpus={plan.cores}:mem={plan.memory_mib}MB",
            *([f"-q {site.queue}"] if site.queue else []),
            *([f"-A {site.account}"] if site.account else []),
            *([f"-l walltime={site.walltime}"] if site.walltime else []),
            *([f"-o {site.log_directory}/", f"-e {site.log_directory}/"] if site.log_directory else []),
        ]
        prefix = "#PBS"
    elif plan.batch == "sge":
        wanted = [
            f"-N {name}",
            "-cwd",
            f"-pe smp {plan.cores}",
            # Per slot, as most sites count it.
            f"-l h_vmem={-(-plan.memory_mib // plan.cores)}M",
            *([f"-q {site.queue}"] if site.queue else []),
            *([f"-P {site.account}"] if site.account else []),
            *([f"-l h_rt={site.walltime}"] if site.walltime else []),
            *([f"-o {site.log_directory}/", "-j y"] if site.log_directory else []),
        ]
        prefix = "#$"
    else:
        return []
    return [f"{prefix} {line}" for line in [*wanted, *site.job_extra_directives]]


def _condor(plan: Plan) -> str:
    site = plan.site
    body = "; ".join(_body(plan))
    # There $( ) names one of its own variables.
    quoted = body.replace("'", "''").replace('"', '""').replace("$(", "$(DOLLAR)(")
    lines = [
        "universe = vanilla",
        "executable = /bin/sh",
        f"arguments = \"-c '{quoted}'\"",
        f"request_cpus = {plan.cores}",
        f"request_memory = {plan.memory_mib}",
        *([f"request_disk = {plan.disk_mib * 1024}"] if plan.disk_mib is not None else []),
        *([f"accounting_group = {site.account}"] if site.account else []),
        *([f"+MaxRuntime = {_seconds(site.walltime)}"] if site.walltime else []),
        *([f"output = {site.log_directory}/shaper-worker-$(Cluster).log"] if site.log_directory else []),
        "getenv = true",
        *site.job_extra_directives,
        "queue 1",
    ]
    return "\n".join(lines) + "\n"


def _seconds(walltime: str) -> int:
    try:
        parts = [int(part) for part in walltime.replace("-", ":").split(":")]
    except ValueError:
        raise BadInput(f"walltime {walltime!r} is no time like 04:00:00") from None
    total = 0
    for part in parts:
        total = total * 60 + part
    return total
