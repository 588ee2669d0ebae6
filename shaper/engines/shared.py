"""One engine for several runs at a time: each run sees all of it, and holds no more cores than it may use.

What a run submits beyond that waits here. So it cuts its work as finely as the whole engine wants it, and can use more
as soon as it may. The runs take turns (`hub.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shaper.types import (
    Cancel,
    Capacity,
    Code,
    Merge,
    Observation,
    Outcome,
    Resources,
    ResultLost,
    ResultRef,
    Task,
    TaskId,
)

if TYPE_CHECKING:
    from shaper.engines.hub import Hub

# A run to which nothing happens looks around when it has been quiet for twice as long, and at least so often where time
# is real: what it waits for may take hours.
_LOOKS_S = 5.0


class Share:
    """The engine as one run sees it.

    Args:
        hub: whose engine it is.
        name: of the run; part of the names of tasks and stages, so unique.

    Attributes:
        cores: how many it may use; None for all, 0 until its first turn has shown what it could use.
        cores_held: by the tasks that the engine has.
        handed_in_s: when the engine got the last of them, on its clock.
        fitted: what a task is given on another number of cores than it was cut for.
        wake_s: when it looks around again unless something happens before, on the engine's clock.
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self.name = hub.engine.name
        self.run_dir: Path | None = None  # of the run: its journal, records and report
        self.run = name
        self.cores: int | None = 0
        self.cores_held = 0
        self.handed_in_s = 0.0
        self.wake_s = 0.0
        self.fitted: Callable[[Task, int], Resources] = lambda task, cores: replace(task.resources, cores=cores)
        self._hub = hub
        self._for_one = False
        self._tasks: dict[TaskId, Task] = {}
        self._waiting: dict[TaskId, Task] = {}  # of them those that the engine does not have yet
        self._submitted_s: dict[TaskId, float] = {}
        self._began_s: float | None = None  # on the engine's clock
        self._found: list[Observation | ResultLost] = []
        self._error: BaseException | None = None
        self._stirred_s = 0.0  # when something has happened last
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
            self._began_s = self._stirred_s = self._hub.engine.now_s
        self._go.release()
        self._hub.done.acquire()

    def tell(self, seen: Observation | ResultLost) -> None:
        """Hand over what concerns its tasks, under their own names."""
        self._stirred_s = self._hub.engine.now_s
        if isinstance(seen, ResultLost):
            self._found.append(ResultLost(tuple(map(self._own, seen.task_ids))))
            return
        task = self._tasks.pop(self._own(seen.task.id), None)
        if task is None:
            return
        self.cores_held -= task.resources.cores
        self._hub.cores_held -= task.resources.cores
        if self._for_one and not self.cores_held:
            self.cores = 0  # the next one has other needs
            self._hub.look()
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
        """Raise this where the run waits; may be called by any thread."""
        self._error = error
        self._hub.prod(self)

    def withdraw(self, error: BaseException) -> bool:
        """End the run with an error if it has not begun; say whether that was so."""
        return self._hub.coming.withdraw(self, error)

    def may_use(self, cores: int | None, *, for_one: bool = False) -> None:
        """So many cores from now on; None for all. What holds more keeps them until it ends.

        Args:
            for_one: all of them are for the next of its tasks that runs on as many cores as it is given.
        """
        if cores != self.cores or for_one != self._for_one:
            self.cores, self._for_one = cores, for_one
            self._stirred_s = self._hub.engine.now_s
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
        """All workers, and what others use of them; of what waits, only what is this run's."""
        whole = self._hub.engine.capacity()
        if self.cores is None:
            return whole
        return replace(whole, waiting=len(self._waiting), others=self._hub.cores_held - self.cores_held)

    def submit(self, task: Task) -> None:
        """Take a task over."""
        self._tasks[task.id] = self._waiting[task.id] = task
        self._submitted_s[task.id] = self.now_s
        self._hand_in()

    def _hand_in(self) -> None:
        """Give the engine what waits, in order, as far as the cores go; the first task may take more than there are.

        A task that runs on as many cores as it is given gets what is left instead, no less than half of what it asks
        for if others of its run go on.
        """
        while self._waiting:
            task = next(iter(self._waiting.values()))
            cores, molds = task.resources.cores, task.mode == "threads" and not isinstance(task.work, Merge)
            room = cores if self.cores is None else self.cores - self.cores_held
            if room < cores and (room < 1 or (self.cores_held and (not molds or 2 * room < cores))):
                return
            if molds and (room < cores or self._for_one) and room != cores:
                cores = room
                task = self._tasks[task.id] = replace(task, resources=self.fitted(task, cores))
            del self._waiting[task.id]
            self.cores_held += cores
            self._hub.cores_held += cores
            self.handed_in_s = self._stirred_s = self._hub.engine.now_s
            work = task.work
            if isinstance(work, Merge):
                work = replace(work, inputs=tuple(map(self._there, work.inputs)))
            self._hub.engine.submit(replace(task, id=self._there(task.id), stage=self._there(task.stage), work=work))

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Give the turn to others until there is news, or the time is over."""
        now_s = self._hub.engine.now_s
        quiet_s = now_s - self._stirred_s
        self.wake_s = now_s + max(timeout_s, quiet_s if self._hub.virtual else min(quiet_s, _LOOKS_S))
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
