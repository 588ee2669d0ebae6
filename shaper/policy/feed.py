"""Tasks started no faster than the data source can feed them."""

from __future__ import annotations

import math

# So much more than the source is known to give is asked for: where it gives more, that shows.
_MORE = 1.1
# So many seconds of what it gives may be asked for at once.
_AHEAD_S = 3.0


class Feed:
    """Until when what was asked for keeps the data source busy.

    Many tasks that begin to read together also end reading together; while they all compute, the source has nothing
    to do. Tasks that begin one after the other, as fast as the source can feed them, stay apart.

    Attributes:
        now_s: the engine's clock, as of the last turn of the loop.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._busy_until_s = 0.0

    def most(self, tasks: int, elements: int, given_per_s: float) -> int:
        """How many of these tasks may start now; they count as started."""
        each_s = elements / (_MORE * given_per_s)
        busy_s = max(0.0, self._busy_until_s - self.now_s)
        tasks = max(0, min(tasks, math.ceil((_AHEAD_S - busy_s) / each_s)))
        self._busy_until_s = self.now_s + busy_s + tasks * each_s
        return tasks
