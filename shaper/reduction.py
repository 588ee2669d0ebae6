"""Which results to merge next: a balanced tree, smallest first, bounded fan-in; neighbours only where order counts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shaper.types import Source, TaskId
from shaper.work import Range, coalesce

# Results of up to so many ranges are merged as they come; larger ones with their like, eight times as many a class.
_FEW_RANGES = 127


@dataclass(frozen=True, slots=True)
class Result:
    """An accepted result and the ranges it holds; `weight` orders merges (bytes where measured, else elements).

    Args:
        unsaved_since_s: since when it would be lost with a worker, or the first of what went into it would have been;
            None where it is durable.
    """

    id: TaskId
    ranges: tuple[Range, ...]
    elements: int
    size_bytes: int | None
    unsaved_since_s: float | None = None

    @property
    def weight(self) -> int:
        """What a merge of it costs, roughly."""
        return self.elements if self.size_bytes is None else self.size_bytes

    @property
    def rank(self) -> int:
        """Class by the number of ranges: were the largest in every merge, each would copy what is done so far."""
        count = len(self.ranges)
        return 0 if count <= _FEW_RANGES else (count.bit_length() - _FEW_RANGES.bit_length() + 2) // 3


class Reduction:
    """The results of one stage that are in no merge.

    Adding and taking one costs O(log n); taking neighbours of an ordered stage costs O(n log n) in waiting results.

    Args:
        sources: the stage's sources by number; the list may grow.
        ordered: merge only neighbours, left to right.
    """

    def __init__(self, sources: Sequence[Source], *, ordered: bool = False) -> None:
        self.sources = sources
        self.ordered = ordered
        self.results: dict[TaskId, Result] = {}
        self._heaps: dict[int, list[tuple[int, int, TaskId]]] = {}  # by rank; what was removed is skipped later
        self._of_rank: dict[int, int] = {}
        self._counter = 0
        self._unsaved: list[tuple[float, TaskId]] = []  # a heap; what was removed is skipped later
        self._measured = 0  # results whose size is known, and their sizes together
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.results)

    def add(self, result: Result) -> None:
        """Make a result available for merging."""
        self.results[result.id] = result
        self._count(result, 1)
        # Ties go to the oldest: neighbours were cut one after the other, so their ranges join and stay few.
        self._counter += 1
        heapq.heappush(self._heaps.setdefault(result.rank, []), (result.weight, self._counter, result.id))
        if result.unsaved_since_s is not None:
            heapq.heappush(self._unsaved, (result.unsaved_since_s, result.id))

    def remove(self, task_id: TaskId) -> Result | None:
        """Take a result out, for instance because it was lost; None when it is not here."""
        result = self.results.pop(task_id, None)
        if result is not None:
            self._count(result, -1)
        return result

    @property
    def unsaved_since_s(self) -> float | None:
        """Since when the oldest result that is not durable waits; None where all are."""
        while self._unsaved and self._unsaved[0][1] not in self.results:
            heapq.heappop(self._unsaved)
        return self._unsaved[0][0] if self._unsaved else None

    def take_unsaved(self, fan_in: int, before_s: float) -> tuple[Result, ...]:
        """Remove and return the oldest results that are not durable, where one is from before `before_s`."""
        since_s = self.unsaved_since_s
        if since_s is None or since_s > before_s:
            return ()
        chosen: list[Result] = []
        while self._unsaved and len(chosen) < fan_in:
            result = self.remove(heapq.heappop(self._unsaved)[1])
            if result is not None:
                chosen.append(result)
        return tuple(chosen)

    @property
    def mean_bytes(self) -> int | None:
        """Mean size of the results that wait; None where none was measured."""
        return self._bytes // self._measured if self._measured else None

    def _count(self, result: Result, sign: int) -> None:
        self._of_rank[result.rank] = self._of_rank.get(result.rank, 0) + sign
        if result.size_bytes is not None:
            self._measured += sign
            self._bytes += sign * result.size_bytes

    def take(self, fan_in: int, *, last: bool, merging: int = 0) -> tuple[Result, ...]:
        """Remove and return the results of the next merge; empty when it is better to wait.

        Args:
            fan_in: how many results one merge combines, at least 2.
            last: no more results will come from processing, so fewer than `fan_in` are merged too.
            merging: merges in flight, whose results are still to come.
        """
        available = len(self.results)
        if available < 2 or (available < fan_in and not last):
            return ()
        if self.ordered:
            return self._take_neighbours(fan_in, last=last, complete=last and not merging)
        ranks = [rank for rank in sorted(self._of_rank) if last or self._of_rank[rank] >= fan_in]
        chosen: list[Result] = []
        for rank in ranks if last else ranks[:1]:
            heap = self._heaps[rank]
            while heap and len(chosen) < fan_in:
                _, _, task_id = heapq.heappop(heap)
                result = self.remove(task_id)
                if result is not None:
                    chosen.append(result)
        return tuple(chosen)

    def _take_neighbours(self, fan_in: int, *, last: bool, complete: bool) -> tuple[Result, ...]:
        """Find the longest, then lightest, run of neighbours. A gap (skipped elements) is closed once all are here."""
        queue = sorted(self.results.values(), key=lambda r: r.ranges[0])
        best: list[Result] = []
        run: list[Result] = []
        for result in queue:
            if run and not complete and not self._touch(run[-1], result):
                run = []
            run.append(result)
            run = run[-fan_in:]
            if len(run) > len(best) or (len(run) == len(best) and _weight(run) < _weight(best)):
                best = list(run)
        if len(best) < (2 if last else fan_in):
            return ()
        for result in best:
            self.remove(result.id)
        return tuple(best)

    def _touch(self, left: Result, right: Result) -> bool:
        """Whether no element lies between two results in the order of the sources."""
        number, _, stop = left.ranges[-1]
        next_number, start, _ = right.ranges[0]
        if number == next_number:
            return stop == start
        return (
            stop == self.sources[number].stop
            and start == self.sources[next_number].start
            and not any(self.sources[n].elements for n in range(number + 1, next_number))
        )


def _weight(run: list[Result]) -> int:
    return sum(r.weight for r in run)


def merged(task_id: TaskId, inputs: tuple[Result, ...], size_bytes: int | None, *, durable: bool = True) -> Result:
    """Return the result that stands for `inputs` once they are merged."""
    ranges = coalesce(r for item in inputs for r in item.ranges)
    since_s = None if durable else unsaved_since_s(inputs)
    return Result(task_id, ranges, sum(item.elements for item in inputs), size_bytes, since_s)


def unsaved_since_s(results: Iterable[Result]) -> float | None:
    """Since when the oldest of the results that are not durable waits; None where all are."""
    return min((item.unsaved_since_s for item in results if item.unsaved_since_s is not None), default=None)
