"""What an executor shares with the copies of it that a Runner makes: its engine from call to call, and counts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shaper import api
from shaper.engines.engine import Engine, Lasting


@dataclass(frozen=True, slots=True)
class Asked:
    """Which engine: a name, and the options it is made with; or an engine object."""

    engine: str | Engine
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    asked: Asked
    engine: Lasting
    pid: int = field(default_factory=os.getpid)

    def end(self) -> None:
        """Close the engine; a fork leaves that to its parent."""
        if self.pid == os.getpid():
            self.engine.lasting = False
            self.engine.close()


class Shared:
    """Keeps an engine open between calls, so that workers stay connected and functions stay loaded.

    One call at a time has the engine; another one meanwhile opens its own. It is closed by a call that ends with an
    error, by `close`, at the end of the interpreter, and when nobody refers to this any more. Neither a pickle nor a
    fork of it has one. Executors do not stand in each other's way: an engine of the same name that another one keeps
    is taken over, or closed if it has other options, for instance because it listens on the port that is wanted.

    Args:
        calls: how many have finished, by the folder of their runs.
    """

    def __init__(self, calls: dict[str, int] | None = None) -> None:
        self.calls = calls or {}
        self._kept: list[_Kept] = []
        weakref.finalize(self, _end, self._kept)
        _everyone.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.calls),)

    @contextmanager
    def engine(self, asked: Asked) -> Iterator[Engine]:
        """Lend the engine that is kept, if that is the one asked for, or a new one."""
        engine: Any = _take(asked) or api.engine_of(asked.engine, asked.options)
        if not hasattr(engine, "lasting"):
            yield engine
            return
        engine.lasting = True
        kept = _Kept(asked, engine)
        try:
            yield engine
        except BaseException:
            kept.end()
            raise
        self.close()
        self._kept.append(kept)

    def close(self) -> None:
        """Close the engine that is kept; the next call opens another."""
        _end(self._kept)


_everyone: weakref.WeakSet[Shared] = weakref.WeakSet()


def _take(asked: Asked) -> Lasting | None:
    found = None
    for shared in list(_everyone):
        for kept in list(shared._kept):
            if kept.asked.engine != asked.engine:
                continue
            try:
                shared._kept.remove(kept)
            except ValueError:
                continue  # another thread has it
            if found is None and kept.asked == asked and kept.pid == os.getpid():
                found = kept.engine
            else:
                kept.end()
    return found


def _end(kept: list[_Kept]) -> None:
    while kept:
        kept.pop().end()
