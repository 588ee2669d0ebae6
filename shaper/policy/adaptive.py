"""The default policy: probe, fit, choose size and allocation together, shrink at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from shaper.models.beliefs import Beliefs, GroupBeliefs, size_of
from shaper.policy import chunksize, verdict
from shaper.policy.allocation import allocate, rounded
from shaper.policy.chunksize import Size
from shaper.policy.settings import Goal, Objective, checked
from shaper.types import (
    Backlog,
    Cancel,
    Capacity,
    Chunk,
    GiveUp,
    GroupBacklog,
    Merge,
    Observation,
    Outcome,
    Resources,
    Retry,
    Shape,
    Split,
    StageBacklog,
    Task,
    TaskId,
    Verdict,
    Work,
)
from shaper.units import show_count, show_mib
from shaper.work import by_source, split

# Probes are this small whatever the dataset, and at most this share of it: they cost next to nothing.
_PROBE_ELEMENTS = 1024
_PROBE_SHARE = 512
_PROBE_SPREAD = (1, 4, 16)
# A chunk lost so often in a row is cut: it may run longer than workers live.
_LOSSES = 3
# The first tasks of another group are this much smaller than what its category suggests.
_FIRST_SHARE = 4


class Adaptive:
    """Finds chunksize, allocation and concurrency while the run goes on.

    All arguments are optional; what is not given is decided.

    Args:
        first_guess: a chunksize to start near; it is tried with smaller probes first, never trusted.
        min_chunksize: never cut smaller, except where a source ends.
        target_memory: memory per task, MiB or a string with a unit.
        target_wall: run time per task, seconds or a string with a unit.
        cap: memory above which a task is split rather than given more; below a whole worker.
        objective: what the allocation optimises: `throughput`, `waste` (least memory given and not used) or `retries`
            (fewest; for runs that are short).
        goal: of the whole workload: `makespan`, or `cost` (fewest core-seconds).
        risk: probability that a task exceeds its memory; 2 % by default.
        retries: how often a piece whose function raised is run again.
        fan_in: results per merge.
        cores: per processing task.
    """

    name = "adaptive"

    def __init__(
        self,
        *,
        first_guess: int | None = None,
        min_chunksize: int = 1,
        target_memory: str | int | None = None,
        target_wall: str | float | None = None,
        cap: str | int | None = None,
        objective: Objective = "throughput",
        goal: Goal = "makespan",
        risk: float | None = None,
        retries: int = 1,
        fan_in: int | None = None,
        cores: int = 1,
    ) -> None:
        self.settings = checked(
            first_guess=first_guess,
            min_chunksize=min_chunksize,
            target_memory=target_memory,
            target_wall=target_wall,
            cap=cap,
            objective=objective,
            goal=goal,
            risk=risk,
            retries=retries,
            fan_in=fan_in,
            cores=cores,
        )
        # The best size of a group stays what it is until its lines or the workers change.
        self._sizes: dict[tuple[str, str], tuple[object, object, object, Size | None]] = {}
        self._roomiest: dict[str, float] = {}  # most slots any group of a stage has had
        self._most_given_mib = 0

    # -- shapes --------------------------------------------------------------------------------------------------

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Fill the workers from the first group on; new groups start with few tasks until one has finished."""
        if capacity.largest is None:
            return ()
        if beliefs.version == 0:
            # A new run: what an earlier one taught this object does not count.
            self._sizes.clear()
            self._roomiest.clear()
        shapes = [shape for stage in backlog.stages if (shape := self._merging(stage, capacity)) is not None]
        left = {stage.stage: stage.pending_elements for stage in backlog.stages}
        free = 1.0  # share of the workers not yet spoken for
        shown = {stage.stage: 0 for stage in backlog.stages}
        for group in backlog.groups:
            shown[group.stage] += group.in_flight
            free -= group.in_flight / self._slots(group, beliefs, capacity)
        for stage in backlog.stages:
            # Tasks of groups that have nothing left to cut: taken to hold little, rather than leave workers idle.
            free -= (stage.in_flight - shown[stage.stage]) / self._roomiest.get(stage.stage, float(capacity.cores))
        for group in backlog.groups:
            if free <= 0:
                break
            about = beliefs.about(group.category, group.group)
            size = self._best(group, about, beliefs, capacity)
            if size is None:
                probes = self._probes(group, about, capacity, left[group.stage])
                shapes += probes
                free -= max(0, probes[-1].in_flight - group.in_flight) / max(1, capacity.cores)
                continue
            size = chunksize.tail(size, left[group.stage], about.wall.line, self.settings)
            room = max(1, round(free * size.slots))
            if self._unproven(group, beliefs):
                room = min(room, max(1, max(2, size.slots // 8) - group.in_flight))
                smaller = max(self.settings.min_chunksize, size.elements // _FIRST_SHARE, 1)
                size = Size(smaller, size.slots, f"the first of {group.group}, whose tasks may differ from the others")
            elements = even(size.elements, group.pending_elements, size.slots, self.settings.min_chunksize)
            tasks = group.waiting + -(-group.pending_elements // elements)
            more = min(room, tasks)
            free -= more / size.slots
            shapes.append(Shape(group.stage, group.group, None, elements, group.in_flight + more, size.reason))
        return shapes

    def _slots(self, group: GroupBacklog, beliefs: Beliefs, capacity: Capacity) -> float:
        """How many tasks of a group the workers hold, and some that wait for a slot to fall free."""
        size = self._best(group, beliefs.about(group.category, group.group), beliefs, capacity)
        slots = size.slots if size is not None else capacity.cores
        slots += max(1, slots // 20)
        self._roomiest[group.stage] = max(self._roomiest.get(group.stage, 0.0), slots)
        return slots

    def _merging(self, stage: StageBacklog, capacity: Capacity) -> Shape | None:
        if stage.results < 2:
            return None
        fan_in = self.settings.fan_in or 8
        if stage.processing_left:
            return Shape(
                stage.stage,
                "",
                None,
                1,
                max(1, capacity.cores // 4),
                f"merge {fan_in} results at a time while processing goes on",
                fan_in=fan_in,
            )
        return Shape(stage.stage, "", None, 1, max(1, capacity.cores), "merge what is left", fan_in=fan_in)

    def _probes(self, group: GroupBacklog, about: GroupBeliefs, capacity: Capacity, left: int) -> list[Shape]:
        """A few tasks of spread sizes; smaller ones while none has finished."""
        base = max(1, min(_PROBE_ELEMENTS, left // (_PROBE_SHARE * max(1, capacity.cores))))
        if self.settings.first_guess is not None:
            base = min(base, self.settings.first_guess)
        reason = "a probe: nothing is known yet"
        if about.smallest_exhausted is not None:
            base = max(1, min(base, int(about.smallest_exhausted) // 8))
            reason = f"a smaller probe: {show_count(about.smallest_exhausted)} elements did not fit"
        base = max(base, self.settings.min_chunksize)
        spread = _PROBE_SPREAD if about.exhausted == 0 else _PROBE_SPREAD[:1]
        return [
            Shape(group.stage, group.group, None, max(1, base * factor), count, reason)
            for count, factor in enumerate(spread[: max(1, capacity.cores)], start=1)
        ]

    def _best(self, group: GroupBacklog, about: GroupBeliefs, beliefs: Beliefs, capacity: Capacity) -> Size | None:
        key = (group.stage, group.group)
        known = self._sizes.get(key)
        memory, wall = about.memory.line, about.wall.line
        workers = tuple((kind.name, kind.count) for kind in capacity.kinds)
        if known is not None and known[0] is memory and known[1] is wall and known[2] == workers:
            return known[3]
        size = chunksize.best(about, capacity, self.settings, beliefs.dispatch_s)
        self._sizes[key] = (memory, wall, workers, size)
        return size

    @staticmethod
    def _unproven(group: GroupBacklog, beliefs: Beliefs) -> bool:
        """Whether a group has finished nothing yet while its category has: what is believed may not hold for it."""
        if not group.group:
            return False
        known = beliefs.categories.get(group.category)
        if known is None:
            return False
        own = known.groups.get(group.group)
        return own is None or own.done == 0

    # -- allocation ----------------------------------------------------------------------------------------------

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """Give the memory that this size needs at the stated risk."""
        about = beliefs.about(work.category, work.group)
        given = allocate(size_of(work), about, capacity, self.settings, merge=isinstance(work, Merge))
        self._most_given_mib = max(self._most_given_mib, given.memory_mib)
        return given

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Take back what waits for a worker that has left; so few other tasks wait that re-cutting gains nothing."""
        largest = capacity.largest
        if largest is None or self._most_given_mib <= largest.memory_mib:
            return ()
        self._most_given_mib = largest.memory_mib
        reason = f"no worker has {{}} any more; the largest has {show_mib(largest.memory_mib)}"
        return [
            Cancel(task.id, reason.format(show_mib(task.resources.memory_mib)))
            for task in in_flight.values()
            if task.resources.memory_mib > largest.memory_mib
        ]

    # -- verdicts ------------------------------------------------------------------------------------------------

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Apply the common table; after an exceeded limit split into pieces the model believes in, or give more."""
        task, work = seen.task, seen.task.work
        if seen.outcome is Outcome.LOST and isinstance(work, Chunk) and task.losses + 1 >= _LOSSES:
            size = work.elements / _FIRST_SHARE
            if size >= self.settings.min_chunksize and work.elements > 1 and not _none_finished(task, beliefs):
                return self._split(work, size, f"lost {task.losses + 1} times, shorter tasks lose less")
        if seen.outcome is Outcome.CANCELLED and isinstance(work, Merge):
            return Retry(self.allocate(work, beliefs, capacity), seen.detail or "taken back")
        return verdict.judge(
            seen,
            beliefs,
            retries=self.settings.retries,
            exhausted=lambda seen: self._exhausted(seen, beliefs, capacity),
        )

    def _exhausted(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        task, work, what = seen.task, seen.task.work, verdict.describe(seen)
        largest = capacity.largest
        most = largest.memory_mib if largest is not None else task.resources.memory_mib
        if seen.outcome is not Outcome.OUT_OF_MEMORY:
            return self._smaller(work, what) or GiveUp(what)
        if isinstance(work, Merge):
            if task.resources.memory_mib < most:
                return self._more(seen, most, what)
            return GiveUp(f"{what}, and no worker has more")
        cap = chunksize.limited(most, self.settings)
        about = beliefs.about(task.category, task.group)
        size = chunksize.best(about, capacity, self.settings, beliefs.dispatch_s)
        believed = float(size.elements) if size is not None else work.elements / 8
        if work.elements > 1.5 * believed and self._divisible(work):
            return self._split(work, believed, what)
        if task.resources.memory_mib < cap:
            return self._more(seen, cap, what)
        if (split_up := self._smaller(work, what)) is not None:
            return split_up
        more = "no worker has more" if cap == most else f"the cap is {show_mib(cap)}"
        if work.elements == 1:
            return GiveUp(f"one element {what}, and {more}")
        return GiveUp(f"{work.elements} elements {what}, and {more}; a smaller min_chunksize would allow to cut them")

    def _split(self, work: Chunk, believed: float, what: str) -> Verdict:
        size = max(1, self.settings.min_chunksize, min(int(believed), work.elements - 1))
        pieces = split(work, size, least=self.settings.min_chunksize)
        return Split(pieces, f"{what}: cut into {len(pieces)} pieces of about {show_count(size)} elements")

    def _smaller(self, work: Work, what: str) -> Verdict | None:
        if not isinstance(work, Chunk):
            return None
        if len(by_source(work)) > 1:
            return verdict.smaller(work, what)
        return self._split(work, work.elements / 2, what) if self._divisible(work) else None

    def _divisible(self, work: Chunk) -> bool:
        return work.elements > self.settings.min_chunksize

    def _more(self, seen: Observation, cap_mib: int, what: str) -> Verdict:
        given = seen.task.resources
        more = rounded(max(given.memory_mib * 1.5, 128.0), cap_mib)
        # One element that died may need anything: less than the most would only repeat it.
        if more < cap_mib and (seen.task.attempt - seen.task.losses >= 2 or seen.task.work.elements == 1):
            more = cap_mib
        resources = Resources(given.cores, more, given.disk_mib, given.wall_s)
        self._most_given_mib = max(self._most_given_mib, more)
        return Retry(resources, f"{what}: once more with {show_mib(more)}")


def _none_finished(task: Task, beliefs: Beliefs) -> bool:
    category = beliefs.categories.get(task.category)
    return category is None or category.shared.done == 0


def even(elements: int, left: int, slots: int, least: int) -> int:
    """Shrink a size a little, not below `least`, where that makes what is left a whole number of equal tasks."""
    if left <= 0:
        return elements
    tasks = max(1, min(math.ceil(left / elements), left // least))
    return math.ceil(left / tasks) if tasks <= 4 * max(1, slots) else elements
