"""What is handed to a manager: checked before anything is queued, taken back, named, and never left without an end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shaper import Job, Manager
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Cancelled
from shaper.policy import Adaptive
from shaper.types import Task, Usage
from tests.engines.test_manager import merge, process, whole

WAIT_S = 60.0  # for what is done at once; a manager that hangs fails here


def cost(task: Task, rng: Any) -> Usage:
    return Usage(wall_s=1.0, cpu_s=1.0, memory_mib=100.0)


def virtual(**options: Any) -> Manager:
    return Manager(Simulated(workers=[WorkerSpec(4, 8000, 4)], cost=cost, seed=1), **options)


def local(folder: Path, **options: Any) -> Manager:
    return Manager(cores=1, memory=800, run_dir=folder, **options)


def ended(work: Callable[[], object]) -> None:
    """Do what must not hang."""
    raised: list[BaseException] = []

    def catching() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=catching, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    for error in raised:
        raise error


# -- when it comes -------------------------------------------------------------------------------------------------


def test_a_job_that_comes_later_is_waited_for() -> None:
    manager = virtual()
    assert manager.submit({"x": 1000}, at_s=5.0).result(WAIT_S).value == 1000
    ended(manager.close)


def test_an_error_in_the_block_ends_jobs_that_are_still_to_come() -> None:
    jobs = []

    def broken() -> None:
        with virtual() as manager:
            jobs.append(manager.submit({"x": 100}, at_s=5.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        ended(broken)
    with pytest.raises(Cancelled):
        jobs[0].result(WAIT_S)


def test_a_job_that_is_cancelled_before_it_comes_has_ended_at_once() -> None:
    manager = virtual()
    job, other = manager.submit({"x": 1000}, at_s=100.0, name="late"), manager.submit({"x": 500})
    assert job.cancel()
    assert job.done()
    assert not job.cancel()
    with pytest.raises(Cancelled, match="job 'late' was cancelled"):
        job.result(0)
    assert manager.submit({"x": 200}, name="late").result(WAIT_S).value == 200
    assert other.result(WAIT_S).value == 500
    ended(manager.close)


def test_a_job_that_has_ended_has_no_cores_and_no_tasks() -> None:
    with virtual() as manager:
        jobs = [manager.submit({"x": 5000}), manager.submit({"y": 5000})]
        jobs.append(manager.submit({"z": 5000}, at_s=1.5))
        assert [job.result(WAIT_S).value for job in jobs] == [5000] * 3
    assert [(job.progress.cores, job.progress.running) for job in jobs] == [(0, 0)] * 3


# -- what cannot be used -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_s", ["3", None, math.nan, math.inf, -math.inf, -1.0])
def test_a_time_that_cannot_be_used_is_refused_and_harms_nobody(at_s: Any) -> None:
    with virtual() as manager:
        job = manager.submit({"x": 1000})
        with pytest.raises(BadInput, match="at_s must be a finite number of at least 0, got"):
            manager.submit({"x": 1000}, at_s=at_s)
        assert job.result(WAIT_S).value == 1000
        assert len(manager.jobs) == 1


@pytest.mark.parametrize("priority", ["high", None, 1.5, True, math.nan])
def test_a_priority_that_is_no_whole_number_is_refused_and_harms_nobody(priority: Any) -> None:
    with virtual() as manager:
        job, other = manager.submit({"x": 1000}, priority=-5), manager.submit({"x": 1000}, priority=2**70)
        with pytest.raises(BadInput, match="priority must be a whole number, got"):
            manager.submit({"x": 1000}, priority=priority)
        with pytest.raises(BadInput, match="priority must be a whole number, got"):
            job.priority = priority
        assert job.priority == -5
        assert [one.result(WAIT_S).value for one in (job, other)] == [1000, 1000]


@pytest.mark.parametrize("name", [5, b"x", 0, "", "a/b", "a\\b", ".x", "\ud800", "x\n", "é" * 101])
def test_a_name_that_cannot_be_a_directory_is_refused_in_one_line(name: Any, tmp_path: Path) -> None:
    with virtual(run_dir=tmp_path) as manager:
        with pytest.raises(BadInput, match=r"^a job's name .*$"):
            manager.submit({"x": 10}, name=name)
        assert not manager.jobs
        assert manager.submit({"x": 10}, name="é" * 100).result(WAIT_S).value == 10


def test_a_policy_that_is_none_is_refused() -> None:
    made: Any
    for made in (Adaptive(), 3):
        with pytest.raises(BadInput, match=r"policy is called for every job: Adaptive, or lambda: Adaptive\(\.\.\.\)"):
            virtual(policy=made)
    made = lambda: 3  # noqa: E731
    with virtual(policy=made) as manager, pytest.raises(BadInput, match="must be a policy object"):
        manager.submit({"x": 10})


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_job_may_be_named_like_anything_in_the_managers_directory(tmp_path: Path) -> None:
    names = ["results", "sandbox", "logs", "lock", "manager.json", "jobs"]
    for again in (False, True):
        with local(tmp_path / "m") as manager:
            jobs = [manager.submit({"x": 100}, process=process, merge=merge, name=name) for name in names]
            for job in jobs:
                result = job.result(300)
                assert result.value == whole(100)
                assert (result.report.tasks == 0) == again
                assert result.run_dir == tmp_path / "m" / "jobs" / job.name


def test_an_automatic_name_is_one_that_nobody_has() -> None:
    with virtual() as manager:
        named = [manager.submit({"x": 100}, name=name) for name in ("job-1", "job-3")]
        others = [manager.submit({"x": 100}) for _ in range(3)]
        assert [job.name for job in others] == ["job-2", "job-4", "job-5"]
        assert [job.result(WAIT_S).value for job in named + others] == [100] * 5


def test_a_job_that_could_not_be_handed_in_leaves_its_name_to_the_next(tmp_path: Path) -> None:
    with local(tmp_path / "m") as manager:
        first = manager.submit({"x": 100}, process=process, merge=merge, name="one")
        first.result(300)
        with pytest.raises(BadInput):
            manager.submit({"x": -1}, process=process, merge=merge, name="one")
        with pytest.raises(BadInput):
            manager.submit({"x": -1}, process=process, merge=merge, name="two")
        assert manager.jobs == {"one": first}
        again = manager.submit({"x": 100}, process=process, merge=merge, name="one")
        assert again.result(300).report.tasks == 0


def test_of_threads_that_submit_one_name_one_has_it() -> None:
    together = threading.Barrier(8)

    def policy() -> Adaptive:
        together.wait(WAIT_S)
        return Adaptive()

    with virtual(policy=policy) as manager, ThreadPoolExecutor(8) as pool:

        def submit(number: int) -> Job | BadInput:
            try:
                return manager.submit({"x": 1000}, name="same")
            except BadInput as error:
                return error

        found = list(pool.map(submit, range(8)))
        jobs = [one for one in found if isinstance(one, Job)]
        assert len(jobs) == 1
        assert all("is running" in str(one) for one in found if isinstance(one, BadInput))
        assert jobs[0].result(WAIT_S).value == 1000
