"""Lets the runs that share an engine take turns, and has its cores shared out among them.

Every run is a thread with its own ledger, policy and journal. One of them is at work at a time, and the engine is asked
only while none is: runs that have something to do take turns by order of arrival, so that what happens in virtual time
depends on no thread. A turn costs what has happened, however many runs there are.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from shaper.engines.coming import Coming
from shaper.engines.engine import Engine
from shaper.engines.shared import Share
from shaper.errors import Broken, SiteError
from shaper.types import Capacity, ResultLost, TaskId

# So long one wait on the engine lasts at most, while runs or the caller may have news.
_TICK_S = 0.25
# What comes so little later is due now: clocks are sums.
_ROUNDING = 1e-12
# When nobody has come or gone, cores are shared out anew after this part of the time since then.
_QUIET = 0.25
# At the end of the program a turn that goes on is waited for so long.
_LEAVES_S = 5.0


class Hub:
    """The engine and the runs that share it; its own thread is at work when none of theirs is.

    Args:
        engine: that is shared; closed at the end.
        share_out: sets the cores of the shares; called with them, in order of arrival, when one has come or gone, when
            workers have changed, and every `look_again_s`, rarer while nobody comes or goes.
        say: called with the shares at every step, for who keeps the workers.
        look_again_s: on the engine's clock.

    Attributes:
        coming: who is to begin.
        done: released when a turn is over.
    """

    def __init__(
        self,
        engine: Engine,
        share_out: Callable[[Sequence[Share], Capacity], None],
        say: Callable[[Iterable[Share], Capacity], None],
        look_again_s: float = 5.0,
    ) -> None:
        self.engine = engine
        self.done = threading.Semaphore(0)
        self.virtual = engine.name == "simulated"
        self._share_out, self._say, self._look_again_s = share_out, say, look_again_s
        self.coming = Coming()
        self.cores_held = 0  # by the tasks of all runs
        self._shares: dict[str, Share] = {}
        self._numbers: dict[str, int] = {}  # of the shares, in order of arrival
        self._leaving: dict[str, Share] = {}  # that have ended, while tasks of theirs may come back
        self._ready: dict[str, None] = {}  # shares that have something to do
        self._prodded: SimpleQueue[str] = SimpleQueue()
        self._wakes: list[tuple[float, str]] = []  # a heap; what is not its share's time any more does not count
        self._kinds: Sequence[tuple[str, int]] = ()
        self._moved = False  # whether a share has come or gone, or set cores free, since cores were shared out
        self._moved_s = 0.0
        self._next_look_s = 0.0
        self._used = False  # an engine is asked for nothing before its first stage
        self._left = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="shaper manager", daemon=True)
        if not self.virtual:
            self.start()

    def start(self) -> None:
        """Begin. In virtual time only when somebody waits: what arrives when must not depend on this thread."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def prod(self, share: Share) -> None:
        """Give a run its turn soon; may be called by any thread."""
        self._prodded.put(share.run)

    def look(self) -> None:
        """Share the cores out anew, after those that have something to do had their turns."""
        self._moved = True

    def close(self) -> None:
        """Wait for all runs to end, then close the engine."""
        self.coming.close()
        self.start()
        self._thread.join()

    def leave(self) -> None:
        """Close the engine now and leave the runs where they are, as when the process is killed."""
        self._left = True
        self._thread.join(_LEAVES_S)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._left or (self.coming.closed and not self._shares and self.coming.next_s == math.inf)):
                self._step()
        except BaseException as error:
            self.coming.stop(error)
            for share in self._shares.values():
                share.fail(error)
                while not share.ended:
                    share.turn()
        finally:
            self.engine.close()

    def _step(self) -> None:
        self._admit()
        for run in self._due():
            self._turn(self._shares[run])
        if self._used:
            self._look()
        next_s = self.coming.next_s
        if next_s <= self._soon_s:
            return
        if self._shares or next_s < math.inf or (self._used and not self.virtual):
            self._hear()
        elif not self.coming.closed:
            self.coming.wait(None if self.virtual else _TICK_S)

    def _turn(self, share: Share) -> None:
        self._used = True
        share.turn()
        if not share.ended:
            heapq.heappush(self._wakes, (share.wake_s, share.run))
            return
        del self._shares[share.run], self._numbers[share.run]
        self._moved = True
        if share.in_flight:
            self._leaving[share.run] = share

    def _due(self) -> list[str]:
        """Those that have something to do, in order of arrival."""
        with suppress(Empty):
            while True:
                self._ready[self._prodded.get_nowait()] = None
        while self._next_wake_s() <= self._soon_s:
            self._ready[heapq.heappop(self._wakes)[1]] = None
        due = [run for run in self._ready if run in self._shares]
        self._ready.clear()
        return sorted(due, key=self._numbers.__getitem__)

    def _next_wake_s(self) -> float:
        while self._wakes:
            wake_s, run = self._wakes[0]
            share = self._shares.get(run)
            if share is not None and share.wake_s == wake_s:
                return wake_s
            heapq.heappop(self._wakes)
        return math.inf

    @property
    def _soon_s(self) -> float:
        return self.engine.now_s * (1.0 + _ROUNDING) + _ROUNDING

    def _look(self) -> None:
        """Share the cores out anew, where it is time."""
        capacity, now_s = self.engine.capacity(), self.engine.now_s
        kinds = tuple((kind.name, kind.count) for kind in capacity.kinds)
        if self._moved:
            self._moved_s = now_s
        if kinds != self._kinds:
            self._kinds, self._moved = kinds, True
            self._ready.update(dict.fromkeys(self._shares))
        if self._moved or now_s >= self._next_look_s:
            self._moved = False
            self._next_look_s = now_s + max(self._look_again_s, _QUIET * (now_s - self._moved_s))
            try:
                self._share_out(list(self._shares.values()), capacity)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise Broken(f"the cores could not be shared out among the jobs ({why}): please report it") from error
        self._say(self._shares.values(), capacity)

    # -- the engine ------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Wait for the engine, and tell everybody what concerns them."""
        began_s = self.engine.now_s
        try:
            found = self.engine.wait(self._patience_s(began_s))
        except Exception as error:  # of the engine: for those who wait for it
            for share in self._shares.values():
                if share.in_flight or not any(one.in_flight for one in self._shares.values()):
                    share.fail(error)
            found = ()
        if not found and not self._shares and not self.virtual and self.engine.now_s - began_s < _TICK_S / 2:
            self.coming.wait(_TICK_S)  # an engine that has nothing to do may return at once
        for seen in found:
            names = seen.task_ids if isinstance(seen, ResultLost) else (seen.task.id,)
            for run in dict.fromkeys(map(_run_of, names)):
                mine = seen
                if isinstance(seen, ResultLost):
                    mine = ResultLost(tuple(name for name in names if _run_of(name) == run))
                here, left = self._shares.get(run), self._leaving.get(run)
                if here is not None:
                    here.tell(mine)
                    self._ready[run] = None
                if left is not None:
                    left.tell(mine)
                    if not left.in_flight:
                        del self._leaving[run]

    def _patience_s(self, now_s: float) -> float:
        """How long to wait for the engine: until something is due; others than it have no news in virtual time."""
        if self._ready:
            return 0.0
        if not self.virtual:
            return _TICK_S
        due_s = min(self._next_wake_s(), self.coming.next_s)
        if len(self._shares) > 1:
            due_s = min(due_s, self._next_look_s)
        return max(0.0, due_s - now_s) if due_s < math.inf else _TICK_S

    # -- arrivals --------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Begin the runs whose time has come."""
        while (arrived := self.coming.take(self._soon_s)) is not None:
            run = arrived.share.run
            try:
                arrived.share.begin(partial(arrived.work, None))
            except RuntimeError as error:
                arrived.work(SiteError(f"no thread can be started for job {run!r}: {error}"))
                continue
            self._shares[run], self._numbers[run] = arrived.share, arrived.number
            self._ready[run], self._moved = None, True


def _run_of(name: TaskId) -> str:
    """The run that a task of the engine belongs to: its own name is a session and a number."""
    return name.rpartition(".")[0].rpartition(".")[0]
