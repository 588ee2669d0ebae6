"""The default policy: probe, fit, choose size and allocation together, shrink at the end."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from shaper.models.beliefs import LEARNING, Beliefs, GroupBeliefs, size_of
from shaper.models.line import Line
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
from shaper.units import show_count, show_mib, show_seconds
from shaper.work import by_source, split

# Probes are this small whatever the dataset, and at most this share of it: they cost next to nothing.
_PROBE_ELEMENTS = 1024
_PROBE_SHARE = 512
_PROBE_SPREAD = (1, 4, 16)
# Fewer losses than this say nothing about how long workers live.
_LOSSES_TELL = 5
# A straggler is slower than all but this share of its like, and than this many seconds; one of them has to be late by
# `_LATE`. Only the oldest tasks are looked at.
_LATE_RISK, _LATE_S, _OLDEST = 0.01, 1.0, 64
_LATE = 1.5
# A chunk lost so often in a row is cut: it may run longer than workers live.
_LOSSES = 3
# The first tasks of another group are this much smaller than what its category suggests.
_FIRST_SHARE = 4
# Tasks that wait are cut anew when the size has grown by this factor.
_GROWN = 2
_NO_LIMIT = 10**9
# After an alarm, tasks with this risk of exceeding their memory are taken back.
_SUSPECT = 0.25
# Halves are tried where they need less than this share of the whole.
_SURELY = 0.75
_FAN_IN, _FAN_IN_MOST = 8, 16


class InFlight:
    """When the tasks in flight were released, and how much of their work is still to be done: O(1) per task."""

    def __init__(self) -> None:
        self._since_s: dict[TaskId, float] = {}
        self._sums: dict[str, tuple[int, float, float]] = {}  # by stage: tasks, elements, elements times release
        self._turn_s = 0.0

    def note(self, in_flight: Mapping[TaskId, Task], now_s: float) -> None:
        """What is new in flight was released in the turn before this one."""
        if isinstance(in_flight, dict):  # newest last, so that only new ones are looked at
            for task_id in reversed(in_flight):
                if task_id in self._since_s:
                    break
                self._add(in_flight[task_id], 1, self._turn_s)
                self._since_s[task_id] = self._turn_s
        self._turn_s = now_s

    def ended(self, task: Task) -> None:
        """A task was observed."""
        since_s = self._since_s.pop(task.id, None)
        if since_s is not None:
            self._add(task, -1, since_s)

    def _add(self, task: Task, sign: int, since_s: float) -> None:
        if isinstance(task.work, Merge):
            return
        size = sign * task.work.elements
        tasks, elements, weighted = self._sums.get(task.stage, (0, 0.0, 0.0))
        self._sums[task.stage] = tasks + sign, elements + size, weighted + size * since_s

    def left(self, stage: str, line: Line | None) -> float:
        """Elements that the tasks in flight have still to process, if they proceed steadily."""
        tasks, elements, weighted = self._sums.get(stage, (0, 0.0, 0.0))
        if line is None or tasks < 1 or elements <= 0:
            return 0.0
        age_s = self._turn_s - weighted / elements
        usual_s = line.median(elements / tasks)
        return elements * min(1.0, max(0.0, 1.0 - age_s / max(usual_s, 1e-9)))

    def since_s(self, task_id: TaskId) -> float:
        """When a task was released."""
        return self._since_s.get(task_id, self._turn_s)


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
        concurrency: most processing tasks at once; as many as the workers hold by default.
        without: ingredients to switch off, to see what they are worth; see `settings.INGREDIENTS`.
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
        concurrency: int | None = None,
        without: Collection[str] = (),
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
            concurrency=concurrency,
            without=without,
        )
        self.prior = Beliefs(without=self.settings.without & LEARNING)
        # The best size of a group stays what it is until its lines or the workers change.
        self._sizes: dict[tuple[str, str], tuple[object, object, object, Size | None]] = {}
        self._roomiest: dict[str, float] = {}  # most slots any group of a stage has had
        self._most_given_mib = 0
        self._flying = InFlight()
        self._wanted: dict[tuple[str, str], int] = {}  # the last size of each group
        self._alarms = 0
        self._taken_back: set[tuple[str, int]] = set()  # where spans began that were taken back: once is enough
        self._cut_at: dict[tuple[str, str], int] = {}
        self._grown = self._grown_seen = 0  # how often a size has grown so that what waits is too small
        self._nothing_left = False

    # -- shapes --------------------------------------------------------------------------------------------------

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Fill the workers from the first group on; new groups start with few tasks until one has finished."""
        if capacity.largest is None:
            return ()
        if beliefs.version == 0:
            # A new run: what an earlier one taught this object does not count.
            self._sizes.clear()
            self._roomiest.clear()
            self._flying = InFlight()
            self._wanted.clear()
            self._cut_at.clear()
            self._taken_back.clear()
        self._nothing_left = not backlog.groups
        shapes = [shape for stage in backlog.stages if (shape := self._merging(stage, beliefs, capacity)) is not None]
        left = {stage.stage: stage.pending_elements for stage in backlog.stages}
        crossing = "cross-source" not in self.settings.without
        free = 1.0  # share of the workers not yet spoken for
        allowed = self._allowed(backlog)
        shown = {stage.stage: 0 for stage in backlog.stages}
        for group in backlog.groups:
            shown[group.stage] += group.in_flight
            free -= group.in_flight / self._slots(group, beliefs, capacity)
        for stage in backlog.stages:
            # Tasks of groups that have nothing left to cut: taken to hold little, rather than leave workers idle.
            free -= (stage.in_flight - shown[stage.stage]) / self._roomiest.get(stage.stage, float(capacity.cores))
        for group in backlog.groups:
            if free <= 0 or allowed <= 0:
                break
            about = beliefs.about(group.category, group.group)
            size = self._best(group, about, beliefs, capacity)
            if size is None:
                probes = self._probes(group, about, capacity, left[group.stage])
                shapes += probes
                allowed -= max(0, probes[-1].in_flight - group.in_flight)
                free -= max(0, probes[-1].in_flight - group.in_flight) / max(1, capacity.cores)
                continue
            line = about.wall.line
            if line is not None and not line.identified and group.in_flight and about.done < len(_PROBE_SPREAD):
                # One size says nothing about others: the next probe to finish is worth more than a full machine.
                continue
            still = left[group.stage] + self._flying.left(group.stage, size.wall)
            size = chunksize.tail(size, still, self.settings, beliefs.dispatch_s)
            room = max(1, round(free * size.slots))
            if about.cautious:
                smaller = max(self.settings.min_chunksize, size.elements // _FIRST_SHARE, 1)
                size = Size(
                    smaller, size.slots, "small until some finish: several needed far more memory than believed"
                )
            elif self._unproven(group, beliefs):
                room = min(room, max(1, max(2, size.slots // 8) - group.in_flight))
                smaller = max(self.settings.min_chunksize, size.elements // _FIRST_SHARE, 1)
                size = Size(smaller, size.slots, f"the first of {group.group}, whose tasks may differ from the others")
            elements = even(size.elements, group.pending_elements, size.slots, self.settings.min_chunksize)
            tasks = group.waiting + -(-group.pending_elements // elements)
            key = group.stage, group.group
            # Noted with some way between, so that what waits is looked through a few times in all.
            if elements >= _GROWN * self._cut_at.setdefault(key, elements):
                self._cut_at[key] = elements
                self._grown += 1
            self._wanted[key] = elements
            more = min(room, tasks, allowed)
            allowed -= more
            free -= more / size.slots
            wanted = group.in_flight + more
            shapes.append(Shape(group.stage, group.group, None, elements, wanted, size.reason, cross_sources=crossing))
        return shapes

    def _allowed(self, backlog: Backlog) -> int:
        """How many more processing tasks may be in flight."""
        if self.settings.concurrency is None:
            return _NO_LIMIT
        return self.settings.concurrency - sum(stage.in_flight for stage in backlog.stages)

    def _slots(self, group: GroupBacklog, beliefs: Beliefs, capacity: Capacity) -> float:
        """How many tasks of a group the workers hold, and some that wait for a slot to fall free."""
        size = self._best(group, beliefs.about(group.category, group.group), beliefs, capacity)
        slots = size.slots if size is not None else capacity.cores
        slots += max(1, slots // 20)
        self._roomiest[group.stage] = max(self._roomiest.get(group.stage, 0.0), slots)
        return slots

    def _merging(self, stage: StageBacklog, beliefs: Beliefs, capacity: Capacity) -> Shape | None:
        if stage.results < 2:
            return None
        fan_in = self.settings.fan_in or self._fan_in(stage, beliefs)
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
        reason = f"merge what is left, {fan_in} results at a time"
        return Shape(stage.stage, "", None, 1, max(1, capacity.cores), reason, fan_in=fan_in)

    def _fan_in(self, stage: StageBacklog, beliefs: Beliefs) -> int:
        """While processing goes on few merges, hidden behind it; at the end the tree that is done first.

        A tree over r results at k per merge has log r / log k levels of the time of one merge each.
        """
        line = beliefs.about(stage.category).wall.line
        if stage.processing_left or line is None or stage.result_bytes is None or "fan-in" in self.settings.without:
            return _FAN_IN
        kib = max(1.0, stage.result_bytes / 1024)
        return min(range(2, _FAN_IN_MOST + 1), key=lambda k: (line.median(k * kib) + chunksize.TASK_S) / math.log(k))

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
        if "probes" in self.settings.without and about.exhausted == 0:
            guess = max(self.settings.first_guess or 64 * base, self.settings.min_chunksize)
            return [Shape(group.stage, group.group, None, guess, capacity.cores, "a guess: nothing is known yet")]
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
        size = chunksize.best(about, capacity, self.settings, self._pace(beliefs))
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
        """Take back what waits for a worker that has left, and at the end what runs far longer than it should."""
        self._flying.note(in_flight, now_s)
        largest = capacity.largest
        if largest is None:
            return ()
        if self._most_given_mib <= largest.memory_mib:
            if found := self._changed(beliefs, in_flight):
                return found
            if capacity.waiting and (found := self._small(capacity.waiting, in_flight)):
                return found
            if not self._nothing_left or "stragglers" in self.settings.without:
                return ()
            return self._stragglers(beliefs, capacity, in_flight, now_s)
        self._most_given_mib = largest.memory_mib
        reason = f"no worker has {{}} any more; the largest has {show_mib(largest.memory_mib)}"
        return [
            Cancel(task.id, reason.format(show_mib(task.resources.memory_mib)))
            for task in in_flight.values()
            if task.resources.memory_mib > largest.memory_mib
        ]

    def _changed(self, beliefs: Beliefs, in_flight: Mapping[TaskId, Task]) -> list[Cancel]:
        """After an alarm: tasks cut since then that are now believed to exceed their memory too."""
        alarms = sum(category.shared.alarms for category in beliefs.categories.values())
        if alarms == self._alarms:
            return []
        self._alarms = alarms
        found = []
        for task in in_flight.values():
            shared = beliefs.about(task.category)
            line = beliefs.about(task.category, task.group).memory.line
            if not isinstance(task.work, Chunk) or shared.changed_s is None or line is None:
                continue
            since_s = self._flying.since_s(task.id)
            given_mib = task.resources.memory_mib
            if since_s > shared.changed_s and line.upper(task.work.elements, _SUSPECT) > given_mib:
                found.append(Cancel(task.id, f"believed to need more than {show_mib(given_mib)} now"))
        return found

    def _small(self, waiting: int, in_flight: Mapping[TaskId, Task]) -> list[Cancel]:
        """Tasks that have not started and were cut when far smaller sizes seemed right."""
        if self._grown == self._grown_seen or not isinstance(in_flight, dict) or "recut" in self.settings.without:
            return []
        self._grown_seen = self._grown
        found = []
        for task_id in islice(reversed(in_flight), waiting):
            task = in_flight[task_id]
            wanted = self._wanted.get((task.stage, task.group), 0)
            if isinstance(task.work, Chunk) and _GROWN * task.work.elements <= wanted:
                found.append(Cancel(task_id, f"tasks of {show_count(wanted)} elements are believed to be better now"))
        return found

    def _stragglers(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> list[Cancel]:
        """Tasks that idle workers would finish earlier if they began anew, in smaller pieces: their worker is slow."""
        idle = sum(kind.free_cores for kind in capacity.kinds) // self.settings.cores
        late: list[tuple[Task, float, float]] = []
        sure = False
        for task in islice(in_flight.values(), _OLDEST):
            line = beliefs.about(task.category, task.group).wall.line
            if line is None or not isinstance(task.work, Chunk) or task.work.elements < 2:
                continue
            first = task.work.spans[0]
            age_s, limit_s = now_s - self._flying.since_s(task.id), line.upper(task.work.elements, _LATE_RISK)
            if age_s > max(limit_s, _LATE_S) and (first.source.id, first.start) not in self._taken_back:
                anew_s = line.upper(task.work.elements / max(1, min(idle, task.work.elements)), _LATE_RISK)
                sure = sure or age_s > _LATE * max(limit_s, anew_s)
                late.append((task, age_s, line.median(task.work.elements)))
        if not sure or idle < 2:
            return []
        found = []
        # All that are late go together: what stays behind would keep the slow worker the one with the best fit.
        for task, age_s, usual_s in late[: max(1, idle // 2)]:
            assert isinstance(task.work, Chunk)
            self._taken_back |= {(span.source.id, span.start) for span in task.work.spans}
            why = f"runs for {show_seconds(age_s)} instead of {show_seconds(usual_s)}: once more on idle workers"
            found.append(Cancel(task.id, why))
        return found

    # -- verdicts ------------------------------------------------------------------------------------------------

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Apply the common table; after an exceeded limit split into pieces the model believes in, or give more."""
        task, work = seen.task, seen.task.work
        self._flying.ended(task)
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
        size = chunksize.best(about, capacity, self.settings, self._pace(beliefs))
        believed = float(size.elements) if size is not None else work.elements / 8
        if about.cautious:
            believed /= _FIRST_SHARE
        # Towards the end a whole piece again would be waited for.
        believed = min(believed, self._wanted.get((task.stage, task.group), believed))
        if work.elements > 1.5 * believed and self._divisible(work):
            return self._split(work, believed, what)
        if self._halves_fit(seen, about, cap):
            return self._split(work, work.elements / 2, what)
        if task.resources.memory_mib < cap:
            return self._more(seen, cap, what)
        if (split_up := self._smaller(work, what)) is not None:
            return split_up
        more = "no worker has more" if cap == most else f"the cap is {show_mib(cap)}"
        if work.elements == 1:
            return GiveUp(f"one element {what}, and {more}")
        return GiveUp(f"{work.elements} elements {what}, and {more}; a smaller min_chunksize would allow to cut them")

    def _pace(self, beliefs: Beliefs) -> chunksize.Pace:
        """Losses are of workers, not of categories: those of all count together."""
        lost = sum(category.shared.lost for category in beliefs.categories.values())
        held_s = sum(category.shared.held_s for category in beliefs.categories.values())
        dispatch_s = beliefs.dispatch_s if "dispatch" not in self.settings.without else 0.0
        known = lost >= _LOSSES_TELL and "eviction" not in self.settings.without
        return chunksize.Pace(dispatch_s, lost / held_s if known else 0.0)

    def _halves_fit(self, seen: Observation, about: GroupBeliefs, cap_mib: int) -> bool:
        """Whether halves in what was given cost less (a fixed cost) than once more with more (others' memory)."""
        work, given_mib = seen.task.work, seen.task.resources.memory_mib
        memory, wall = about.memory.line, about.wall.line
        if memory is None or wall is None or not isinstance(work, Chunk) or not self._divisible(work):
            return False
        half = work.elements / 2
        fits = max(0.5, memory.median(half) / memory.median(work.elements)) < _SURELY
        more_s = wall.median(work.elements) * (min(1.5 * given_mib, cap_mib) / given_mib - 1.0)
        return fits and 2.0 * wall.median(half) - wall.median(work.elements) < more_s

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
