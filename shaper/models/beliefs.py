"""What is believed about each category and group, learnt from observations; a value, bounded in size.

A group (a dataset, a chromosome) has bins of its own and borrows those of its category as long as its own are few, so
a new dataset starts from what the others showed and a deviating one soon stands on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from shaper.models.line import Bins, Line, fit, with_observation
from shaper.types import Chunk, Merge, Observation, Outcome, Usage, Work

_STARTS = 64  # starts looked at together when the pace of dispatch is read off
_LEAST_S = 1e-6
_SOURCES_KEPT = 32
_BORROWED = 4.0  # observations that the category is worth to a group without own ones


def size_of(work: Work) -> float:
    """The x of a piece of work: elements of a chunk, KiB of input of a merge."""
    if isinstance(work, Merge):
        return max(1.0, (work.input_bytes if work.input_bytes is not None else work.elements * 1024) / 1024)
    return float(work.elements)


@dataclass(frozen=True, slots=True)
class Model:
    """The observations of one resource and the line through them."""

    bins: Bins = field(default_factory=dict)
    exceeded: Bins = field(default_factory=dict)
    n: int = 0
    line: Line | None = None
    refit_at: float = 0.0

    def observed(self, x: float, y: float, prior: Bins | None) -> Model:
        """Learn that work of size x used y."""
        bins = with_observation(self.bins, x, y)
        n = self.n + 1
        line = self.line
        if line is not None and n < self.refit_at:
            middle = line.median(x)
            surprise = 2.5 * line.spread(x)
            if 1 - surprise < y / middle < 1 + surprise:
                return Model(bins, self.exceeded, n, line, self.refit_at)
        return self._refitted(bins, self.exceeded, n, prior)

    def passed(self, x: float, limit: float, prior: Bins | None) -> Model:
        """Learn that work of size x needed more than `limit`."""
        return self._refitted(self.bins, with_observation(self.exceeded, x, limit), self.n + 1, prior)

    @staticmethod
    def _refitted(bins: Bins, exceeded: Bins, n: int, prior: Bins | None) -> Model:
        weight = _BORROWED * 4 / (4 + n) if prior else 0.0
        return Model(bins, exceeded, n, fit(bins, exceeded, prior, weight), n * 1.1)


@dataclass(frozen=True, slots=True)
class GroupBeliefs:
    """What is believed about one group, or about a whole category.

    Args:
        memory: MiB against size.
        wall: seconds a slot is held against size, all overheads included.
        done, exhausted, failed, lost: attempts of this very group that ended so.
        failed_sources: those of which attempts failed on their own, the first few.
        largest_done: largest size that finished.
        smallest_exhausted: smallest size that exceeded its memory.
        limit_mib: largest memory limit that was exceeded.
        most_mib: largest memory of an attempt that finished.
    """

    memory: Model = field(default_factory=Model)
    wall: Model = field(default_factory=Model)
    done: int = 0
    exhausted: int = 0
    failed: int = 0
    lost: int = 0
    failed_sources: frozenset[str] = frozenset()
    largest_done: float = 0.0
    smallest_exhausted: float | None = None
    limit_mib: int = 0
    most_mib: float = 0.0

    def learnt(self, seen: Observation, prior: GroupBeliefs | None) -> GroupBeliefs:
        """Return the beliefs after one observation."""
        x = size_of(seen.task.work)
        usage = seen.usage or Usage()
        if seen.outcome is Outcome.DONE:
            memory, wall = self.memory, self.wall
            if usage.memory_mib:
                memory = memory.observed(x, usage.memory_mib, prior.memory.bins if prior else None)
            held_s = seen.finished_s - seen.started_s if seen.started_s is not None else usage.wall_s
            if held_s is not None:
                wall = wall.observed(x, max(held_s, _LEAST_S), prior.wall.bins if prior else None)
            return replace(
                self,
                memory=memory,
                wall=wall,
                done=self.done + 1,
                largest_done=max(self.largest_done, x),
                most_mib=max(self.most_mib, usage.memory_mib or 0.0),
            )
        if seen.outcome is Outcome.OUT_OF_MEMORY:
            limit = seen.task.resources.memory_mib
            reached = limit
            if seen.system_oom and usage.memory_mib:
                reached = min(limit, max(1, round(usage.memory_mib)))
            memory = self.memory.passed(x, reached, prior.memory.bins if prior else None)
            smallest = min(x, self.smallest_exhausted or x)
            return replace(
                self,
                memory=memory,
                exhausted=self.exhausted + 1,
                smallest_exhausted=smallest,
                limit_mib=max(self.limit_mib, limit),
            )
        if seen.outcome is Outcome.OUT_OF_TIME and seen.task.resources.wall_s:
            wall = self.wall.passed(x, seen.task.resources.wall_s, prior.wall.bins if prior else None)
            return replace(self, wall=wall, exhausted=self.exhausted + 1)
        if seen.outcome is Outcome.FAILED:
            sources = self.failed_sources
            if isinstance(seen.task.work, Chunk) and len(sources) < _SOURCES_KEPT:
                own = {span.source.id for span in seen.task.work.spans}
                # Of several sources nobody knows which one failed; each is run again on its own.
                sources |= own if len(own) == 1 else frozenset()
            return replace(self, failed=self.failed + 1, failed_sources=sources)
        if seen.outcome is Outcome.LOST:
            return replace(self, lost=self.lost + 1)
        return self


@dataclass(frozen=True, slots=True)
class CategoryBeliefs:
    """One category: the shared beliefs and those of its groups."""

    shared: GroupBeliefs = field(default_factory=GroupBeliefs)
    groups: Mapping[str, GroupBeliefs] = field(default_factory=dict)

    def group(self, name: str) -> GroupBeliefs:
        """The beliefs about a group; what it has not shown itself is taken from the category."""
        own = self.groups.get(name)
        if own is None or own.memory.line is None:
            return replace(self.shared, done=0) if name else self.shared
        if own.wall.line is None:
            return replace(own, wall=self.shared.wall, largest_done=self.shared.largest_done)
        return own


@dataclass(frozen=True, slots=True)
class Beliefs:
    """All that has been learnt, by category, and the pace at which the engine starts tasks."""

    categories: Mapping[str, CategoryBeliefs] = field(default_factory=dict)
    dispatch_s: float = 0.0
    starts_s: tuple[float, ...] = ()
    version: int = 0

    def updated(self, seen: object) -> Beliefs:
        """Return the beliefs after one observation; anything else (a lost result) changes nothing."""
        if not isinstance(seen, Observation) or seen.outcome is Outcome.CANCELLED:
            return self
        task = seen.task
        old = self.categories.get(task.category) or CategoryBeliefs()
        shared = old.shared.learnt(seen, None)
        groups = dict(old.groups)
        if task.group:
            groups[task.group] = (groups.get(task.group) or GroupBeliefs()).learnt(seen, old.shared)
        categories = dict(self.categories)
        categories[task.category] = CategoryBeliefs(shared, groups)
        dispatch_s, starts_s = self._paced(seen)
        return Beliefs(categories, dispatch_s, starts_s, self.version + 1)

    def _paced(self, seen: Observation) -> tuple[float, tuple[float, ...]]:
        """Collect starts; every so often read off what one dispatch costs while slots wait for it.

        A manager that dispatches serially starts tasks at a steady gap whenever several slots are free, so the gap is
        the low quantile of those between starts. Where dispatch is no limit this gives a tenth of the mean gap.
        """
        if seen.started_s is None:
            return self.dispatch_s, self.starts_s
        starts = (*self.starts_s, seen.started_s)
        if len(starts) < _STARTS:
            return self.dispatch_s, starts
        ordered = sorted(starts)
        gaps = sorted(b - a for a, b in pairwise(ordered))
        return gaps[len(gaps) // 10], ()

    def about(self, category: str, group: str = "") -> GroupBeliefs:
        """What is believed about a group of a category; empty beliefs where nothing is known."""
        found = self.categories.get(category)
        return _NOTHING if found is None else found.group(group)

    def expected(self, category: str, group: str, work: Work) -> tuple[float | None, float | None]:
        """The memory (MiB) and slot time (s) that half of such attempts stay below; None where unknown."""
        about = self.about(category, group)
        x = size_of(work)
        memory, wall = about.memory.line, about.wall.line
        return (memory.median(x) if memory else None, wall.median(x) if wall else None)


_NOTHING = GroupBeliefs()
