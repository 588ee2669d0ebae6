"""What is believed about each category and group, learnt from observations; a value, bounded in size.

A group (a dataset, a chromosome) has bins of its own and borrows those of its category as long as its own are few, so
a new dataset starts from what the others showed and a deviating one soon stands on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from shaper.models.group import GroupBeliefs, size_of
from shaper.models.line import PRIOR_GROWING
from shaper.models.outage import NONE, Outage
from shaper.models.parallelism import ParallelismModel
from shaper.models.resource import Model
from shaper.models.runs import Run
from shaper.types import Chunk, Mode, Observation, Outcome, StageRun, Work

_STARTS = 64  # starts looked at together when the pace of dispatch is read off
_SLOWER = 1.25  # at most so much dearer does dispatch become from one reading to the next
# Ways of learning that can be switched off.
LEARNING = frozenset({"censoring", "bends", "surprise", "groups"})
# Misses count where at least this part grows with the size; each has this weight.
_MATTERS, _APART_FADING = 0.3, 0.15
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CategoryBeliefs:
    """One category: the shared beliefs and those of its groups."""

    shared: GroupBeliefs = field(default_factory=GroupBeliefs)
    groups: Mapping[str, GroupBeliefs] = field(default_factory=dict)
    apart: float = PRIOR_GROWING**2  # mean square of what sources new to a group missed its line by, where sizes matter

    def group(self, name: str) -> GroupBeliefs:
        """The beliefs about a group; what it has not shown itself is taken from the category."""
        own = self.groups.get(name)
        if own is None or own.memory.line is None:
            return replace(self.shared, done=0) if name else self.shared
        if own.wall.line is None:
            return replace(own, wall=self.shared.wall, largest_done=self.shared.largest_done)
        return own


@dataclass(frozen=True, slots=True)
class StageRuns:
    """What the runs of the stages of a category have shown about parallelism.

    Args:
        base_elements: of the first stage that ran, the baseline; the size of others counts in these.
        last: the last run of this session.
    """

    base_elements: int
    last: StageRun | None = None
    model: ParallelismModel = field(default_factory=ParallelismModel)

    def updated(self, run: StageRun) -> StageRuns:
        """Return this after one more run."""
        model = self.model.updated(Run(run.s, self.gamma(run.elements), run.load, run.wall_s))
        return replace(self, model=model, last=run)

    def gamma(self, elements: int) -> float:
        """The size of an input over the baseline's."""
        return elements / self.base_elements


