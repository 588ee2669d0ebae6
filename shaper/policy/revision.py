"""What is taken back after it was submitted, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from shaper.models.beliefs import Beliefs
from shaper.models.line import Line
from shaper.policy.oversized import Oversized
from shaper.policy.settings import Settings
from shaper.types import Cancel, Capacity, Chunk, Merge, Observation, Outcome, StageBacklog, Task, TaskId
from shaper.units import show_count, show_mib, show_seconds

# A straggler is slower than all but this share of its like, and than this many seconds; one of them has to be late by
# `_LATE`. Only the oldest tasks are looked at.
_LATE_RISK, _LATE_S, _OLDEST = 0.01, 1.0, 64
_LATE = 1.5
# After so many pieces it is the work that is slow, not a worker.
_MOST_TAKEN_BACK = 64
# They are looked through again after this share of the time that such tasks take.
_LOOK_SHARE = 0.1
# Tasks that wait are cut anew when the size that is wanted has grown or shrunk by these factors since.
_GROWN, _SHRUNK = 2.0, 1.25
_RECUT_S = 0.5
# After an alarm, tasks with this risk of exceeding their memory are taken back.
_SUSPECT = 0.25


class InFlight:
    """When the tasks in flight were released, and how much of their work is still to be done: O(1) per task."""

    def __init__(self) -> None:
        self._since_s: dict[TaskId, float] = {}
        self._sums: dict[str, tuple[float, float]] = {}  # by stage: elements, elements times release
        self._turn_s = 0.0
        self._now_s = 0.0

    def note(self, in_flight: Mapping[TaskId, Task], now_s: float) -> int:
        """What is new in flight was released in the turn before this one; return the most memory that one was given."""
        most_mib = 0
        if isinstance(in_flight, dict):  # newest last, so that only new ones are looked at
            for task_id in reversed(in_flight):
                if task_id in self._since_s:
                    break
                task = in_flight[task_id]
                self._add(task, 1, self._turn_s)
                self._since_s[task_id] = self._turn_s
                most_mib = max(most_mib, task.resources.memory_mib)
        self._turn_s = self._now_s = now_s
        return most_mib

    def ended(self, seen: Observation) -> None:
        """A task was observed."""
        self._now_s = max(self._now_s, seen.finished_s)
        since_s = self._since_s.pop(seen.task.id, None)
        if since_s is not None:
            self._add(seen.task, -1, since_s)

    def _add(self, task: Task, sign: int, since_s: float) -> None:
        if isinstance(task.work, Merge):
            return
        size = sign * task.work.elements
        elements, weighted = self._sums.get(task.stage, (0.0, 0.0))
        self._sums[task.stage] = elements + size, weighted + size * since_s

    def left(self, stage: StageBacklog, line: Line | None) -> float:
        """Elements that the tasks in flight have still to process, if they proceed steadily."""
        if line is None or stage.in_flight < 1 or stage.in_flight_elements < 1:
            return float(stage.in_flight_elements)
        elements, weighted = self._sums.get(stage.stage, (0.0, 0.0))
        # What is not noted yet was released in the last turn.
        weighted += max(0.0, stage.in_flight_elements - elements) * self._turn_s
        age_s = self._now_s - weighted / max(elements, stage.in_flight_elements)
        usual_s = line.median(stage.in_flight_elements / stage.in_flight)
        return stage.in_flight_elements * min(1.0, max(0.0, 1.0 - age_s / max(usual_s, 1e-9)))

    def since_s(self, task_id: TaskId) -> float:
        """When a task was released."""
        return self._since_s.get(task_id, self._turn_s)


class Revision:
    """Looks at the tasks in flight once per turn; what it remembers is of one run.

    Attributes:
        flying: when the tasks in flight were released.
        wanted: the last size that was wanted of each stage and group.
        nothing_left: whether all work is in flight or done.
        oversized: tasks that wait for a larger worker than any that is connected.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.flying = InFlight()
        self.wanted: dict[tuple[str, str], int] = {}
        self.nothing_left = False
        self._most_given_mib = 0
        self.oversized = Oversized()
        self._alarms = 0
        self._cut_at: dict[tuple[str, str], int] = {}
        self._were_too_large: dict[tuple[str, str], int] = {}  # the largest that was cut anew because less was wanted
        self._look_again_s = 0.0
        self._recut_s, self._recut_pause_s = 0.0, _RECUT_S
        self._moved = self._moved_seen = 0  # how often a size has changed so much that what waits is wrong
        self._taken_back: set[tuple[str, int]] = set()  # where spans began that were taken back: once is enough

    def ended(self, seen: Observation) -> None:
        """An attempt was observed."""
        self.flying.ended(seen)
        if seen.outcome is Outcome.DONE:
            self._recut_s, self._recut_pause_s = 0.0, _RECUT_S

    def want(self, stage: str, group: str, elements: int) -> None:
        """Note the size that is wanted now."""
        key = stage, group
        # Noted with some way between, so that what waits is looked through a few times in all.
        before = self._cut_at.setdefault(key, elements)
        if elements >= _GROWN * before or _SHRUNK * elements <= before:
            self._cut_at[key] = elements
            self._moved += 1
        self.wanted[key] = elements

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Return what to take back."""
        self._most_given_mib = max(self._most_given_mib, self.flying.note(in_flight, now_s))
        largest = capacity.largest
        if largest is None:
            return ()
        if self.oversized and (found := self.oversized.waited(capacity.grace_s, largest.memory_mib, in_flight, now_s)):
            return found
        if self._most_given_mib > largest.memory_mib:
            self._most_given_mib = largest.memory_mib
            return self._too_large(capacity.grace_s, largest.memory_mib, in_flight, now_s)
        if found := self._changed(beliefs, in_flight):
            return found
        # What is taken back changes what is left, and so the size that is wanted: until something has finished, this is
        # done more and more rarely.
        if capacity.waiting and now_s >= self._recut_s and (found := self._wrong(capacity.waiting, in_flight)):
            self._recut_s, self._recut_pause_s = now_s + self._recut_pause_s, 2.0 * self._recut_pause_s
            return found
        if not self.nothing_left or "stragglers" in self.settings.without:
            return ()
        return self._stragglers(beliefs, capacity, in_flight, now_s)

    def _too_large(self, grace_s: float, most_mib: int, in_flight: Mapping[TaskId, Task], now_s: float) -> list[Cancel]:
        """What no worker can hold any more; where a larger one may come, what cannot be cut waits for it."""
        found = []
        for task in in_flight.values():
            if task.resources.memory_mib > most_mib:
                if grace_s and not divisible(task, self.settings):
                    self.oversized.add(task, now_s)
                else:
                    asked = show_mib(task.resources.memory_mib)
                    found.append(
                        Cancel(task.id, f"no worker has {asked} any more; the largest has {show_mib(most_mib)}")
                    )
        return found

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
            since_s = self.flying.since_s(task.id)
            given_mib = task.resources.memory_mib
            if since_s > shared.changed_s and line.upper(task.work.elements, _SUSPECT) > given_mib:
                found.append(Cancel(task.id, f"believed to need more than {show_mib(given_mib)} now"))
        return found

    def _wrong(self, waiting: int, in_flight: Mapping[TaskId, Task]) -> list[Cancel]:
        """Tasks that have not started and were cut when other sizes seemed right."""
        if self._moved == self._moved_seen or not isinstance(in_flight, dict) or "recut" in self.settings.without:
            return []
        self._moved_seen = self._moved
        found = []
        for task_id in islice(reversed(in_flight), waiting):
            task = in_flight[task_id]
            key = task.stage, task.group
            wanted = self.wanted.get(key, 0)
            # What was promised more memory keeps it, and its size.
            if not isinstance(task.work, Chunk) or not wanted or task.attempt - task.losses > 1:
                continue
            # At the end what is wanted changes with the slots that are idle: what was too large is no better later.
            larger = task.work.elements >= _SHRUNK * wanted
            if larger:
                self._were_too_large[key] = max(task.work.elements, self._were_too_large.get(key, 0))
            if larger or max(_GROWN * task.work.elements, self._were_too_large.get(key, 0) + 1) <= wanted:
                found.append(Cancel(task_id, f"tasks of {show_count(wanted)} elements are believed to be better now"))
        return found

    def _stragglers(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> list[Cancel]:
        """Tasks that idle workers would finish earlier if they began anew, in smaller pieces: their worker is slow."""
        idle = sum(kind.free_cores for kind in capacity.kinds) // self.settings.cores
        if len(self._taken_back) > _MOST_TAKEN_BACK:
            return []
        if idle < 2 or now_s < self._look_again_s or sum(kind.count for kind in capacity.kinds) < 2:
            return []  # of a single worker no other would be faster
        late: list[tuple[Task, float, float]] = []
        sure = False
        for task in islice(in_flight.values(), _OLDEST):
            line = beliefs.about(task.category, task.group).wall.line
            if line is None or not isinstance(task.work, Chunk) or task.work.elements < 2:
                continue
            first = task.work.spans[0]
            age_s, limit_s = now_s - self.flying.since_s(task.id), line.upper(task.work.elements, _LATE_RISK)
            if age_s > max(limit_s, _LATE_S) and (first.source.id, first.start) not in self._taken_back:
                anew_s = line.upper(task.work.elements / max(1, min(idle, task.work.elements)), _LATE_RISK)
                sure = sure or age_s > _LATE * max(limit_s, anew_s)
                late.append((task, age_s, line.median(task.work.elements)))
        if not sure:
            usual_s = min((usual_s for _, _, usual_s in late), default=_LATE_S)
            self._look_again_s = now_s + _LOOK_SHARE * max(usual_s, _LATE_S)
            return []
        found = []
        # All that are late go together: what stays behind would keep the slow worker the one with the best fit.
        for task, age_s, usual_s in late[: max(1, idle // 2)]:
            assert isinstance(task.work, Chunk)
            self._taken_back |= {(span.source.id, span.start) for span in task.work.spans}
            why = f"runs for {show_seconds(age_s)} instead of {show_seconds(usual_s)}: once more on idle workers"
            found.append(Cancel(task.id, why))
        return found


def divisible(task: Task, settings: Settings) -> bool:
    """Whether smaller pieces of a task can be tried."""
    return isinstance(task.work, Chunk) and task.work.elements > settings.min_chunksize
