"""The simulated cluster's parts: workers, where a task fits, and a source whose bandwidth all readers share."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from shaper.errors import BadInput
from shaper.types import Resources, TaskId


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Workers of one kind.

    Args:
        cores, memory_mib, disk_mib: of each.
        count: how many.
        joins_s: when they connect.
        leaves_s: when they disconnect; never by default.
        lifetime_mean_s: mean of exponential lifetimes that begin when a worker connects.
        speed: run times are divided by it.
        name: of the kind, for instance `4x8000`.
        rejoin_s: a worker whose lifetime ended is replaced after so long; never by default.
    """

    cores: int
    memory_mib: int
    count: int
    joins_s: float = 0.0
    leaves_s: float | None = None
    lifetime_mean_s: float | None = None
    speed: float = 1.0
    disk_mib: int | None = None
    name: str | None = None
    rejoin_s: float | None = None

    def __post_init__(self) -> None:
        if self.cores < 1 or self.memory_mib < 1 or self.count < 1 or self.speed <= 0:
            raise BadInput(f"workers need at least 1 core, 1 MiB, a count of 1 and a speed over 0, got {self}")
        if self.leaves_s is not None and self.leaves_s <= self.joins_s:
            raise BadInput(f"workers must leave after they join, got {self}")

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return self.name or f"{self.cores}x{self.memory_mib}"


@dataclass(slots=True)
class Worker:
    """One connected worker and what it has free."""

    number: int
    spec: WorkerSpec
    cores: int
    memory_mib: int
    tasks: dict[TaskId, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For instance `4x8000/17`."""
        return f"{self.spec.kind}/{self.number}"


class Pool:
    """The connected workers of one kind, found by what they have free: best fit, O(log n) apart from moving a list."""

    def __init__(self, cores: int) -> None:
        self._by_cores: list[list[tuple[int, int]]] = [[] for _ in range(cores + 1)]  # (free memory, number), sorted
        self.workers: dict[int, Worker] = {}
        self.free_cores = 0

    def add(self, worker: Worker) -> None:
        """A worker connects."""
        self.workers[worker.number] = worker
        self.free_cores += worker.cores
        insort(self._by_cores[worker.cores], (worker.memory_mib, worker.number))

    def remove(self, worker: Worker) -> None:
        """A worker disconnects."""
        del self.workers[worker.number]
        self.free_cores -= worker.cores
        self._unlist(worker)

    def _unlist(self, worker: Worker) -> None:
        rows = self._by_cores[worker.cores]
        del rows[bisect_left(rows, (worker.memory_mib, worker.number))]

    def fitting(self, given: Resources) -> Worker | None:
        """The worker with the fewest free cores, then the least free memory, that holds these resources."""
        if self.free_cores < given.cores:
            return None
        for rows in self._by_cores[given.cores :]:
            if rows and rows[-1][0] >= given.memory_mib:
                return self.workers[rows[bisect_left(rows, (given.memory_mib, 0))][1]]
        return None

    def change(self, worker: Worker, given: Resources, sign: int) -> None:
        """Take (`sign` 1) or give back (-1) resources of a worker."""
        self._unlist(worker)
        worker.cores -= sign * given.cores
        worker.memory_mib -= sign * given.memory_mib
        self.free_cores -= sign * given.cores
        insort(self._by_cores[worker.cores], (worker.memory_mib, worker.number))


class SharedSource:
    """A data source whose bandwidth is shared equally by all who read: a fluid model with a virtual service clock.

    The clock counts the bytes that each reader has got since the beginning; it runs at bandwidth / readers, so a reader
    is done when the clock has gone on by its bytes, whoever joins or leaves. Every change costs O(log readers).
    """

    def __init__(self, bandwidth_bytes_per_s: float) -> None:
        if bandwidth_bytes_per_s <= 0:
            raise BadInput(f"bandwidth must be more than zero, got {bandwidth_bytes_per_s}")
        self.bandwidth = bandwidth_bytes_per_s
        self._clock = 0.0
        self._at_s = 0.0
        self._done_at: list[tuple[float, TaskId]] = []
        self._readers: dict[TaskId, float] = {}

    def _advance(self, now_s: float) -> None:
        if self._readers:
            self._clock += (now_s - self._at_s) * self.bandwidth / len(self._readers)
        self._at_s = now_s

    def start(self, task_id: TaskId, size_bytes: float, now_s: float) -> None:
        """A reader begins."""
        self._advance(now_s)
        self._readers[task_id] = self._clock + size_bytes
        heapq.heappush(self._done_at, (self._clock + size_bytes, task_id))

    def stop(self, task_ids: Iterable[TaskId], now_s: float) -> None:
        """Readers leave before they are done."""
        self._advance(now_s)
        for task_id in task_ids:
            self._readers.pop(task_id, None)

    def next_done_s(self) -> float | None:
        """When the next reader is done if nothing changes; None without readers."""
        while self._done_at and self._readers.get(self._done_at[0][1]) != self._done_at[0][0]:
            heapq.heappop(self._done_at)
        if not self._done_at:
            return None
        return self._at_s + max(0.0, self._done_at[0][0] - self._clock) * len(self._readers) / self.bandwidth

    def finish(self, now_s: float) -> list[TaskId]:
        """Remove and return the readers that are done now."""
        self._advance(now_s)
        done = []
        slack = 1e-9 * max(1.0, self._clock)
        while self._done_at and (
            self._done_at[0][0] <= self._clock + slack or self._readers.get(self._done_at[0][1]) != self._done_at[0][0]
        ):
            at, task_id = heapq.heappop(self._done_at)
            if self._readers.get(task_id) == at:
                del self._readers[task_id]
                done.append(task_id)
        return done