@dataclass(frozen=True, slots=True)
class Beliefs:
    """All that has been learnt, by category, the pace at which the engine starts tasks, and I/O errors by group."""

    categories: Mapping[str, CategoryBeliefs] = field(default_factory=dict)
    dispatch_s: float = 0.0
    starts_s: tuple[float, ...] = ()
    version: int = 0
    without: frozenset[str] = _NONE
    outages: Mapping[tuple[str, str], Outage] = field(default_factory=dict)  # by stage and group
    parallelism: Mapping[tuple[str, Mode], StageRuns] = field(default_factory=dict)  # by category, and what s counts

    def updated(self, seen: object) -> Beliefs:
        """Return the beliefs after one observation; anything else (a lost result) changes nothing."""
        if not isinstance(seen, Observation) or seen.outcome is Outcome.CANCELLED:
            return self
        task = seen.task
        old = self.categories.get(task.category) or CategoryBeliefs(self._blank)
        shared = old.shared.learnt(seen, None)
        groups = dict(old.groups)
        if task.group and "groups" not in self.without:
            own = groups.get(task.group) or self._blank
            apart = _apart(old.apart, own, seen)
            if math.sqrt(apart) > own.memory.growing:
                own = replace(own, memory=replace(own.memory, growing=math.sqrt(apart)))
            groups[task.group] = own.learnt(seen, old.shared)
        else:
            apart = old.apart
        categories = dict(self.categories)
        categories[task.category] = CategoryBeliefs(shared, groups, apart)
        dispatch_s, starts_s = self._paced(seen)
        key = task.stage, task.group
        known = self.outages.get(key, NONE)
        outage = known.updated(seen)
        outages = self.outages if outage is known else {**self.outages, key: outage}
        return Beliefs(categories, dispatch_s, starts_s, self.version + 1, self.without, outages, self.parallelism)

    def ran(self, run: StageRun) -> Beliefs:
        """Return the beliefs after a stage, or a part of it, ran at one parallelism."""
        key = run.category, run.mode
        known = self.parallelism.get(key) or StageRuns(run.stage_elements)
        return replace(self, parallelism={**self.parallelism, key: known.updated(run)})

    @property
    def _blank(self) -> GroupBeliefs:
        return GroupBeliefs(Model(without=self.without), Model(without=self.without)) if self.without else _NOTHING

    def remembered(self) -> Beliefs:
        """What the next run of the same analysis may begin with: lines, but no counts, and little confidence.

        Sizes stay small until some tasks have finished; what was learnt is outweighed after a few observations, and
        forgotten where the first of them are far from it.
        """
        return replace(self._taken_over(GroupBeliefs.remembered), dispatch_s=self.dispatch_s)

    def doubtful(self) -> Beliefs:
        """The same for a run that may be about something else: other code, other versions, other workers."""
        return self._taken_over(GroupBeliefs.doubtful)

    def _taken_over(self, how: Callable[[GroupBeliefs], GroupBeliefs]) -> Beliefs:
        return Beliefs(
            {
                name: CategoryBeliefs(how(known.shared), {group: how(own) for group, own in known.groups.items()})
                for name, known in self.categories.items()
            },
            without=self.without,
            parallelism=self.parallelism,
        )

    def _paced(self, seen: Observation) -> tuple[float, tuple[float, ...]]:
        """Collect starts; every so often read off what one dispatch costs while slots wait for it.

        A manager that dispatches serially starts tasks at a steady gap whenever several slots are free, so the gap is
        the low quantile of those between starts. Where dispatch is no limit this gives a tenth of the mean gap, which
        may be much where few tasks run; what was seen before bounds it, because a manager seldom becomes slower.
        """
        if seen.started_s is None:
            return self.dispatch_s, self.starts_s
        starts = (*self.starts_s, seen.started_s)
        if len(starts) < _STARTS:
            return self.dispatch_s, starts
        ordered = sorted(starts)
        gaps = sorted(b - a for a, b in pairwise(ordered))
        gap = gaps[len(gaps) // 10]
        return min(gap, _SLOWER * self.dispatch_s) if self.dispatch_s > 0 else gap, ()

    def about(self, category: str, group: str = "") -> GroupBeliefs:
        """What is believed about a group of a category; empty beliefs where nothing is known."""
        found = self.categories.get(category)
        return _NOTHING if found is None else found.group(group)

    def outage(self, stage: str, group: str) -> Outage:
        """What the I/O errors of a group say about the source of its data."""
        return self.outages.get((stage, group), NONE)

    def expected(self, category: str, group: str, work: Work) -> tuple[float | None, float | None]:
        """The memory (MiB) and slot time (s) that half of such attempts stay below; None where unknown."""
        about = self.about(category, group)
        x = size_of(work)
        memory, wall = about.memory.line, about.wall.line
        return (memory.median(x) if memory else None, wall.median(x) if wall else None)


def _apart(known: float, own: GroupBeliefs, seen: Observation) -> float:
    """Learn how far sources that a group has not seen lie from its line; all groups of a category learn together."""
    line, usage, work = own.memory.line, seen.usage, seen.task.work
    if line is None or usage is None or not usage.memory_mib or not isinstance(work, Chunk):
        return known
    if seen.outcome not in (Outcome.DONE, Outcome.OUT_OF_MEMORY) or work.spans[-1].source.id in own.sources:
        return known
    part = line.part(work.elements)
    if part < _MATTERS:
        return known
    miss = math.log(usage.memory_mib / line.median(work.elements)) / part
    return known + _APART_FADING * (miss * miss - known)


_NOTHING = GroupBeliefs()
