"""A cluster in virtual time: thousands of workers on a laptop, the same to the byte for the same seed.

What a task would use if it were not limited is given by a cost function. Everything else is modelled here: one manager
that dispatches serially, slots, limits, workers that join and leave, losses, and bandwidth that readers share.
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from shaper.engines.cluster import Pool, SharedSource, Worker, WorkerSpec
from shaper.engines.patience import holds
from shaper.errors import BadInput, Damaged, Stalled
from shaper.types import (
    Cancel,
    Capacity,
    Chunk,
    Code,
    Merge,
    Observation,
    Outcome,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
    Usage,
    WorkerKind,
)
from shaper.units import show_mib

Cost = Callable[[Task, Any], Usage]

# How many queued tasks that do not fit are passed before the rest of the queue waits; bounds the work of an event.
_PASSED_AT_MOST = 16
# An attempt that finds the data source away ends after so long.
_FAILS_AFTER_S = 1.0

_FINISH, _READ, _JOIN, _LEAVE, _WAKE = range(5)


@dataclass(slots=True)
class _Running:
    task: Task
    worker: Worker
    submitted_s: float
    started_s: float
    usage: Usage
    outcome: Outcome
    held_s: float  # after reading, until it ends
    detail: str


class Simulated:
    """The simulated engine.

    Args:
        workers: what connects, and when.
        cost: `cost(task, rng)` returns what the task would use if not limited: `wall_s` at the task's cores, before
            speed and bandwidth; memory ramps up linearly to its peak, so an exhausted task dies part-way. `rng` is a
            numpy Generator derived from the seed, the work and the attempt.
        seed: of everything random.
        dispatch_s: the one manager is busy so long for each task, one after the other.
        slot_overhead_s: a slot is held so much longer than the task runs.
        bandwidth: bytes per second that all readers share; `Usage.read_bytes` are read before a task computes.
        loss_rate: share of the attempts that are lost part-way.
        grace_s: how long it is worth waiting for a larger worker than those that are connected.
        keeps_results: results that need not be durable stay on their workers, and are lost with them.
        away: when the data source is away, from and until when: what starts then raises an I/O error a second later.
    """

    name = "simulated"

    def __init__(
        self,
        workers: Sequence[WorkerSpec],
        cost: Cost,
        seed: int = 0,
        *,
        dispatch_s: float = 0.0,
        slot_overhead_s: float = 0.0,
        bandwidth: float | None = None,
        loss_rate: float = 0.0,
        grace_s: float = 0.0,
        keeps_results: bool = False,
        away: Sequence[tuple[float, float]] = (),
    ) -> None:
        if not workers:
            raise BadInput("a simulated cluster needs at least one WorkerSpec")
        if not 0 <= loss_rate < 1:
            raise BadInput(f"loss_rate is a share from 0 to less than 1, got {loss_rate}")
        self.run_dir: Path | None = None
        self.cost, self.seed = cost, seed
        self.dispatch_s, self.slot_overhead_s, self.loss_rate = dispatch_s, slot_overhead_s, loss_rate
        self.away = tuple(away)
        self._source = SharedSource(bandwidth) if bandwidth is not None else None
        self.grace_s = grace_s
        self._idle_since_s: float | None = None  # since when nothing can happen by itself
        self._now_s = 0.0
        self._dispatcher_free_s = 0.0
        self._woken = False
        self._events: list[tuple[float, int, int, Any]] = []
        self._sequence = 0
        self._pools: dict[str, Pool] = {}
        self._kinds: dict[str, WorkerSpec] = {}
        self._queue: deque[tuple[Task, float]] = deque()
        self._aside: list[tuple[Task, float]] = []  # what no connected worker can hold, until one joins
        self._running: dict[TaskId, _Running] = {}
        self._ended: list[Observation | ResultLost] = []
        self._kept: dict[TaskId, int] | None = {} if keeps_results else None  # by result the number of its worker
        self._results: dict[TaskId, int] = {}
        self._sources: dict[str, int] = {}
        self._capacity: Capacity | None = None
        self._joins_left = 0
        self._workers = 0
        self._workers_seen = 0  # counts joins and leaves
        self._reads_due_s: float | None = None
        self._random = _Random()
        self._lifetimes = _Random()([seed, 1])
        for spec in workers:
            known = self._kinds.setdefault(spec.kind, spec)
            if (known.cores, known.memory_mib) != (spec.cores, spec.memory_mib):
                raise BadInput(f"two kinds of workers are named {spec.kind!r}")
            if spec.kind not in self._pools:
                self._pools[spec.kind] = Pool(spec.cores)
            for _ in range(spec.count):
                self._join_later(spec, spec.joins_s)
        self._advance_to(0.0)

    @property
    def now_s(self) -> float:
        """The virtual clock."""
        return self._now_s

    def open(self, stage: str, code: Code | None) -> None:
        """Nothing to ship: a result's value is the number of elements it stands for."""

    # -- capacity and queue --------------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """The connected workers by kind."""
        if self._capacity is None:
            self._capacity = Capacity(
                tuple(
                    WorkerKind(name, spec.cores, spec.memory_mib, len(pool.workers), spec.disk_mib, pool.free_cores)
                    for name, pool in self._pools.items()
                    for spec in [self._kinds[name]]
                    if pool.workers
                ),
                len(self._queue) + len(self._aside),
                self.grace_s,
            )
        return self._capacity

    def holes(self) -> Sequence[tuple[int, int]]:
        """Start what fits, and return the cores of each worker and how many are free then."""
        self._place()
        return [(worker.spec.cores, worker.cores) for pool in self._pools.values() for worker in pool.workers.values()]

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append((task, self._now_s))
        self._capacity = None

    def _queued(self) -> Iterator[tuple[Task, float]]:
        return chain(self._queue, self._aside)

    def _place(self) -> None:
        """Start queued tasks that fit, in order; a few that do not fit now are passed, and all that no worker can hold.

        The manager starts one at a time.
        """
        passed: list[tuple[Task, float]] = []
        queue, there = self._queue, self.capacity()  # kept as of now: what is taken out below still waits
        while queue and len(passed) < _PASSED_AT_MOST:
            if self._dispatcher_free_s > self._now_s:
                if not self._woken:
                    self._woken = True
                    self._push(self._dispatcher_free_s, _WAKE, None)
                break
            task, submitted_s = queue.popleft()
            worker = self._worker_for(task)
            if worker is None and not holds(there, task.resources):
                self._aside.append((task, submitted_s))
            elif worker is None:
                passed.append((task, submitted_s))
                if not any(pool.free_cores for pool in self._pools.values()):
                    break
            else:
                self._start(task, submitted_s, worker)
        queue.extendleft(reversed(passed))

    def _worker_for(self, task: Task) -> Worker | None:
        if task.worker_kind is not None:
            pool = self._pools.get(task.worker_kind)
            return pool.fitting(task.resources) if pool is not None else None
        best: Worker | None = None
        for pool in self._pools.values():
            found = pool.fitting(task.resources)
            if found is not None and (best is None or found.memory_mib < best.memory_mib):
                best = found
        return best

    def _start(self, task: Task, submitted_s: float, worker: Worker) -> None:
        self._pools[worker.spec.kind].change(worker, task.resources, 1)
        self._capacity = None
        worker.tasks[task.id] = None
        started_s = self._dispatcher_free_s = self._now_s + self.dispatch_s
        rng = self._random(self._entropy(task))
        wanted = self.cost(task, rng)
        usage, outcome, detail = _limited(task, wanted, worker.spec)
        held_s = (usage.wall_s or 0.0) + self.slot_overhead_s
        if self.loss_rate and rng.random() < self.loss_rate:
            outcome, detail, held_s = Outcome.LOST, "lost, as the loss rate wants it", held_s * rng.random()
            usage = replace(usage, memory_mib=None, disk_mib=None, cpu_s=None, result_bytes=None, wall_s=None)
        if isinstance(task.work, Chunk) and any(start_s <= started_s < stop_s for start_s, stop_s in self.away):
            outcome, detail, held_s = Outcome.FAILED, "OSError: the data source is away", _FAILS_AFTER_S
            usage = Usage(wall_s=held_s)
        running = _Running(task, worker, submitted_s, started_s, usage, outcome, held_s, detail)
        self._running[task.id] = running
        if self._source is not None and usage.read_bytes:
            self._push(started_s, _READ, task.id)
        else:
            self._push(started_s + held_s, _FINISH, task.id)

    def _entropy(self, task: Task) -> list[int]:
        """Of the seed, the work and the attempt; not of ids, so that a piece costs the same whenever it is cut."""
        work = task.work
        if isinstance(work, Chunk):
            first = work.spans[0]
            number = self._sources.get(first.source.id)
            if number is None:
                number = self._sources[first.source.id] = zlib.crc32(first.source.id.encode())
            return [self.seed, number, first.start, work.elements, task.attempt]
        return [self.seed, zlib.crc32(" ".join(work.inputs).encode()), work.elements, task.attempt]

    # -- time ----------------------------------------------------------------------------------------------------

    def _push(self, at_s: float, kind: int, payload: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (at_s, self._sequence, kind, payload))

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Go on to the next instant at which something ends or the workers change, but not beyond `timeout_s`.

        Raises:
            Stalled: nothing can ever happen again.
        """
        until_s = self._now_s + timeout_s
        self._place()
        workers = self._workers_seen
        while not self._ended and self._workers_seen == workers:
            at_s = self._next_s()
            if at_s is None:
                self._idle_since_s = self._now_s if self._idle_since_s is None else self._idle_since_s
                # A policy that waits for a larger worker as long as it is worth it takes its tasks back before.
                if self._now_s - self._idle_since_s >= 2.0 * self.grace_s:
                    self._check_stalled()
                self._now_s = until_s
                break
            self._idle_since_s = None
            if at_s > until_s:
                self._now_s = until_s
                break
            self._advance_to(at_s)
            self._place()
        ended, self._ended = self._ended, []
        return ended

    def _next_s(self) -> float | None:
        due = self._source.next_done_s() if self._source is not None else None
        at_s = self._events[0][0] if self._events else None
        if due is not None and (at_s is None or due < at_s):
            return due
        return at_s

    def _advance_to(self, at_s: float) -> None:
        """Let everything happen that is due at `at_s`."""
        self._now_s = max(self._now_s, at_s)
        if self._source is not None:
            for task_id in self._source.finish(self._now_s):
                self._push(self._now_s + self._running[task_id].held_s, _FINISH, task_id)
        events = self._events
        while events and events[0][0] <= self._now_s:
            _, _, kind, payload = heapq.heappop(events)
            if kind == _FINISH:
                running = self._running.get(payload)
                if running is not None:
                    self._end(running, running.outcome, running.usage, running.detail)
            elif kind == _READ:
                reading = self._running.get(payload)
                if reading is not None and self._source is not None:
                    self._source.start(payload, reading.usage.read_bytes or 0, self._now_s)
            elif kind == _WAKE:
                self._woken = False
            elif kind == _JOIN:
                self._join(payload)
            else:
                self._leave(payload)

    def _end(self, running: _Running, outcome: Outcome, usage: Usage | None, detail: str) -> None:
        task, worker = running.task, running.worker
        del self._running[task.id]
        if worker.tasks.pop(task.id, 0) is None:
            self._pools[worker.spec.kind].change(worker, task.resources, -1)
        self._capacity = None
        ref = None
        if outcome is Outcome.DONE:
            self._results[task.id] = task.work.elements
            if self._kept is not None and not task.durable:
                self._kept[task.id] = worker.number
                ref = ResultRef(
                    worker.name, (usage.result_bytes if usage is not None else None) or 0, "", durable=False
                )
        started_s = running.started_s if running.started_s <= self._now_s else None
        self._ended.append(
            Observation(
                task,
                outcome,
                usage,
                running.submitted_s,
                started_s,
                self._now_s,
                worker.name,
                detail,
                ref,
                io_error=outcome is Outcome.FAILED,
            )
        )

    def _check_stalled(self) -> None:
        if self._joins_left:
            return
        if self._aside or self._queue:
            task = (self._aside or self._queue)[0][0]
            raise Stalled(
                f"task {task.id} ({task.work}) asks for {task.resources.cores} cores and "
                f"{show_mib(task.resources.memory_mib)}, which no worker has or will have"
            )
        if not any(pool.workers for pool in self._pools.values()):
            raise Stalled("every worker has left and none will come")

    # -- workers -------------------------------------------------------------------------------------------------

    def _join_later(self, spec: WorkerSpec, at_s: float) -> None:
        self._joins_left += 1
        self._push(at_s, _JOIN, spec)

    def _join(self, spec: WorkerSpec) -> None:
        self._joins_left -= 1
        self._workers += 1
        self._workers_seen += 1
        worker = Worker(self._workers, spec, spec.cores, spec.memory_mib)
        self._pools[spec.kind].add(worker)
        self._queue.extendleft(reversed(self._aside))
        self._aside.clear()
        self._capacity = None
        if spec.leaves_s is not None:
            self._push(spec.leaves_s, _LEAVE, worker)
        if spec.lifetime_mean_s is not None:
            self._push(self._now_s + self._lifetimes.exponential(spec.lifetime_mean_s), _LEAVE, worker)

    def _leave(self, worker: Worker) -> None:
        pool = self._pools[worker.spec.kind]
        if pool.workers.get(worker.number) is not worker:
            return
        pool.remove(worker)
        self._capacity = None
        self._workers_seen += 1
        lost = list(worker.tasks)
        worker.tasks.clear()
        if self._source is not None:
            self._source.stop(lost, self._now_s)
        for task_id in lost:
            self._end(self._running[task_id], Outcome.LOST, None, f"its worker {worker.name} left")
        self._lose_results(worker)
        spec = worker.spec
        if spec.rejoin_s is not None and (spec.leaves_s is None or self._now_s + spec.rejoin_s < spec.leaves_s):
            self._join_later(spec, self._now_s + spec.rejoin_s)

    def _lose_results(self, worker: Worker) -> None:
        """What lies on a worker goes with it; merges that need it end."""
        if not self._kept:
            return
        gone = [task_id for task_id, number in self._kept.items() if number == worker.number]
        if not gone:
            return
        self.release(gone)
        self._ended.append(ResultLost(tuple(gone)))
        in_flight = [running.task for running in self._running.values()] + [task for task, _ in self._queued()]
        lost = frozenset(gone)
        reason = f"a result it merges left with {worker.name}"
        merges = {
            task.id: reason
            for task in in_flight
            if isinstance(task.work, Merge) and not lost.isdisjoint(task.work.inputs)
        }
        self._end_early(merges, Outcome.LOST)

    # -- the rest of the interface -------------------------------------------------------------------------------

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take tasks back at once."""
        if actions:
            self._end_early({action.task_id: action.reason for action in actions}, Outcome.CANCELLED)

    def _end_early(self, reasons: Mapping[TaskId, str], outcome: Outcome) -> None:
        for task, submitted_s in self._queued():
            if task.id in reasons:
                self._ended.append(
                    Observation(task, outcome, None, submitted_s, None, self._now_s, "", reasons[task.id])
                )
        self._queue = deque(queued for queued in self._queue if queued[0].id not in reasons)
        self._aside = [queued for queued in self._aside if queued[0].id not in reasons]
        self._capacity = None
        for task_id, reason in reasons.items():
            running = self._running.get(task_id)
            if running is not None:
                if self._source is not None:
                    self._source.stop([task_id], self._now_s)
                self._end(running, outcome, None, reason)

    def fetch(self, task_id: TaskId) -> object:
        """The number of elements a result stands for."""
        if task_id not in self._results:
            raise Damaged(f"there is no result of task {task_id}")
        return self._results[task_id]

    def adopt(self, results: Mapping[TaskId, ResultRef], run: str = "") -> Collection[TaskId]:
        """Nothing outlives a simulation: all are missing."""
        return list(results)

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Forget results."""
        for task_id in task_ids:
            self._results.pop(task_id, None)
            if self._kept is not None:
                self._kept.pop(task_id, None)

    def close(self) -> None:
        """Nothing to end."""


class _Random:
    """One generator that is set anew for every task: making one takes longer than all that is drawn from it."""

    def __init__(self) -> None:
        # numpy is not needed by anything else that a task's parent process imports.
        from numpy.random import PCG64, Generator

        self._bits = PCG64(0)
        self._generator = Generator(self._bits)

    def __call__(self, entropy: list[int]) -> Any:
        """The generator, where it depends on `entropy` alone."""
        digest = blake2b(repr(entropy).encode(), digest_size=32).digest()
        state, increment = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little") | 1
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator


def _limited(task: Task, wanted: Usage, spec: WorkerSpec) -> tuple[Usage, Outcome, str]:
    """What a task uses under its limits: it dies where the first of them is passed."""
    given, speed = task.resources, spec.speed
    disk_mib = given.disk_mib if given.disk_mib is not None else spec.disk_mib
    wall_s = (wanted.wall_s or 0.0) / speed
    share, outcome, detail = 1.0, Outcome.DONE, ""
    limits = (
        (wanted.memory_mib, given.memory_mib, Outcome.OUT_OF_MEMORY, "memory"),
        (wanted.disk_mib, disk_mib, Outcome.OUT_OF_DISK, "disk"),
        (wall_s, given.wall_s, Outcome.OUT_OF_TIME, "time"),
    )
    for used, limit, how, what in limits:
        if used is not None and limit is not None and used > limit and limit / used < share:
            share, outcome, detail = limit / used, how, f"over its limit of {what}"
    cpu_s = None if wanted.cpu_s is None else wanted.cpu_s / speed
    if outcome is Outcome.DONE:
        return (wanted if speed == 1.0 else replace(wanted, wall_s=wall_s, cpu_s=cpu_s)), outcome, detail
    memory = None if wanted.memory_mib is None else min(wanted.memory_mib * share, float(given.memory_mib))
    disk = None if wanted.disk_mib is None else wanted.disk_mib * share
    died = replace(
        wanted,
        wall_s=wall_s * share,
        cpu_s=None if cpu_s is None else cpu_s * share,
        memory_mib=memory,
        disk_mib=disk,
        result_bytes=None,
        read_bytes=None if wanted.read_bytes is None else int(wanted.read_bytes * share),
    )
    return died, outcome, detail
