"""One engine for several runs at a time: each run sees all of it, and holds no more cores than it may use.

What a run submits beyond that waits here. So it cuts its work as finely as the whole engine wants it, and can use more
as soon as it may.

Every run is a thread with its own ledger, policy and journal. One of them is at work at a time, and the engine is asked
only while none is: runs take turns, those with news first by order of arrival, so that what happens in virtual time
depends on no thread.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from shaper.engines.engine import Engine
from shaper.types import (
    Cancel,
    Capacity,
    Code,
    Merge,
    Observation,
    Outcome,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
)

# So long one wait on the engine lasts at most, while runs or the caller may have news.
_TICK_S = 0.25


class Share:
    """The engine as one run sees it.

    Args:
        hub: whose engine it is.
        name: of the run; part of the names of tasks and stages, so unique.

    Attributes:
        cores: how many it may use; None for all.
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self.name = hub.engine.name
        self.run_dir: Path | None = None  # of the run: its journal, records and report
        self.run = name
        self.cores: int | None = None
        self._hub = hub
        self._tasks: dict[TaskId, Task] = {}
        self._waiting: dict[TaskId, Task] = {}  # of them those that the engine does not have yet
        self._cores_held = 0
        self._submitted_s: dict[TaskId, float] = {}
        self._began_s: float | None = None  # on the engine's clock
        self._found: list[Observation | ResultLost] = []
        self._error: BaseException | None = None
        self._wake_s = 0.0
        self._go = threading.Semaphore(0)
        self._closed = False
        self.ended = False

    # -- turns -----------------------------------------------------------------------------------------------------

    def begin(self, work: Callable[[], None]) -> None:
        """Start the run's thread; it waits for its first turn."""

        def turns() -> None:
            self._go.acquire()
            try:
                work()
            finally:
                self.close()
                self.ended = True
                self._hub.done.release()

        threading.Thread(target=turns, name=f"shaper {self.run}", daemon=True).start()

    def turn(self) -> None:
        """Let the run work until it waits or ends."""
        if self._began_s is None:
            self._began_s = self._hub.engine.now_s
        self._go.release()
        self._hub.done.acquire()

    @property
    def due(self) -> bool:
        """Whether it has something to do."""
        return bool(self._found) or self._error is not None or self.now_s >= self._wake_s

    def tell(self, seen: Observation | ResultLost) -> None:
        """Hand over what concerns its tasks, under their own names."""
        if isinstance(seen, ResultLost):
            self._found.append(ResultLost(tuple(map(self._own, seen.task_ids))))
            return
        task = self._tasks.pop(self._own(seen.task.id), None)
        if task is None:
            return
        self._cores_held -= task.resources.cores
        submitted_s = self._submitted_s.pop(task.id)
        if self._closed:
            self._hub.engine.release([seen.task.id])
            return
        began_s = self._began_s or 0.0
        started_s = None if seen.started_s is None else seen.started_s - began_s
        finished_s = seen.finished_s - began_s
        self._found.append(
            replace(seen, task=task, submitted_s=submitted_s, started_s=started_s, finished_s=finished_s)
        )
        self._hand_in()

    def wanted(self) -> None:
        """Somebody waits for the run: virtual time begins."""
        self._hub.start()

    def fail(self, error: BaseException) -> None:
        """Raise this where the run waits."""
        self._error = error

    def may_use(self, cores: int | None) -> None:
        """So many cores from now on; None for all. What holds more keeps them until it ends."""
        if cores != self.cores:
            self.cores = cores
            self._hand_in()

    @property
    def in_flight(self) -> int:
        """Tasks that the engine has."""
        return len(self._tasks) - len(self._waiting)

    # -- the engine ------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """The engine's clock, since the run began."""
        return self._hub.engine.now_s - (self._began_s or 0.0)

    def open(self, stage: str, code: Code | None) -> None:
        """Ship the functions of a stage."""
        name = self._there(stage)
        self._hub.engine.open(name, None if code is None else replace(code, stage=name))

    def capacity(self) -> Capacity:
        """All workers; of what waits, only what is this run's."""
        whole = self._hub.engine.capacity()
        return whole if self.cores is None else replace(whole, waiting=len(self._waiting))

    def submit(self, task: Task) -> None:
        """Take a task over."""
        self._tasks[task.id] = self._waiting[task.id] = task
        self._submitted_s[task.id] = self.now_s
        self._hand_in()

    def _hand_in(self) -> None:
        """Give the engine what waits, in order, as far as the cores go; the first task may take more than there are."""
        while self._waiting:
            task = next(iter(self._waiting.values()))
            cores = self._cores_held + task.resources.cores
            if self.cores is not None and cores > self.cores and (self._cores_held or not self.cores):
                return
            del self._waiting[task.id]
            self._cores_held = cores
            work = task.work
            if isinstance(work, Merge):
                work = replace(work, inputs=tuple(map(self._there, work.inputs)))
            self._hub.engine.submit(replace(task, id=self._there(task.id), stage=self._there(task.stage), work=work))

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Give the turn to others until there is news, or the time is over."""
        self._wake_s = self.now_s + timeout_s
        self._hub.done.release()
        self._go.acquire()
        if self._error is not None:
            raise self._error
        found, self._found = self._found, []
        return found

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take tasks back."""
        there = []
        for action in actions:
            task = self._waiting.pop(action.task_id, None)
            if task is None:
                there.append(replace(action, task_id=self._there(action.task_id)))
                continue
            del self._tasks[task.id]
            times = self._submitted_s.pop(task.id), None, self.now_s
            self._found.append(Observation(task, Outcome.CANCELLED, None, *times, "", action.reason))
        if there:
            self._hub.engine.cancel(there)

    def fetch(self, task_id: TaskId) -> object:
        """The result of a task."""
        return self._hub.engine.fetch(self._there(task_id))

    def adopt(self, results: Mapping[TaskId, ResultRef], run: str = "") -> Collection[TaskId]:
        """Take over results of an earlier session of the run."""
        missing = self._hub.engine.adopt({self._there(name): ref for name, ref in results.items()}, self.run)
        return [self._own(name) for name in missing]

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Forget results."""
        self._hub.engine.release([self._there(name) for name in task_ids])

    def close(self) -> None:
        """Take back what has not come back; the engine goes on for others."""
        if not self._closed:
            self._closed = True
            self.cancel([Cancel(name, "its run has ended") for name in list(self._tasks)])

    def _there(self, name: str) -> str:
        return f"{self.run}.{name}"

    def _own(self, name: str) -> str:
        return name.removeprefix(f"{self.run}.")


class Hub:
    """The engine and the runs that share it; its own thread is at work when none of theirs is.

    Args:
        engine: that is shared; closed at the end.
        share_out: sets the cores of the shares; called with them, in order of arrival, when one has come or gone, when
            workers have changed, and every `look_again_s`.
        look_again_s: on the engine's clock.
    """

    def __init__(
        self, engine: Engine, share_out: Callable[[Sequence[Share], Capacity], None], look_again_s: float = 5.0
    ) -> None:
        self.engine = engine
        self.done = threading.Semaphore(0)
        self.virtual = engine.name == "simulated"
        self._share_out, self._look_again_s = share_out, look_again_s
        self._arriving: SimpleQueue[_Arrival | None] = SimpleQueue()
        self._coming: list[_Arrival] = []  # later, by time; in virtual time only
        self._shares: dict[str, Share] = {}
        self._leaving: dict[str, Share] = {}  # that have ended, while tasks of theirs may come back
        self._kinds: Sequence[tuple[str, int]] = ()
        self._next_look_s = 0.0
        self._number = 0
        self._used = False  # an engine is asked for nothing before its first stage
        self._closing = False
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shaper manager", daemon=True)
        if not self.virtual:
            self.start()

    def start(self) -> None:
        """Begin. In virtual time only when somebody waits: what arrives when must not depend on this thread."""
        if self._thread.ident is None:
            self._thread.start()

    def add(self, share: Share, work: Callable[[], None], at_s: float = 0.0) -> None:
        """Let a run begin, not before `at_s` on the engine's clock; may be called by any thread."""
        if self._broken is not None:
            raise self._broken
        self._number += 1
        self._arriving.put(_Arrival(at_s, self._number, share, work))

    def close(self) -> None:
        """Wait for all runs to end, then close the engine."""
        self._arriving.put(None)
        self.start()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not (self._closing and not self._shares and not self._coming):
                self._step()
        except BaseException as error:
            self._broken = error
            self._admit()
            for one in self._coming:
                self._shares[one.share.run] = one.share
                one.share.begin(one.work)
            for share in self._shares.values():
                share.fail(error)
                while not share.ended:
                    share.turn()
        finally:
            self.engine.close()

    def _step(self) -> None:
        came = self._admit()
        if self._used:
            self._look(came)
        elif not came:
            self._await_arrival()
            return
        self._used, went = True, False
        for share in [share for share in self._shares.values() if share.due]:
            share.turn()
            if share.ended:
                del self._shares[share.run]
                self._leaving[share.run] = share
                self._next_look_s, went = 0.0, True
        if went or not self._arriving.empty():
            return
        if self.virtual and not self._shares and not self._coming:
            self._await_arrival()
            return
        self._hear()
        for run, share in list(self._leaving.items()):
            if not share.in_flight:
                del self._leaving[run]

    def _look(self, came: bool) -> None:
        """Share the cores out anew, where it is time."""
        capacity = self.engine.capacity()
        kinds = tuple((kind.name, kind.count) for kind in capacity.kinds)
        if came or kinds != self._kinds or self.engine.now_s >= self._next_look_s:
            self._kinds, self._next_look_s = kinds, self.engine.now_s + self._look_again_s
            self._share_out(list(self._shares.values()), capacity)

    def _hear(self) -> None:
        """Wait for the engine, and tell everybody what concerns them."""
        left_s = self._coming[0].at_s - self.engine.now_s if self._coming else _TICK_S
        began_s = self.engine.now_s
        try:
            found = self.engine.wait(min(left_s, _TICK_S))
        except Exception as error:  # of the engine: for those who wait for it
            for share in self._shares.values():
                if share.in_flight or not any(one.in_flight for one in self._shares.values()):
                    share.fail(error)
            found = ()
        if not found and not self._shares and self.engine.now_s - began_s < _TICK_S / 2:
            self._await_arrival()  # an engine that has nothing to do may return at once
        for seen in found:
            names = seen.task_ids if isinstance(seen, ResultLost) else (seen.task.id,)
            for run in dict.fromkeys(name.rpartition(".")[0].rpartition(".")[0] for name in names):
                share_of = self._shares.get(run) or self._leaving.get(run)
                if share_of is None:
                    continue
                mine = seen
                if isinstance(seen, ResultLost):
                    mine = ResultLost(tuple(name for name in names if name.startswith(f"{run}.")))
                share_of.tell(mine)

    def _await_arrival(self) -> None:
        with suppress(Empty):
            self._note(self._arriving.get(timeout=_TICK_S))

    def _note(self, arrived: _Arrival | None) -> None:
        if arrived is None:
            self._closing = True
        else:
            insort(self._coming, arrived)

    def _admit(self) -> bool:
        """Begin the runs whose time has come; say whether there were any."""
        with suppress(Empty):
            while True:
                self._note(self._arriving.get_nowait())
        came = False
        while self._coming and self._coming[0].at_s <= self.engine.now_s:
            arrived = self._coming.pop(0)
            self._shares[arrived.share.run] = arrived.share
            arrived.share.begin(arrived.work)
            came = True
        return came


@dataclass(frozen=True, order=True)
class _Arrival:
    """A run that is to begin."""

    at_s: float
    number: int
    share: Share = field(compare=False)
    work: Callable[[], None] = field(compare=False)
