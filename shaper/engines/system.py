"""The port between `Batch` and a batch system: what one is given, what comes back, and how it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from shaper.types import Resources, WorkerKind

UNNAMED = "?"  # a worker's host that the batch system does not name


@dataclass(frozen=True, slots=True)
class File:
    """A file of a task: what it is called here and in the task's directory.

    Args:
        kept: on the worker for later tasks.
        stays: it never leaves the workers: an output for later tasks alone, and an input of these.
    """

    here: Path
    there: str
    kept: bool = False
    stays: bool = False


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
        worker: its host and its address, as `host/address`.
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

    @property
    def host(self) -> str:
        """Of the worker, by the name that the batch system knows it under."""
        return self.worker.partition("/")[0]


class BatchSystem(Protocol):
    """The little that an engine needs of a batch system; one adapter each.

    Attributes:
        keeps: whether outputs can stay on workers.
    """

    port: int
    keeps: bool

    def submit(self, job: Job) -> None: ...

    def wait(self) -> Sequence[Ended]:
        """What has come back, waiting up to a second for the first: they know no shorter time."""

    def lost(self) -> Collection[str]:
        """Names of jobs whose worker went away, newly seen; the batch system would run them again by itself."""

    def gone(self, workers: Collection[str]) -> Collection[str]:
        """Those of the workers, as named by what came back from them, that are not connected any more."""

    def cancel(self, name: str) -> None:
        """End a job, now or when it starts; it does not come back."""

    def forget(self, path: Path, *, lost: bool = False) -> None:
        """Nobody will read this file again; `lost`: it stayed on a worker that has gone."""

    def workers(self) -> tuple[tuple[WorkerKind, ...], int]:
        """The connected workers by kind, and how many jobs wait for one."""

    def dismiss(self, count: int) -> int:
        """Tell up to so many idle workers to end; never one that has a job. Return how many were told."""

    def block(self, host: str) -> None:
        """Give no more jobs to the workers of a host; those that they have go on."""

    def empty(self) -> bool:
        """Whether it has no jobs, those that were cancelled included."""

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Touch nothing any more: this process is a fork, the workers are those of its parent."""


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
