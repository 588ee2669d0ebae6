"""One store for several runs at a time: what is wrong with it costs one of them time, not each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from shaper.history.memory import BOUND_S, Memory
from shaper.history.place import Place
from shaper.history.store import Entry, Found, Store, Unusable
from shaper.history.subject import Subject, subjects_of
from shaper.types import Code, Stage


class SharedStore(Store):
    """The store of runs that take turns with it: where it could not be read, or not written, nobody tries again."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._trouble: dict[str, str] = {}  # by what was tried

    def memory(self, run: str, stages: Sequence[Stage], codes: Mapping[str, Code], engine: str) -> Memory:
        """What one of the runs holds of it."""
        modes = {stage.name: stage.mode for stage in stages}
        return Memory(self, subjects_of(run, stages, codes, engine), modes, engine)

    def find(self, subjects: Sequence[Subject]) -> list[Found | None]:
        """As of any store."""
        with self._tried("read"):
            return super().find(subjects)

    def add(self, run: str, entries: Sequence[Entry], now_s: float | None = None) -> None:
        """As of any store."""
        with self._tried("written"):
            super().add(run, entries, now_s)

    @contextmanager
    def _tried(self, what: str) -> Iterator[None]:
        if what in self._trouble:
            raise Unusable(self._trouble[what])
        # Runs take turns, so one that comes while this is under way comes because it was given up.
        self._trouble[what] = f"{self.name} does not answer within {BOUND_S:.0f} s"
        try:
            yield
        except Exception as error:
            known = isinstance(error, Unusable)
            self._trouble[what] = str(error) if known else f"{self.name} cannot be used: {error!r}"
            raise
        del self._trouble[what]
