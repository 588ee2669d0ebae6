"""How much a run could use now: tasks that could run side by side, what each needs, and how much work is left.

symbol   meaning
n        chunksize that the policy wants now, elements
m        the smallest size that is worth its fixed cost: workers that come make the policy cut so small at the end
w(n)     time a slot is held by a task of n elements
X        elements per second that the data source gives

Of E pending elements E / min(n, m) tasks could run at once, no more than the source feeds: about X w(n) / n, w(n)
without waiting for it (Little's law). While n still grows, m stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shaper.models.beliefs import Beliefs
from shaper.models.group import GroupBeliefs
from shaper.policy import chunksize
from shaper.policy.merging import FAN_IN
from shaper.policy.settings import Settings
from shaper.types import (
    Backlog,
    Capacity,
    GroupBacklog,
    Merge,
    Observation,
    Resources,
    Shape,
    StageBacklog,
    Task,
    Verdict,
)
from shaper.units import show_count

# So many tasks are enough to learn from, while nothing has finished.
_LEARNING = 3
# So much more than the source is known to feed is wanted: where it gives more, that shows.
_MORE = 1.25
# Half of what is in flight is still to be done, on average.
_HALF = 0.5
# Where the size that is wanted is so much larger than any that finished, it will be larger still.
_GROWING = 2.0

# Of stage and group; the group is None for merges.
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks that need the same.

    Args:
        count: so many could run at once, those that do included.
        memory_mib: of each; None while none was cut.
    """

    count: int
    cores: int = 1
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run could use now.

    Args:
        tasks: that could run side by side.
        work_s: slot time that is left altogether; None while nothing has finished.
        reason: in words a user can read.
    """

    tasks: tuple[Tasks, ...] = ()
    work_s: float | None = None
    reason: str = "nothing is left to run"


@dataclass(frozen=True, slots=True)
class Cut:
    """How the policy cuts and allocates, as far as it has.

    Args:
        sizes: elements of processing tasks, under the group "" also of groups that have none yet; results per merge.
        given: what the last first attempts were given.
        settings: of a policy that adapts sizes to the workers; None for one that does not.
    """

    sizes: Mapping[Key, int] = field(default_factory=dict)
    given: Mapping[Key, Resources] = field(default_factory=dict)
    settings: Settings | None = None


def note(sizes: dict[Key, int], shapes: Sequence[Shape]) -> None:
    """Keep the sizes that are wanted now, as a Cut has them."""
    for shape in shapes:
        sizes[shape.stage, shape.group if shape.fan_in is None else None] = shape.fan_in or shape.elements
        if shape.fan_in is None:
            sizes[shape.stage, ""] = shape.elements


class Outlook:
    """A watch: what a run could use, by what it was told last.

    Args:
        beliefs: that it begins with.
        settings: of its policy, where that adapts sizes to the workers.
    """

    def __init__(self, beliefs: Beliefs, settings: object) -> None:
        self.beliefs = beliefs
        self.backlog = Backlog()
        self.sizes: dict[Key, int] = {}
        self.given: dict[Key, Resources] = {}
        self._cut = Cut(self.sizes, self.given, settings if isinstance(settings, Settings) else None)

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note what is left, and the sizes."""
        self.backlog = backlog
        note(self.sizes, shapes)

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Note what tasks are given at first; a retry with more memory says nothing of the others."""
        self.beliefs = beliefs
        if task.attempt - task.losses == 1:
            self.given[task.stage, None if isinstance(task.work, Merge) else task.group] = task.resources
            if not isinstance(task.work, Merge):
                self.given[task.stage, ""] = task.resources

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Note what is believed now."""
        self.beliefs = beliefs

    def wanted(self) -> Wanted:
        """What it could use now."""
        return wanted(self.beliefs, self.backlog, self._cut)


def together(found: Iterable[Wanted]) -> Wanted:
    """What several runs could use at a time."""
    counts: dict[tuple[int, int | None], int] = {}
    work_s: float | None = 0.0
    reasons = []
    for one in found:
        for row in one.tasks:
            key = row.cores, row.memory_mib
            counts[key] = counts.get(key, 0) + row.count
        work_s = None if work_s is None or one.work_s is None else work_s + one.work_s
        if one.tasks:
            reasons.append(one.reason)
    if not counts:
        return Wanted(work_s=work_s)
    tasks = tuple(Tasks(count, *key) for key, count in counts.items())
    return Wanted(tasks, work_s, reasons[0] if len(reasons) == 1 else f"{len(reasons)} jobs: {_joined(reasons)}")


