"""The runs that are to begin on a shared engine, by time; any thread may add one or take it back."""

from __future__ import annotations

import math
import threading
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field

from shaper.engines.shared import Share
from shaper.errors import BadInput

# Does a run; or ends it with an error, before it has begun.
Work = Callable[[BaseException | None], None]


@dataclass(frozen=True, order=True)
class Arrival:
    """A run that is to begin."""

    at_s: float
    number: int
    share: Share = field(compare=False)
    work: Work = field(compare=False)


class Coming:
    """Who comes, until it is closed or something has stopped it."""

    def __init__(self) -> None:
        self.closed = False
        self._stopped: BaseException | None = None
        self._arrivals: list[Arrival] = []
        self._number = 0
        self._changed = threading.Condition()

    def check(self) -> None:
        """Refuse where no run can begin any more.

        Raises:
            BadInput: it was closed.
            Exception: what has stopped it.
        """
        if self._stopped is not None:
            raise self._stopped
        if self.closed:
            raise BadInput("the manager is closed: make another one")

    def add(self, share: Share, work: Work, at_s: float) -> None:
        """Let a run come, that begins not before `at_s` on the engine's clock.

        Args:
            work: called in a thread of its own; or with an error, in any, when the run will not begin.

        Raises:
            Exception: as of `check`.
        """
        with self._changed:
            self.check()
            self._number += 1
            insort(self._arrivals, Arrival(at_s, self._number, share, work))
            self._changed.notify()

    def withdraw(self, share: Share, error: BaseException) -> bool:
        """End a run with an error if it has not begun; say whether that was so."""
        with self._changed:
            found = next((one for one in self._arrivals if one.share is share), None)
            if found is None:
                return False
            self._arrivals.remove(found)
        found.work(error)
        return True

    def close(self) -> None:
        """Nobody else comes."""
        with self._changed:
            self.closed = True
            self._changed.notify()

    def stop(self, error: BaseException) -> None:
        """Nobody else comes, and those who were to come end with this error."""
        with self._changed:
            self._stopped = error
            left, self._arrivals = self._arrivals, []
        for arrival in left:
            arrival.work(error)

    @property
    def next_s(self) -> float:
        """When the next one comes; infinite where nobody does."""
        with self._changed:
            return self._arrivals[0].at_s if self._arrivals else math.inf

    def take(self, now_s: float) -> Arrival | None:
        """The next one, where it is here."""
        with self._changed:
            return self._arrivals.pop(0) if self._arrivals and self._arrivals[0].at_s <= now_s else None

    def wait(self, timeout_s: float | None) -> None:
        """Wait until somebody comes, or nobody else will."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrivals or self.closed, timeout_s)
