"""Runs of stages, told from what began and ended."""

from __future__ import annotations

from dataclasses import replace

from shaper.phases import Phases
from shaper.types import Accept, Merge, Observation, Outcome, Retry, StageRun, Task, Verdict
from tests.unit.factories import chunk, seen, task

STAGE_ELEMENTS = 10_000


class Stage:
    """Tasks of a stage that begin and end when told."""

    def __init__(self, phases: Phases, name: str = "processing", parallelism: int | None = None) -> None:
        self.phases, self.name, self.parallelism, self.number = phases, name, parallelism, 0

    def begin(self, elements: int = 1000, cores: int = 1, mode: str = "split") -> Task:
        self.number += 1
        one = task(chunk(elements), number=self.number, cores=cores)
        one = replace(one, stage=self.name, parallelism=self.parallelism, mode=mode)
        self.phases.submitted(one)
        return one

    def end(
        self,
        one: Task,
        start_s: float,
        end_s: float,
        verdict: Verdict | None = None,
        *,
        outcome: Outcome = Outcome.DONE,
        left: bool = True,
    ) -> StageRun | None:
        observed: Observation = replace(seen(one, outcome), started_s=start_s, finished_s=end_s)
        return self.phases.settled(observed, verdict or Accept(), STAGE_ELEMENTS, left=left)


def test_a_wave_is_a_run_from_its_start_to_the_end_of_its_slowest_task() -> None:
    stage = Stage(Phases(), parallelism=3)
    wave = [stage.begin() for _ in range(3)]
    assert stage.end(wave[0], 1.0, 5.0) is None
    assert stage.end(wave[2], 1.5, 6.0) is None
    run = stage.end(wave[1], 1.0, 9.0)
    assert run == StageRun("processing", "processing", "split", 3, 3000, STAGE_ELEMENTS, 0.0, 8.0)


def test_without_a_plan_the_parallelism_is_what_ran_side_by_side_on_average() -> None:
    stage = Stage(Phases())
    both = [stage.begin(), stage.begin()]
    assert stage.end(both[0], 0.0, 4.0) is None
    third = stage.begin()
    assert stage.end(both[1], 0.0, 4.0) is None
    run = stage.end(third, 4.0, 8.0, left=False)
    assert run is not None
    assert (run.s, run.elements, run.wall_s) == (2, 3000, 8.0)  # 12 s of slots in 8 s, rounded: 1.5 to 2


def test_fewer_tasks_than_planned_are_no_run_of_the_plan() -> None:
    stage = Stage(Phases(), parallelism=8)
    both = [stage.begin(), stage.begin()]
    stage.end(both[0], 0.0, 4.0)
    run = stage.end(both[1], 0.0, 4.0, left=False)
    assert run is not None
    assert run.s == 2


def test_what_runs_beside_a_stage_is_its_load() -> None:
    phases = Phases()
    stage, other = Stage(phases), Stage(phases, "other")
    beside = [other.begin(), other.begin()]
    one = stage.begin()
    run = stage.end(one, 0.0, 2.0, left=False)
    assert run is not None
    assert run.load == 2.0
    for task_beside in beside:
        other.end(task_beside, 0.0, 3.0)


def test_tasks_of_other_jobs_are_load_too() -> None:
    phases = Phases()
    phases.others = 6
    stage = Stage(phases)
    run = stage.end(stage.begin(), 0.0, 2.0, left=False)
    assert run is not None
    assert run.load == 6.0


def test_of_many_runs_at_one_parallelism_the_much_larger_ones_are_told_and_the_last() -> None:
    stage = Stage(Phases(), parallelism=1)
    told = []
    for number, elements in enumerate((100, 150, 200, 300, 500, 500)):
        one = stage.begin(elements)
        told.append(stage.end(one, float(number), number + 1.0, left=number < 5))
    assert [run.elements if run else None for run in told] == [100, None, 200, None, 500, 500]


def test_a_run_much_of_which_came_to_nothing_says_nothing() -> None:
    stage = Stage(Phases(), parallelism=1)
    one = stage.begin()
    assert stage.end(one, 0.0, 3.0, Retry(None), outcome=Outcome.OUT_OF_MEMORY) is None
    again = stage.begin()
    run = stage.end(again, 3.0, 6.0, left=False)
    assert run is not None  # a run of its own: nothing was in flight between them
    both = [stage.begin(), stage.begin()]
    stage.end(both[0], 6.0, 9.0, Retry(None), outcome=Outcome.LOST)
    assert stage.end(both[1], 6.0, 9.0, left=False) is None


def test_tasks_of_several_cores_are_runs_of_their_own() -> None:
    stage = Stage(Phases())
    both = [stage.begin(1000, 4, "threads"), stage.begin(1500, 4, "threads")]
    run = stage.end(both[0], 0.0, 5.0)
    assert run == StageRun("processing", "processing", "threads", 4, 1000, STAGE_ELEMENTS, 1.0, 5.0)
    assert stage.end(both[1], 0.0, 6.0) is None  # not much larger than one that was told


def test_merges_are_no_part_of_a_run() -> None:
    phases = Phases()
    merge = task(Merge(("1.1", "1.2"), 10))
    phases.submitted(merge)
    assert phases.settled(seen(merge), Accept(), STAGE_ELEMENTS, left=False) is None
