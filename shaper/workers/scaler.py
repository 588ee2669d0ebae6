"""Keeps the number of workers between two bounds, in the foreground, for as long as there is a manager.

No worker that runs a task is ended while there is a manager. Of those that are no longer wanted, the ones that wait in
a batch system's queue are taken back; of those that run, the manager tells idle ones to go, because it alone knows
them. Where workers that somebody else started are connected too, it could tell the wrong ones: then they go by their
idle timeout.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count as counted
from threading import Event

from shaper.engines import managers
from shaper.errors import SiteError
from shaper.policy.scaling import Bounds, Memory, Need, Seen, Step, decide, need
from shaper.units import show_seconds
from shaper.workers import wants
from shaper.workers.plan import Plan
from shaper.workers.pool import Pool, Started, running

_TURN_S = 1.0
# A batch system is asked for its jobs soon after something has changed, then ever more rarely.
_LOOK_S, _LOOK_SLOWER, _LOOK_MOST_S = 1.0, 1.5, 15.0
# A worker connects and gets its first task about so long after it has begun to run.
_CONNECT_S = 5.0
# One that ends sooner has not worked.
_EARLY_S = 15.0
_WAITS_KEPT = 8
# A run that says nothing for so long is busy with something else: nothing is changed meanwhile.
_SILENT_S = 30.0
# A worker that has just come or gone is seen by the run and by us at different times.
_SEEN_AGAIN = 3


@dataclass(slots=True)
class _Own:
    started_s: float
    running_s: float | None = None


class Scaler:
    """Starts and ends workers as a run wants them.

    Args:
        plan: of one worker.
        patience_s: how long to wait for a manager to come back before all workers are ended.
        say: prints a line.
    """

    def __init__(
        self,
        plan: Plan,
        bounds: Bounds,
        manager: managers.Manager,
        patience_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.plan, self.bounds, self.patience_s, self.say = plan, bounds, patience_s, say
        self.address = manager.address
        self.pool = Pool(plan.manager)
        self.workers: dict[Started, _Own] = {}
        self._memory = Memory()
        self._stop = Event()
        self._look_at_s, self._look_s = 0.0, _LOOK_S
        self._waits_s: list[float] = []
        self._failed = 0
        self._began = False
        self._connected = 0
        self._others: deque[int] = deque(maxlen=_SEEN_AGAIN)  # cores, as the last words of the run had it
        self._turn_said: object = None
        self._said_s = time.monotonic()
        self._gone_s: float | None = None
        self._asked_s = -_EARLY_S
        self._requests = counted(time.time_ns())
        self._told: object = None

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""
        self._stop.set()

    def go(self) -> None:
        """Keep up the number of workers until `stop` is called or the manager has gone for good; then end them.

        Raises:
            SiteError: not even the first worker can be started.
        """
        try:
            while self._turn(time.monotonic()):
                if self._stop.wait(_TURN_S):
                    self._line("stopping")
                    break
        finally:
            there = len(self.workers)
            self.pool.end(self.workers)
            if there:
                self._line(f"ended {there} worker{'s' if there != 1 else ''}")

    # -- one turn ------------------------------------------------------------------------------------------------

    def _turn(self, now_s: float) -> bool:
        manager = next((one for one in managers.running() if one.address == self.address), None)
        said = managers.wanted(manager) if manager is not None else None
        news = said is not None and said.get("turn") != self._turn_said
        if said is not None and news:
            self._turn_said, self._said_s = said.get("turn"), now_s
        silent_s = now_s - self._said_s
        # Of a manager on another machine nobody here sees the end.
        lost = manager is not None and manager.host != socket.gethostname() and silent_s > _SILENT_S + self.patience_s
        if not self._patient(manager is not None and not lost, now_s):
            return False
        try:
            self._look(now_s)
            if news:
                self._hear(said, now_s)
            if manager is not None and (said is not None or silent_s > _SILENT_S):
                self._act(manager, self._decide(said, now_s), now_s)
        except SiteError as error:
            if not self._began:
                raise
            self._failed += 1
            self._look_at_s = now_s  # nothing is done before it was seen what there is
            self._change(("error", str(error)), f"{error}; trying again")
        return True

    def _patient(self, there: bool, now_s: float) -> bool:
        """Whether to go on: a run that is resumed, or the next one of a script, has a manager at the same address."""
        if there:
            if self._gone_s is not None:
                self._line("the manager is back")
            self._gone_s = None
            return True
        if self._gone_s is None:
            self._gone_s = now_s
            self._line(f"the manager has ended; waiting {show_seconds(self.patience_s)} for one at {self.address}")
        return now_s - self._gone_s < self.patience_s

    def _look(self, now_s: float) -> None:
        """See which workers there still are, and which of them run."""
        local = self.plan.batch == "local"
        if not self.workers or (not local and now_s < self._look_at_s):
            return
        there = set(self.pool.alive())
        run = set(self.workers if local else running(list(self.workers)))
        self._look_s = min(_LOOK_MOST_S, self._look_s * _LOOK_SLOWER)
        self._look_at_s = now_s + self._look_s
        for worker, own in list(self.workers.items()):
            if worker not in there:
                del self.workers[worker]
                young = now_s - (own.running_s or own.started_s) < _EARLY_S
                self._failed += young and now_s - self._asked_s > _EARLY_S
            elif own.running_s is None and worker in run:
                own.running_s = now_s
                self._waits_s = [*self._waits_s, now_s - own.started_s][-_WAITS_KEPT:]

    def _decide(self, said: object, now_s: float) -> Step:
        working = [own.running_s for own in self.workers.values() if own.running_s is not None]
        here = len(self.workers)
        wait_s = sorted(self._waits_s)[len(self._waits_s) // 2] if self._waits_s else 0.0
        oldest = min((own.started_s for own in self.workers.values() if own.running_s is None), default=now_s)
        seen = Seen(
            now_s,
            len(working),
            here - len(working),
            _CONNECT_S + max(wait_s, now_s - oldest),
            self._failed,
            any(now_s - since_s > _EARLY_S for since_s in working),
        )
        step, self._memory = decide(self._need(said, now_s), seen, self.bounds, self._memory)
        self._failed = 0
        return step

    def _hear(self, said: object, now_s: float) -> None:
        """Note which workers are connected; whose they are is sure only when it was seen several times."""
        with suppress(ValueError):
            _, cores, connected = wants.read(said)
            self._others.append(max(0, cores - self._working * self.plan.cores))
            if connected != self._connected:
                self._connected = connected
                self._soon(now_s)

    def _need(self, said: object, now_s: float) -> Need | None:
        if now_s - self._said_s > _SILENT_S:
            return None
        try:
            found, _, _ = wants.read(said)
        except ValueError:
            return None
        wanted = need(found, self.plan.cores, self.plan.memory_mib)
        # What others have started works too.
        others = self._other_cores // self.plan.cores
        if not others:
            return wanted
        reason = f"{wanted.reason}; as many as {others} are there from elsewhere"
        return Need(max(0, wanted.workers - others), wanted.work_s, reason)

    @property
    def _other_cores(self) -> int:
        return min(self._others) if len(self._others) == _SEEN_AGAIN else 0

    # -- doing ---------------------------------------------------------------------------------------------------

    def _act(self, manager: managers.Manager, step: Step, now_s: float) -> None:
        done = ""
        if step.start:
            done = f"starting {step.start}"
        elif step.cancel:
            done = f"taking {step.cancel} back from the queue"
        elif step.keep is not None:
            more = self._working - step.keep
            mixed = max(self._others, default=0) > 0
            done = f"letting {more} go" + (" as they idle: others are connected too" if self._other_cores else "")
            if not mixed:
                managers.say_keep(manager, step.keep, next(self._requests))
                self._asked_s = now_s
        self._tell(step, done)
        if step.start:
            self._start(step.start, now_s)
        if step.cancel:
            waiting = [worker for worker, own in self.workers.items() if own.running_s is None]
            self._end(waiting[len(waiting) - step.cancel :], now_s)

    def _start(self, number: int, now_s: float) -> None:
        for _ in range(number):
            if self._stop.is_set():
                return
            (worker,) = self.pool.start(self.plan, 1)
            self._began = True
            self.workers[worker] = _Own(now_s, now_s if self.plan.batch == "local" else None)
            self._soon(now_s)

    def _end(self, workers: list[Started], now_s: float) -> None:
        self.pool.end(workers)
        for worker in workers:
            del self.workers[worker]
        self._soon(now_s)

    def _soon(self, now_s: float) -> None:
        self._look_s, self._look_at_s = _LOOK_S, now_s + _LOOK_S

    # -- saying --------------------------------------------------------------------------------------------------

    @property
    def _working(self) -> int:
        return sum(own.running_s is not None for own in self.workers.values())

    def _tell(self, step: Step, done: str) -> None:
        queued = len(self.workers) - self._working
        counts = f"wanted {step.wanted}, running {self._working}, queued {queued}"
        why = f"{done} ({step.reason})" if done else f"({step.reason})"
        self._change((counts, done), f"{counts}: {why}" if done else f"{counts} {why}")

    def _change(self, key: object, text: str) -> None:
        """Say what has changed, once."""
        if key != self._told:
            self._told = key
            self._line(text)

    def _line(self, text: str) -> None:
        self.say(f"{time.strftime('%H:%M:%S')}  {text}")
