"""The jobs of a manager: what their owner has in hand, and what the scheduler is told of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from shaper.api import Result
from shaper.engines.shared import Share
from shaper.errors import BadInput, Cancelled
from shaper.models.beliefs import Beliefs
from shaper.models.group import size_of
from shaper.models.parallelism import ParallelismModel
from shaper.policy.allocation import allocate
from shaper.policy.settings import Settings
from shaper.policy.wanted import Outlook
from shaper.scheduling import MoldableJob
from shaper.scheduling.checks import short
from shaper.scheduling.job import Array
from shaper.scheduling.live import LiveJob
from shaper.types import Accept, Backlog, Capacity, Merge, Observation, Resources, Shape, Task, TaskId, Verdict

_LEAST_S = 1e-3  # that a job is taken to run


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Args:
        elements: of its stages that have begun.
        done: of them with an accepted result.
        cores: that it may use now; None while it has the workers to itself, 0 when it has ended.
        running: its tasks that the engine has.
    """

    elements: int
    done: int
    cores: int | None
    running: int


class Job:
    """What `submit` gives back.

    Attributes:
        name: unique among the jobs of its manager.
    """

    def __init__(self, name: str, priority: int, share: Share, settings: object) -> None:
        self.name = name
        self.priority = priority
        self._share: Share | None = share
        self._present: Present | None = Present(name, share, settings)
        self._over = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._progress = JobProgress(0, 0, 0, 0)  # when it had ended

    @property
    def priority(self) -> int:
        """Jobs of a higher one are served first; may be set while it runs, to a whole number."""
        return self._priority

    @priority.setter
    def priority(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise BadInput(f"priority must be a whole number, got {short(value)}")
        self._priority: int = int(value)

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the job to end, and return what `shaper.run` would.

        Raises:
            TimeoutError: it has not ended; ask again.
            Cancelled: `cancel` was called.
            ShaperError: as of `shaper.run`.
        """
        if (share := self._share) is not None:
            share.wanted()
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"job {self.name!r} has not ended within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def cancel(self) -> bool:
        """Stop it at its next turn, or at once if it has not begun; return whether it had not ended yet.

        What is done stays in its directory.
        """
        share = self._share
        if share is None:
            return False
        error = Cancelled(f"job {self.name!r} was cancelled; what is done is kept in its directory")
        if not share.withdraw(error):
            share.fail(error)
        return True

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        present = self._present
        return self._progress if present is None else present.progress

    def _end(self, result: Result | None, error: BaseException | None) -> None:
        """Keep what came out, and let go of all that it took to get there."""
        assert self._present is not None
        self._result, self._error = result, error
        self._progress = replace(self._present.progress, cores=0, running=0)
        self._share = self._present = None
        self._over.set()


class Present(Outlook):
    """A job that has not ended: a watch of its loop, that says how far it is and how long it may take."""

    def __init__(self, name: str, share: Share, settings: object) -> None:
        super().__init__(Beliefs(), settings)
        self.share = share
        self.arrived_s = 0.0
        self._name = name
        self._settings = settings if isinstance(settings, Settings) else None
        share.fitted = self._fitted
        self._busy_s = 0.0
        self._done = self._elements = 0
        self._flying: dict[TaskId, Task] = {}  # processing tasks that were submitted, also those that wait for cores
        self._version = 0
        self._told: tuple[object, ...] = ()
        self._live: LiveJob | None = None
        self._model: ParallelismModel | None = None
        self._asked = 0, 0  # elements, and most cores
        self._answer: list[float] = []  # the model's, of one task on 1, 2, ... cores

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note what is left."""
        super().decided(now_s, capacity, backlog, shapes)
        self._version += 1
        self._elements = self._done + sum(one.pending_elements + one.in_flight_elements for one in backlog.stages)

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Note what is on its way."""
        super().submitted(task, beliefs)
        self._version += 1
        if not isinstance(task.work, Merge):
            self._flying[task.id] = task

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Note what was done."""
        super().settled(seen, verdict, beliefs)
        self._version += 1
        self._flying.pop(seen.task.id, None)
        if isinstance(verdict, Accept) and seen.started_s is not None:
            self._busy_s += (seen.finished_s - seen.started_s) * seen.task.resources.cores
            if not isinstance(seen.task.work, Merge):
                self._done += seen.task.work.elements

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        elements = max(self._elements, self._done)
        return JobProgress(elements, self._done, self.share.cores, self.share.in_flight)

    def live(self, priority: int, capacity: Capacity) -> LiveJob:
        """The job as the scheduler sees it; made anew where something of it has changed."""
        share, largest = self.share, max((kind.cores for kind in capacity.kinds), default=1)
        told = self._version, share.cores, share.cores_held, priority, capacity.cores, largest
        if self._live is None or told != self._told:
            self._told, self._live = told, self._made(priority, capacity.cores, largest)
        return self._live

    def _made(self, priority: int, cores: int, largest: int) -> LiveJob:
        share = self.share
        category = self._category()
        left = self._uncut()
        one_task = category is not None and len(self._flying) == 1 and left <= 0
        times_s = self._of_threads(category, left, cores, largest) if category is not None else self._of_split(cores)
        held = share.cores_held if one_task else share.cores or 0
        since_s = share.handed_in_s if one_task else None
        if times_s is None:
            job = MoldableJob(self._name, self.arrived_s, [1.0])
            return LiveJob(job, False, one_task, held, since_s, priority=priority)
        # The whole of it takes longer than what is left in the same proportion on any number of cores.
        whole = 1.0 + self._busy_s / times_s[0]
        job = MoldableJob(self._name, self.arrived_s, whole * times_s)
        return LiveJob(job, True, one_task, held, since_s, 1.0 - 1.0 / whole, priority)

    def _of_split(self, cores: int) -> Array | None:
        """How long what is left takes on 1, 2, ... cores: side by side as far as it can be cut."""
        found = self.wanted()
        if found.work_s is None:
            return None
        wide = max(1, min(cores, sum(row.count * row.cores for row in found.tasks)))
        return max(found.work_s, _LEAST_S) / np.arange(1, wide + 1)

    def _of_threads(self, category: str, left: int, cores: int, largest: int) -> Array | None:
        """The same of tasks that each have several cores of one worker: in rounds of as many as fit side by side."""
        known = self.beliefs.parallelism.get((category, "threads"))
        size = max(self._flying_elements())
        most = largest
        if self._settings is None or self._settings.cores_given:
            most = min(largest, max(task.resources.cores for task in self._flying.values()))
        if known is None:
            return None
        if self._model is not known.model or self._asked != (size, most):
            gamma = known.gamma(size)
            means = [known.model.predict(s, gamma, 0.0).mean for s in range(1, most + 1)]
            self._model, self._asked = known.model, (size, most)
            self._answer = [mean for mean in means if mean is not None]
        if len(self._answer) < most:
            return None
        tasks = len(self._flying) + math.ceil(left / size)
        j = np.arange(1, max(1, min(cores, tasks * most)) + 1)
        rounds = [
            np.where(j >= s, np.ceil(tasks / np.maximum(1, j // s)) * mean_s, np.inf)
            for s, mean_s in enumerate(self._answer, start=1)
        ]
        times_s: Array = np.maximum(np.min(rounds, axis=0), _LEAST_S)
        return times_s

    def _fitted(self, task: Task, cores: int) -> Resources:
        """What its policy gives a task of so many cores; a retry keeps the memory that it was promised."""
        if self._settings is None or task.attempt - task.losses > 1:
            return replace(task.resources, cores=cores)
        about, settings = self.beliefs.about(task.category, task.group), replace(self._settings, cores=cores)
        x, capacity = size_of(task.work), self.share.capacity()
        given, largest, line = allocate(x, about, capacity, settings, merge=False), capacity.largest, about.memory.line
        if largest is None:
            return given
        # Five of eight cores hold no second such task: all the memory would be its share, and three cores idle.
        need_mib = line.upper(x, settings.risk) if line is not None else 0.0
        fair_mib = max(math.ceil(need_mib), largest.memory_mib * cores // largest.cores, 1)
        return replace(given, memory_mib=min(given.memory_mib, fair_mib))

    def _category(self) -> str | None:
        """The category of the tasks that are submitted, if all have several cores each; None where it is cut finer."""
        found = {task.category if task.mode == "threads" else None for task in self._flying.values()}
        return found.pop() if len(found) == 1 else None

    def _uncut(self) -> int:
        """Elements of the stages that have begun that are in no task yet."""
        begun = {task.stage for task in self._flying.values()} | {group.stage for group in self.backlog.groups}
        mine = [stage for stage in self.backlog.stages if stage.stage in begun]
        return sum(stage.pending_elements + stage.in_flight_elements for stage in mine) - sum(self._flying_elements())

    def _flying_elements(self) -> list[int]:
        return [task.work.elements for task in self._flying.values()]
