"""The folder of what tasks printed, bounded over a run: most is wanted of those that went wrong."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from shaper.monitor import logs
from shaper.types import Outcome, TaskId

MOST_BYTES = 2**25
_BLOCK_BYTES = 4096
_WANTED_LESS = (Outcome.DONE, Outcome.CANCELLED)


class Logs:
    """The logs of ended tasks, at most `most_bytes`; beyond, those of tasks that went well go first, then the oldest.

    Args:
        folder: made where it is not there; what an earlier session left in it goes before anything else.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._well: OrderedDict[TaskId, int] = OrderedDict()
        self._wrong: OrderedDict[TaskId, int] = OrderedDict()
        self._bytes = 0
        folder.mkdir(exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            self.keep(path.stem, Outcome.DONE)

    def write(self, name: TaskId, texts: Sequence[bytes]) -> None:
        """Take what a task has printed elsewhere: its standard output, its standard error."""
        for path, text in zip(logs.paths(self._folder / name), texts, strict=True):
            if text:
                path.write_bytes(text)

    def keep(self, name: TaskId, outcome: Outcome) -> None:
        """Keep the logs of a task that has ended, as long as there is room."""
        for known in (self._well, self._wrong):
            self._bytes -= known.pop(name, 0)
        size_bytes = sum(-(-logs.cut(path) // _BLOCK_BYTES) for path in logs.paths(self._folder / name)) * _BLOCK_BYTES
        if not size_bytes:
            return
        (self._well if outcome in _WANTED_LESS else self._wrong)[name] = size_bytes
        self._bytes += size_bytes
        while self._bytes > self._most_bytes:
            oldest, freed_bytes = (self._well or self._wrong).popitem(last=False)
            self._bytes -= freed_bytes
            for path in logs.paths(self._folder / oldest):
                path.unlink(missing_ok=True)
