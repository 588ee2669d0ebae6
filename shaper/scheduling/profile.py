"""How many processors are free over time, for placing jobs one after the other.

Kept as the sorted times at which the number of free processors changes, and the changes. A reservation is then two
changes, however long it lasts. Behind its last fall the number only rises, so a start that is found there needs no look
at what follows; in a queue that is planned in order nearly all of the profile lies behind its last fall. What remains
before it are gaps that nothing fits into any more, and those are swept away.

Times are relative to the moment of the plan, which is 0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

_SLACK = 1e-9  # relative; what rounding may take from an area
_PATIENCE = 32  # steps that searches may take for nothing
_USELESS = 4  # a sweep that found little is not repeated before so many times as many steps


class Profile:
    """Free processors over time, from 0 on.

    Attributes:
        longest_s: after a search without success, no less than the longest gap of so many processors.
    """

    __slots__ = ("changes", "last_fall_s", "longest_s", "patience", "steps", "times")

    def __init__(self, times: list[float], changes: list[int], last_fall_s: float | None = None) -> None:
        self.times, self.changes = times, changes
        self.last_fall_s = _last_fall(times, changes) if last_fall_s is None else last_fall_s
        self.longest_s = 0.0
        self.steps = 0  # that searches took since the last sweep
        self.patience = len(times) + _PATIENCE

    @classmethod
    def of(cls, processors: int, running: Iterable[tuple[float, int]]) -> Profile:
        """A machine on which jobs run; each ends after a remaining time and holds its processors until then."""
        at: dict[float, int] = {0.0: processors}
        for remaining_s, held in running:
            at[0.0] -= held
            at[remaining_s] = at.get(remaining_s, 0) + held
        times = sorted(time for time, change in at.items() if change)
        return cls(times, [at[time] for time in times])

    def copy(self) -> Profile:
        """The same, to be changed apart."""
        return Profile(self.times[:], self.changes[:], self.last_fall_s)

    def earliest(self, processors: int, duration_s: float, from_s: float, until_s: float) -> float | None:
        """The earliest start from `from_s` on of a gap of so many processors that ends by `until_s`, or None."""
        free, start, longest = 0, -1.0, 0.0  # -1: no gap is open
        last_fall = self.last_fall_s
        for time, change in zip(self.times, self.changes, strict=True):
            if start >= 0.0 and start + duration_s <= time:
                return start
            free += change
            if free < processors:
                if start >= 0.0:
                    if time - start > longest:
                        longest = time - start
                    start = -1.0
                continue
            if start < 0.0:
                start = time if time > from_s else from_s
                if start + duration_s > until_s:
                    self.longest_s = max(longest, until_s - start)
                    return None
            if time >= last_fall:
                return start
        self.longest_s = longest
        return None

    def reserve(self, start_s: float, duration_s: float, processors: int) -> None:
        """Take processors for a while, from a start that `earliest` has found."""
        times, changes = self.times, self.changes
        at = bisect_left(times, start_s)
        self.steps += at
        if at == len(times) or times[at] != start_s:
            times.insert(at, start_s)
            changes.insert(at, 0)
        end_s = start_s + duration_s
        end = bisect_left(times, end_s, at + 1)
        if end < len(times) and times[end] == end_s:
            changes[end] += processors
            if end_s == self.last_fall_s and changes[end] >= 0:
                self.last_fall_s = _last_fall(times, changes)
            if changes[end] == 0:
                del times[end], changes[end]
        else:
            times.insert(end, end_s)
            changes.insert(end, processors)
        change = changes[at] = changes[at] - processors
        if change < 0 and start_s > self.last_fall_s:
            self.last_fall_s = start_s
        elif change == 0:
            del times[at], changes[at]

    def sweep(self, least_work_s: float) -> None:
        """Close gaps between moments without a free processor into which no job of at least so much work fits."""
        times: list[float] = []
        changes: list[int] = []
        least_work_s *= 1.0 - _SLACK
        free, area, before, first = 0, 0.0, 0.0, 0
        for time, change in zip(self.times, self.changes, strict=True):
            area += max(0, free) * (time - before)
            free += change
            before = time
            times.append(time)
            changes.append(change)
            if free == 0:
                if area < least_work_s:
                    del times[first:], changes[first:]
                first, area = len(times), 0.0
        few = len(times) > 0.9 * len(self.times)
        self.times, self.changes = times, changes
        self.last_fall_s = _last_fall(times, changes)
        self.steps = 0
        self.patience = (len(times) + _PATIENCE) * (_USELESS if few else 1)


def _last_fall(times: list[float], changes: list[int]) -> float:
    for at in range(len(times) - 1, -1, -1):
        if changes[at] < 0:
            return times[at]
    return 0.0