def wanted(beliefs: Beliefs, backlog: Backlog, cut: Cut) -> Wanted:
    """Return what could run now, and how long all that is left takes.

    Stages that wait for others count once they can begin.
    """
    found: list[Tasks] = []
    reasons: list[str] = []
    work_s: float | None = 0.0
    source = 1.0  # share of what the data source gives that is not spoken for
    hidden = _hidden(backlog)
    for group in backlog.groups:
        about = beliefs.about(group.category, group.group)
        pending = group.pending_elements + hidden.pop(group.stage, 0)
        size = cut.sizes.get((group.stage, group.group)) or cut.sizes.get((group.stage, ""))
        if size is None or not _known(about):
            count = max(group.in_flight, min(_LEARNING, group.waiting + pending))
            reason, took_s = f"{_tasks(count)} to learn from: nothing has finished yet", None
        else:
            count, reason, took = _processing(group, pending, size, about, cut.settings, source)
            took_s, source = took[0], source - took[1]
        work_s = work_s + took_s if work_s is not None and took_s is not None else None
        if count > 0:
            found.append(_row(count, cut.given.get((group.stage, group.group))))
            reasons.append(reason)
    for stage in backlog.stages:
        count, merge_s = _merges(stage, beliefs, cut.sizes.get((stage.stage, None), FAN_IN))
        work_s = work_s + merge_s if work_s is not None else None
        # What is in flight of groups that have nothing left to cut.
        flying = stage.in_flight - sum(group.in_flight for group in backlog.groups if group.stage == stage.stage)
        if flying > 0:
            found.append(_row(flying, cut.given.get((stage.stage, ""))))
            reasons.append(f"the last {_tasks(flying)}")
            if not any(about.shared.done for about in beliefs.categories.values()):
                work_s = None  # nobody knows yet how long they take
        if count > 0:
            found.append(_row(count, cut.given.get((stage.stage, None))))
            reasons.append(f"{count} merge{'s' if count > 1 else ''}")
    return Wanted(tuple(found), work_s, _joined(reasons)) if found else Wanted(work_s=work_s)


def _hidden(backlog: Backlog) -> dict[str, int]:
    """Elements of the groups that a long backlog does not show, by stage."""
    left = {stage.stage: stage.pending_elements for stage in backlog.stages}
    shown: dict[str, int] = {}
    for group in backlog.groups:
        shown[group.stage] = shown.get(group.stage, 0) + group.pending_elements
    return {name: max(0, left.get(name, 0) - count) for name, count in shown.items()}


def _known(about: GroupBeliefs) -> bool:
    line = about.wall.line
    return line is not None and (line.identified or about.done >= _LEARNING)


def _processing(
    group: GroupBacklog, pending: int, size: float, about: GroupBeliefs, settings: Settings | None, source: float
) -> tuple[int, str, tuple[float, float]]:
    """How many tasks of a group could run, why, the slot time they take and the share of the source they use up."""
    line = about.wall.line
    assert line is not None
    smallest = size
    if settings is not None and line.slope > 0:
        # Sizes at which half of the time is fixed cost are no reason to start workers.
        half = (line.intercept + chunksize.TASK_S) / line.slope
        worth = max(chunksize.shortest(size, line), half, float(settings.min_chunksize), 1.0)
        if size > _GROWING * about.largest_done > 0.0:
            size = max(size, worth)
        smaller = settings.goal == "makespan" and "tail" not in settings.without
        smallest = min(size, worth) if smaller else size
    count = group.in_flight + max(group.waiting, math.ceil(pending / smallest))
    took_s = pending / size * line.median(size)
    if group.in_flight:
        took_s += _HALF * group.in_flight * line.median(group.in_flight_elements / group.in_flight)
    reason = f"{_tasks(count)} of {show_count(smallest)} element{'s' if smallest > 1 else ''}"
    alone = about.unhindered
    given = about.source_per_s if settings is None else chunksize.fed(about, settings)
    if given is None or alone is None:
        return count, reason, (took_s, 0.0)
    fed = _MORE * given * alone.median(size) / size
    if count > source * fed:
        count = max(1, math.ceil(source * fed))
        reason = f"{_tasks(count)}: the data source feeds no more, about {show_count(given)} elements per second"
    return count, reason, (took_s, min(source, count / fed))


def _merges(stage: StageBacklog, beliefs: Beliefs, fan_in: int) -> tuple[int, float]:
    """How many merges could run, and the slot time of all that are left."""
    results = stage.results if stage.results > 1 else 0
    ready = results // fan_in if stage.processing_left else math.ceil(results / fan_in)
    line = beliefs.about(stage.category).wall.line
    if line is None or not results:
        return stage.merging + ready, 0.0
    kib = max(1.0, (stage.result_bytes or 1024) / 1024)
    return stage.merging + ready, (results - 1) / max(1, fan_in - 1) * line.median(fan_in * kib)


def _row(count: int, given: Resources | None) -> Tasks:
    return Tasks(count, given.cores, given.memory_mib) if given is not None else Tasks(count)


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count != 1 else ''}"


def _joined(reasons: list[str]) -> str:
    more = len(reasons) - 2
    return ", ".join(reasons[:2]) + (f" and {more} kind{'s' if more > 1 else ''} more" if more > 0 else "")
