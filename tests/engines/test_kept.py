"""Results that stay on TaskVine's workers: merged there, lost with them, brought home at the end."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import shaper
from shaper.engines import TaskVine
from shaper.errors import Damaged
from shaper.types import Chunk, Code, Merge, Observation, Outcome, Resources, ResultLost, Source, Span, Task, TaskId
from tests.engines.workers import Worker, free_port, needs_taskvine, until

MARK = b"a result \0 of " * 1000


def process(chunk: Chunk) -> dict[str, bytes]:
    return {span.source.id: MARK for span in chunk.spans}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[TaskVine]:
    needs_taskvine()
    made = TaskVine(port=free_port())
    made.run_dir = tmp_path / "run"
    made.run_dir.mkdir()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made.open("s", Code("s", cloudpickle.dumps((process, operator.or_)), "f"))
    yield made
    made.close()


def workers(engine: TaskVine, folder: Path, count: int) -> list[Worker]:
    """One after the other, so that it is known on which of them a task runs."""
    started = []
    for _ in range(count):
        started.append(Worker("vine_worker", engine.system.port, folder, cores=1))
        until(lambda: engine.wait(0.1) == [] and sum(kind.count for kind in engine.capacity().kinds) == len(started))
    return started


def task(number: int, work: Any = None, *, durable: bool = False) -> Task:
    work = work or Chunk((Span(Source(f"source-{number}", 1), 0, 1),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(1, 300), durable=durable)


def merge(number: int, inputs: tuple[TaskId, ...], *, durable: bool) -> Task:
    return task(number, Merge(inputs, len(inputs)), durable=durable)


def ended(engine: TaskVine, count: int) -> list[Observation | ResultLost]:
    found: list[Observation | ResultLost] = []
    until(lambda: found.extend(engine.wait(0.5)) or len(found) >= count)
    return found


def files(engine: TaskVine) -> list[str]:
    assert engine.run_dir is not None
    return sorted(path.name for path in (engine.run_dir / "results").iterdir())


def test_results_stay_on_workers_until_a_durable_merge_brings_them_home(engine: TaskVine, tmp_path: Path) -> None:
    started = workers(engine, tmp_path, 2)
    try:
        for number in range(6):
            engine.submit(task(number))
        done = ended(engine, 6)
        # From both workers, and again from what was merged: TaskVine moves them from worker to worker.
        assert len({one.worker for one in done if isinstance(one, Observation)}) == 2
        engine.submit(merge(7, ("1.0", "1.1", "1.2", "1.3", "1.4"), durable=False))
        (half,) = ended(engine, 1)
        assert isinstance(half, Observation)
        assert half.result is not None, half
        assert not half.result.durable
        assert files(engine) == []
        with pytest.raises(Damaged):
            engine.fetch("1.7")
        engine.release(("1.0", "1.1", "1.2", "1.3", "1.4"))
        engine.submit(merge(8, ("1.7", "1.5"), durable=True))
        (whole,) = ended(engine, 1)
        assert isinstance(whole, Observation)
        assert whole.result is not None, whole
        assert whole.result.durable
        assert files(engine) == ["1.8.pkl"]
        assert engine.fetch("1.8") == {f"source-{number}": MARK for number in range(6)}
    finally:
        for worker in started:
            worker.end()


def test_what_was_on_a_worker_is_lost_with_it_and_so_are_the_merges_that_wait_for_it(
    engine: TaskVine, tmp_path: Path
) -> None:
    first, second = workers(engine, tmp_path, 2)
    try:
        for number in range(6):
            engine.submit(task(number))
        done = ended(engine, 6)
        by_port = {one.worker.rpartition(":")[2]: [] for one in done if isinstance(one, Observation)}
        for one in done:
            assert isinstance(one, Observation)
            by_port[one.worker.rpartition(":")[2]].append(one.task.id)
        first.end()
        lost: set[TaskId] = set()
        until(
            lambda: (
                lost.update(
                    task_id for one in engine.wait(0.5) if isinstance(one, ResultLost) for task_id in one.task_ids
                )
                or lost
            )
        )
        assert sorted(lost) in [sorted(ids) for ids in by_port.values()]
        kept = sorted({f"1.{number}" for number in range(6)} - lost)
        engine.submit(merge(7, (*kept, *lost), durable=True))
        gone, end = ended(engine, 2)
        assert isinstance(gone, ResultLost)
        assert set(gone.task_ids) == lost
        assert isinstance(end, Observation)
        assert end.outcome is Outcome.LOST
        engine.submit(merge(8, tuple(kept), durable=True))
        (whole,) = ended(engine, 1)
        assert isinstance(whole, Observation)
        assert whole.outcome is Outcome.DONE, whole
    finally:
        first.end()
        second.end()


def slow(chunk: Chunk) -> dict[str, int]:
    import time

    time.sleep(0.002 * chunk.elements)
    return {"elements": chunk.elements}


def plus(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {"elements": a["elements"] + b["elements"]}


def test_a_run_whose_workers_die_with_results_ends_whole(tmp_path: Path) -> None:
    needs_taskvine()
    port, run_dir = free_port(), tmp_path / "run"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    started: list[Worker] = [Worker("vine_worker", port, tmp_path, more=()) for _ in range(2)]
    lost: list[TaskId] = []
    most_files = 0

    class Killing(TaskVine):
        """Kills the first worker once results lie on it."""

        def wait(self, timeout_s: float) -> Any:
            nonlocal most_files
            found = super().wait(timeout_s)
            lost.extend(task_id for one in found if isinstance(one, ResultLost) for task_id in one.task_ids)
            most_files = max(most_files, len(files(self)))
            if len(started) < 3 and len(set(self._kept.values())) == 2 and len(self._kept) > 5:
                started[0].end()
                started.append(Worker("vine_worker", port, tmp_path, more=()))
            return found

    try:
        result = shaper.run(
            {f"s{number}": 1000 for number in range(10)},
            process=slow,
            merge=plus,
            engine=Killing(port=port),
            run_dir=run_dir,
            progress=False,
            policy=shaper.policy.Adaptive(target_wall=0.3),
        )
    finally:
        for worker in started:
            worker.end()
    assert result.value == {"elements": 10_000}
    assert len(started) == 3
    assert lost
    assert most_files <= 1
