"""The run's side of workers that scale: it says what it wants, and lets idle workers go when it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from shaper.engines import managers
from shaper.models.beliefs import Beliefs
from shaper.policy.wanted import Outlook, Tasks, Wanted
from shaper.types import Backlog, Capacity, Shape

_EVERY_S = 2.0


@runtime_checkable
class Announced(Protocol):
    """An engine whose manager is written down, and that can let workers go."""

    @property
    def announced(self) -> managers.Manager: ...

    def dismiss(self, count: int) -> int: ...


class Announcer:
    """Writes down, every two seconds, what is wanted of workers, and lets those go that are not to be kept."""

    def __init__(self, engine: Announced) -> None:
        self._engine = engine
        self._next_s = 0.0
        self._turn = 0
        self._kept = managers.keep(engine.announced)  # an old request

    def say(self, now_s: float, capacity: Capacity, found: Callable[[], Wanted]) -> None:
        """Say what is wanted, where that was not done lately."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        self._let_go(capacity)
        self._turn += 1
        # Whatever is odd about what is believed: advice on workers is not worth a run.
        with suppress(ArithmeticError, ValueError):
            managers.say_wanted(self._engine.announced, entry(found(), capacity, self._turn))

    def _let_go(self, capacity: Capacity) -> None:
        asked = managers.keep(self._engine.announced)
        if asked is None or asked == self._kept:
            return
        self._kept = asked
        connected = sum(kind.count for kind in capacity.kinds)
        if connected > asked[0]:
            self._engine.dismiss(connected - asked[0])


class Wants(Outlook):
    """A watch that says what its run could use.

    Args:
        beliefs, settings: as of `Outlook`.
    """

    def __init__(self, engine: Announced, beliefs: Beliefs, settings: object) -> None:
        super().__init__(beliefs, settings)
        self._announcer = Announcer(engine)

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note what is left, and say what is wanted."""
        super().decided(now_s, capacity, backlog, shapes)
        self._announcer.say(now_s, capacity, self.wanted)


def entry(found: Wanted, capacity: Capacity, turn: int) -> dict[str, Any]:
    """What is written down; `turn` tells a new entry from an old one."""
    kinds = [[kind.cores, kind.memory_mib, kind.count] for kind in capacity.kinds]
    return {"turn": turn, **asdict(found), "connected": kinds}


def read(said: Any) -> tuple[Wanted, int, int]:
    """What a run wants, the cores of all connected workers, and how many workers these are.

    Raises:
        ValueError: another version of shaper has written it.
    """
    try:
        rows = tuple(Tasks(**row) for row in said["tasks"])
        found = Wanted(rows, said["work_s"], said["reason"])
        cores = sum(int(cores) * int(count) for cores, _, count in said["connected"])
        return found, cores, sum(int(count) for *_, count in said["connected"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not what is wanted: {error}") from error
