"""Which parallelism each stage ran at, and how long that took: what the models of parallelism learn from.

A run begins with the first task of a stage and ends when none is in flight; where a stage is cut into one wave of
tasks it is the run of the literature, from its start to the end of its slowest task. Runs are told apart by the
parallelism that was planned for their tasks. Of many runs at one parallelism only those are told that are much larger
than the last: a model has use for some dozens, not for every task.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shaper.types import Accept, Merge, Observation, Outcome, StageRun, Task, Verdict

# A run at a parallelism that was told before has to be so much larger, or the last of its stage.
_LARGER = 2.0
# Of a run in which more slot time than this came to nothing, the time says little.
_DISTURBED = 0.2


@dataclass(slots=True)
class _Running:
    """A run that goes on."""

    planned: int | None
    category: str
    elements: int = 0
    tasks: int = 0
    in_flight: int = 0
    start_s: float = float("inf")
    end_s: float = 0.0
    busy_s: float = 0.0
    lost_s: float = 0.0
    others: int = 0  # sum of the tasks of other stages, each time one of this stage begins or ends
    looks: int = 0

    def run(self, stage: str, stage_elements: int) -> StageRun | None:
        """What is to be told; None where nothing was done, or much of it came to nothing."""
        wall_s = self.end_s - self.start_s
        if not self.elements or wall_s <= 0 or self.lost_s > _DISTURBED * (self.busy_s + self.lost_s):
            return None
        s = max(1, round(self.busy_s / wall_s))
        if self.planned is not None and self.tasks >= self.planned:
            s = self.planned
        load = self.others / max(1, self.looks)
        return StageRun(stage, self.category, "split", s, self.elements, stage_elements, load, wall_s)


@dataclass(slots=True)
class _Stage:
    running: dict[int | None, _Running] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)  # elements of the largest so far, by parallelism
    in_flight: int = 0


class Phases:
    """The runs of all stages, one observation at a time.

    Attributes:
        others: what runs beside all of them now, of other jobs.
    """

    def __init__(self) -> None:
        self.others = 0
        self._stages: dict[str, _Stage] = {}
        self._in_flight = 0

    def submitted(self, task: Task) -> None:
        """Take note of a task that was handed to the engine."""
        if isinstance(task.work, Merge):
            return
        stage = self._stages.setdefault(task.stage, _Stage())
        running = stage.running.setdefault(task.parallelism, _Running(task.parallelism, task.category))
        running.in_flight += 1
        stage.in_flight += 1
        self._in_flight += 1
        self._look(stage, running)

    def settled(self, seen: Observation, verdict: Verdict, stage_elements: int, *, left: bool) -> StageRun | None:
        """Take note of what has ended; return the run that ended with it.

        Args:
            stage_elements: of its stage.
            left: whether more of the stage is to be processed.
        """
        task = seen.task
        if isinstance(task.work, Merge):
            return None
        stage = self._stages[task.stage]
        running = stage.running[task.parallelism]
        self._look(stage, running)
        running.in_flight -= 1
        stage.in_flight -= 1
        self._in_flight -= 1
        if seen.started_s is not None:
            held_s = seen.finished_s - seen.started_s
            running.start_s = min(running.start_s, seen.started_s)
            running.end_s = max(running.end_s, seen.finished_s)
            if isinstance(verdict, Accept):
                running.busy_s += held_s
                running.elements += task.work.elements
                running.tasks += 1
            elif seen.outcome is not Outcome.CANCELLED:
                running.lost_s += held_s
        if task.mode == "threads":
            return self._of_one(stage, seen, verdict, stage_elements)
        if running.in_flight:
            return None
        run = running.run(task.stage, stage_elements)
        last = not left and not stage.in_flight
        del stage.running[task.parallelism]
        if run is None or (not last and run.elements < _LARGER * stage.told.get(run.s, 0)):
            return None
        stage.told[run.s] = max(run.elements, stage.told.get(run.s, 0))
        return run

    def _of_one(self, stage: _Stage, seen: Observation, verdict: Verdict, stage_elements: int) -> StageRun | None:
        """One task that had several cores."""
        task, s = seen.task, seen.task.resources.cores
        if not isinstance(verdict, Accept) or seen.started_s is None or seen.finished_s <= seen.started_s:
            return None
        wall_s, elements = seen.finished_s - seen.started_s, task.work.elements
        if elements < _LARGER * stage.told.get(s, 0):
            return None
        stage.told[s] = elements
        beside = float(self._in_flight + self.others)
        return StageRun(task.stage, task.category, "threads", s, elements, stage_elements, beside, wall_s)

    def _look(self, stage: _Stage, running: _Running) -> None:
        running.others += self._in_flight - stage.in_flight + self.others
        running.looks += 1
