"""What jobs cost a manager and leave in it, in virtual time; one task of several cores; what is wanted of workers."""

from __future__ import annotations

import gc
import statistics
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shaper import Manager, Source, Stage
from shaper.engines import Simulated, WorkerSpec
from shaper.policy import Adaptive
from shaper.policy.scaling import need
from shaper.types import Merge, Task, Usage
from shaper.workers import wants
from tests.engines.workers import until
from tests.simulated.test_wants import Announcing

WORKER_CORES, WORKERS = 8, 4
Cost = Callable[[Task, Any], Usage]


def cluster(cost: Cost) -> Simulated:
    return Simulated([WorkerSpec(WORKER_CORES, 16_000, WORKERS)], cost, seed=1)


def used(wall_s: float, cores: int = 1) -> Usage:
    return Usage(wall_s=wall_s, cpu_s=wall_s * cores, memory_mib=100.0)


class Recording:
    """A cost function that remembers what was started: elements and cores, by source."""

    def __init__(self, element_s: float, *, speeds_up: bool = False) -> None:
        self.element_s, self.speeds_up = element_s, speeds_up
        self.started: dict[str, list[tuple[int, int]]] = {}

    def __call__(self, task: Task, rng: Any) -> Usage:
        if isinstance(task.work, Merge):
            return used(0.1)
        cores = task.resources.cores
        self.started.setdefault(task.work.spans[0].source.id, []).append((task.work.elements, cores))
        wall_s = 1.0 + self.element_s * task.work.elements * float(rng.lognormal(0.0, 0.05))
        return used(wall_s / (cores if self.speeds_up else 1), cores)


def one_task(name: str, category: str = "align") -> Stage:
    return Stage(name, [Source(name, 1)], category=category, mode="threads")


def test_jobs_may_all_come_later_and_the_manager_may_be_left_without_any() -> None:
    cost = Recording(0.01)
    with Manager(cluster(cost)) as manager:
        jobs = [manager.submit({f"x{n}": 1000}, at_s=500.0 + 100.0 * n) for n in range(3)]
    assert [job.result().value for job in jobs] == [1000] * 3
    with Manager(cluster(cost)):
        pass


def test_a_job_begins_with_what_an_earlier_one_of_its_kind_has_learnt() -> None:
    cost = Recording(0.01)
    with Manager(cluster(cost)) as manager:
        for number, category in enumerate(("kind", "kind", "another")):
            stage = Stage("s", {f"x{number}": 200_000}, category=category)
            manager.submit(stage, at_s=1000.0 * number)
    first = [cost.started[f"x{number}"][0][0] for number in range(3)]
    assert first[0] == first[2] < first[1] / 10


def test_one_task_of_several_cores_stays_on_one_worker_and_has_what_is_learnt_of_it() -> None:
    cost = Recording(1000.0, speeds_up=True)
    with Manager(cluster(cost)) as manager:
        jobs = [manager.submit(one_task(f"job {n}"), at_s=2000.0 * n) for n in range(6)]
    cores = [cost.started[f"job {n}"][0][1] for n in range(6)]
    assert cores[0] == 1, "nothing is known of the first"
    assert 1 < max(cores) <= WORKER_CORES
    assert all(len(tasks) == 1 for tasks in cost.started.values())
    assert jobs[-1].result().report.makespan_s < jobs[0].result().report.makespan_s / 1.5


def test_many_that_are_one_task_each_share_the_machine_beside_one_that_is_cut() -> None:
    """None waits for a worker that others never leave, and no more cores are in use than there are."""
    cost = Recording(400.0, speeds_up=True)
    with Manager(cluster(cost)) as manager:
        cut = manager.submit(Stage("cut", {"cut": 300}), at_s=0.0)
        jobs = [manager.submit(one_task(f"job {n}"), at_s=100.0 + 60.0 * n) for n in range(40)]
    flows_s = [job.result().report.makespan_s for job in jobs]
    work_s = 400.0 * (300 + 40)
    assert cut.result().report.makespan_s < 2.5 * work_s / (WORKER_CORES * WORKERS)
    assert max(flows_s) < 4 * 400.0
    # They wait for a slot of the other, whose elements take as long: for one of its tasks, not for one after the other.
    assert statistics.median(flows_s) < 2 * 400.0


def test_cores_that_are_set_are_not_exceeded() -> None:
    cost = Recording(1000.0, speeds_up=True)
    with Manager(cluster(cost), policy=lambda: Adaptive(cores=2)) as manager:
        for number in range(4):
            manager.submit(one_task(f"job {number}"), at_s=3000.0 * number)
    assert {cores for tasks in cost.started.values() for _, cores in tasks} <= {1, 2}


def test_what_waits_for_long_takes_few_turns() -> None:
    turns = 0

    class Counting(Adaptive):
        def shapes(self, *seen: Any) -> Any:
            nonlocal turns
            turns += 1
            return super().shapes(*seen)

    jobs = 50
    with Manager(cluster(lambda task, rng: used(100_000.0)), policy=Counting) as manager:
        for number in range(jobs):
            manager.submit({f"x{number}": 1}, at_s=float(number))
    assert turns < 40 * jobs


def test_a_job_that_has_ended_leaves_its_result_alone() -> None:
    policies: list[weakref.ref[Adaptive]] = []

    def policy() -> Adaptive:
        made = Adaptive()
        policies.append(weakref.ref(made))
        return made

    with Manager(cluster(Recording(0.01)), policy=policy) as manager:
        jobs = [manager.submit({f"x{number}": 1000}) for number in range(5)]
        for job in jobs:
            job.result()
        until(lambda: gc.collect() >= 0 and not any(found() for found in policies))
        assert jobs[0].progress.done == jobs[0].progress.elements == 1000
        assert jobs[0].progress.running == jobs[0].progress.cores == 0
        assert not jobs[0].cancel()


def test_the_workers_hear_what_all_jobs_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPER_HOME", str(tmp_path))
    most = []
    for jobs in (1, 3):
        engine = Announcing()
        with Manager(engine) as manager:
            for number in range(jobs):
                manager.submit({f"x{number}": 400_000})
        most.append(max(need(wants.read(said)[0], 4, 8000).workers for _, said in engine.said))
    assert most[1] > 2 * most[0] > 0


def test_a_manager_lets_workers_go_that_are_not_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPER_HOME", str(tmp_path))
    engine = Announcing(keep_at_s=10.0)
    with Manager(engine) as manager:
        for number in range(2):
            manager.submit({f"x{number}": 400_000})
    assert engine.dismissed == [7]
