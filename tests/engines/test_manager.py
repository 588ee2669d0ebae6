"""Jobs that share workers: each comes out as if it were alone, on every engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper import Manager, Stage
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Cancelled, Changed, ProcessFailed
from shaper.policy import Adaptive
from shaper.types import Chunk, Merge, Task, Usage
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until


def process(chunk: Chunk) -> tuple[int, int]:
    time.sleep(1e-4 * chunk.elements)
    return chunk.elements, sum(sum(range(span.start, span.stop)) for span in chunk.spans)


def merge(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def fail(chunk: Chunk) -> tuple[int, int]:
    raise ValueError("no luck")


def whole(elements: int) -> tuple[int, int]:
    return elements, sum(range(elements))


@pytest.fixture(params=["local", "workqueue", "taskvine"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """With two slots."""
    name = request.param
    with ExitStack() as stack:
        options: dict[str, Any] = {"cores": 2, "memory": 2000}
        if name != "local":
            needs_engine(name)
            port = free_port()
            stack.enter_context(Worker(PROGRAMS[name], port, tmp_path, more=()))
            options = {"port": port}
        # Every result comes home at once: what a cancelled job had done is there.
        durable = lambda: Adaptive(checkpoint_s=0)  # noqa: E731
        yield stack.enter_context(Manager(name, policy=durable, run_dir=tmp_path / "manager", **options))


def test_a_small_job_that_comes_later_ends_before_a_large_one(manager: Manager) -> None:
    large = manager.submit({"x": 40_000}, process=process, merge=merge)
    until(lambda: large.progress.done > 0)
    small = manager.submit({"y": 1000}, process=process, merge=merge, name="small")
    assert small.result(300).value == whole(1000)
    assert not large.done()
    assert large.result(300).value == whole(40_000)
    assert large.progress.done == large.progress.elements == 40_000
    assert {job.name for job in manager.jobs.values()} == {"job-1", "small"}
    for job in (large, small):
        assert job.result().run_dir == manager.run_dir / "jobs" / job.name  # type: ignore[operator]
        assert (manager.run_dir / "jobs" / job.name / "report.html").exists()  # type: ignore[operator]


def test_a_job_that_fails_takes_no_other_with_it(manager: Manager) -> None:
    good = manager.submit({"x": 10_000}, process=process, merge=merge)
    bad = manager.submit({"y": 100}, process=fail, merge=merge)
    with pytest.raises(ProcessFailed, match="no luck"):
        bad.result(300)
    assert good.result(300).value == whole(10_000)
    with pytest.raises(ProcessFailed):
        bad.result()


def test_a_job_may_be_a_graph_of_stages(manager: Manager) -> None:
    def next_one(first: tuple[int, int]) -> dict[str, int]:
        return {"of the first": first[0] // 2}

    stages = [Stage("first", {"x": 2000}, process, merge), Stage("second", next_one, process, merge, after=["first"])]
    jobs = [manager.submit(stages, name=name) for name in ("a", "b")]
    for job in jobs:
        assert job.result(300).value == {"first": whole(2000), "second": whole(1000)}


def test_a_cancelled_job_goes_on_where_it_was_when_it_is_handed_in_again(manager: Manager) -> None:
    job = manager.submit({"x": 30_000}, process=process, merge=merge, name="twice")
    until(lambda: job.progress.done > 0)
    assert job.cancel()
    with pytest.raises(Cancelled, match="job 'twice' was cancelled"):
        job.result(300)
    assert not job.cancel()
    again = manager.submit({"x": 30_000}, process=process, merge=merge, name="twice")
    result = again.result(300)
    assert result.value == whole(30_000)
    assert result.report.elements_before > 0
    with pytest.raises(Changed, match="source 'x' has changed"):
        manager.submit({"x": 20_000}, process=process, merge=merge, name="twice").result(300)


def test_a_manager_in_the_same_directory_knows_what_was_done(tmp_path: Path) -> None:
    for tasks in (1, 0):
        with Manager(cores=2, memory=2000, run_dir=tmp_path / "m") as manager:
            result = manager.submit({"x": 3000}, process=process, merge=merge, name="one").result(300)
        assert result.value == whole(3000)
        assert (result.report.tasks > 0) == bool(tasks)


def test_a_job_begins_with_what_one_with_the_same_functions_has_learnt(tmp_path: Path) -> None:
    with Manager(cores=2, memory=2000, run_dir=tmp_path / "m") as manager:
        first = manager.submit({"x": 20_000}, process=process, merge=merge).result(300)
        second = manager.submit({"y": 20_000}, process=process, merge=merge).result(300)
    reasons = [row["reason"] for result in (first, second) for row in result.report.timeline[:1]]
    assert reasons[0] == "a probe: nothing is known yet"
    assert reasons[1] == "small until some finish: this is what another run showed"


def test_jobs_may_be_handed_in_by_several_threads(tmp_path: Path) -> None:
    values: list[object] = []
    with Manager(cores=2, memory=2000, run_dir=tmp_path / "m") as manager:

        def hand_in() -> None:
            values.append(manager.submit({"x": 2000}, process=process, merge=merge).result(300).value)

        threads = [threading.Thread(target=hand_in) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert values == [whole(2000)] * 4


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="magic"):
        Manager(sharing="magic", run_dir=tmp_path / "m")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(BadInput, match="holds other files and is no manager's"):
        Manager(run_dir=tmp_path / "other")
    with Manager(cores=1, memory=1000, run_dir=tmp_path / "m") as manager:
        with pytest.raises(BadInput, match=r"process.*function"):
            manager.submit({"x": 10})
        with pytest.raises(BadInput, match="without slashes; got 'a/b'"):
            manager.submit({"x": 10}, process=process, merge=merge, name="a/b")
        with pytest.raises(BadInput, match="at_s is for the simulated engine"):
            manager.submit({"x": 10}, process=process, merge=merge, at_s=5.0)
        running = manager.submit({"x": 5000}, process=process, merge=merge, name="one")
        with pytest.raises(BadInput, match="a job named 'one' is running"):
            manager.submit({"x": 10}, process=process, merge=merge, name="one")
        with pytest.raises(TimeoutError, match="job 'one' has not ended within 0 s"):
            running.result(0)
        with pytest.raises(BadInput, match="in use by process"):
            Manager(run_dir=tmp_path / "m")
    assert running.done()
    with pytest.raises(BadInput, match="the manager is closed"):
        manager.submit({"x": 10}, process=process, merge=merge)


def test_an_error_in_its_block_stops_the_jobs(tmp_path: Path) -> None:
    jobs = []

    def broken() -> None:
        with Manager(cores=1, memory=1000, run_dir=tmp_path / "m") as manager:
            jobs.append(manager.submit({"x": 10**8}, process=process, merge=merge))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with pytest.raises(Cancelled):
        jobs[0].result(300)


# -- in virtual time -------------------------------------------------------------------------------------------------

CORES = 16


def cost(task: Task, rng: Any) -> Usage:
    wall_s = 0.3 if isinstance(task.work, Merge) else 1.0 + 1e-3 * task.work.elements * rng.lognormal(0.0, 0.1)
    return Usage(wall_s=wall_s, cpu_s=wall_s, memory_mib=100.0)


def simulated(*jobs: tuple[int, float, int], sharing: str = "eq-spt", seed: int = 1) -> list[shaper.Result]:
    """Jobs of so many elements, arriving then, of that priority."""
    engine = Simulated(workers=[WorkerSpec(4, 8000, CORES // 4)], cost=cost, seed=seed)
    with Manager(engine, sharing=sharing) as manager:
        found = [manager.submit({"x": size}, at_s=at_s, priority=priority) for size, at_s, priority in jobs]
        return [job.result(300) for job in found]


def test_the_same_jobs_take_the_same_time_every_time() -> None:
    jobs = [(10_000 * (number + 1), 3.0 * number, 0) for number in range(6)]
    runs = [simulated(*jobs) for _ in range(2)]
    assert [result.report.makespan_s for result in runs[0]] == [result.report.makespan_s for result in runs[1]]
    assert [result.value for result in runs[0]] == [size for size, _, _ in jobs]


def test_a_lone_job_runs_as_without_a_manager() -> None:
    (result,) = simulated((100_000, 0.0, 0))
    engine = Simulated(workers=[WorkerSpec(4, 8000, CORES // 4)], cost=cost, seed=1)
    alone = shaper.run({"x": 100_000}, engine=engine)
    assert result.report.tasks == pytest.approx(alone.report.tasks, rel=0.1)
    assert result.report.makespan_s == pytest.approx(alone.report.makespan_s, rel=0.1)


@pytest.mark.parametrize("sharing", ["eq-spt", "dbos"])
def test_nobody_starves(sharing: str) -> None:
    """One huge job among many small ones, and one small among many huge ones."""
    huge, *small = simulated((400_000, 0.0, 0), *((5000, 4.0 * number, 0) for number in range(1, 21)), sharing=sharing)
    assert max(result.report.makespan_s for result in small) < 25.0
    assert huge.report.makespan_s < 2.5 * (400 + 20 * 5) / CORES
    *many, one = simulated(*((100_000, 0.0, 0) for _ in range(6)), (5000, 10.0, 0), sharing=sharing)
    assert one.report.makespan_s < 25.0
    assert max(result.report.makespan_s for result in many) < 2.5 * (6 * 100 + 5) / CORES


def test_who_has_the_higher_priority_goes_first() -> None:
    low, high = simulated((100_000, 0.0, 0), (100_000, 5.0, 1))
    assert high.report.makespan_s + 5.0 < low.report.makespan_s
