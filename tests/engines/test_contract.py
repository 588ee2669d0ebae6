"""What every engine promises, on every engine: one suite, each with real workers of its own kind.

What a task does is said by the payload of its source: real engines run `behave`, the simulated one asks `cost`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import shaper
from shaper.engines import Local, Simulated, WorkerSpec
from shaper.engines.engine import Engine
from shaper.engines.taskvine import TaskVine
from shaper.engines.workqueue import WorkQueue
from shaper.errors import Stalled
from shaper.policy import Adaptive, Fixed
from shaper.types import (
    Cancel,
    Chunk,
    Code,
    Observation,
    Outcome,
    Resources,
    Source,
    Span,
    Task,
    Usage,
)
from tests.engines.workers import Worker, free_port, needs_taskvine, needs_workqueue, until

MIB = 2**20
CORES, MEMORY_MIB = 2, 3000


@dataclass(frozen=True)
class Doing:
    """What a task does."""

    wall_s: float = 0.01
    memory_mib: int = 0


def behave(chunk: Chunk) -> int:
    doing = chunk.spans[0].source.payload or Doing()
    block = bytearray(doing.memory_mib * MIB)
    for at in range(0, len(block), 4096):
        block[at] = 1
    time.sleep(doing.wall_s)
    return chunk.elements


def add(a: int, b: int) -> int:
    return a + b


def cost(task: Task, rng: Any) -> Usage:
    if not isinstance(task.work, Chunk):
        return Usage(wall_s=0.01, memory_mib=50.0, result_bytes=10)
    doing = task.work.spans[0].source.payload or Doing()
    return Usage(wall_s=doing.wall_s, memory_mib=50.0 + doing.memory_mib, result_bytes=10)


def local(stack: ExitStack, tmp_path: Path) -> Engine:
    return Local(cores=CORES, memory=MEMORY_MIB)


def simulated(stack: ExitStack, tmp_path: Path) -> Engine:
    return Simulated([WorkerSpec(CORES, MEMORY_MIB, 1)], cost)


def workqueue(stack: ExitStack, tmp_path: Path) -> Engine:
    needs_workqueue()
    port = free_port()
    stack.enter_context(Worker("work_queue_worker", port, tmp_path, cores=CORES, memory_mib=MEMORY_MIB))
    return WorkQueue(port=port, grace_s=0.0)


def taskvine(stack: ExitStack, tmp_path: Path) -> Engine:
    needs_taskvine()
    port = free_port()
    stack.enter_context(Worker("vine_worker", port, tmp_path, cores=CORES, memory_mib=MEMORY_MIB))
    return TaskVine(port=port, grace_s=0.0)


Maker = Callable[[ExitStack, Path], Engine]
ENGINES: dict[str, Maker] = {"local": local, "simulated": simulated, "workqueue": workqueue, "taskvine": taskvine}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with ExitStack() as stack:
        made = ENGINES[request.param](stack, tmp_path)
        made.run_dir = tmp_path
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        made.open("s", Code("s", cloudpickle.dumps((behave, add)), "f"))
        until(lambda: made.wait(0.1) == [] and made.capacity().kinds)
        yield made
        made.close()
        made.close()


def task(number: int, doing: Doing | None = None, *, cores: int = 1, memory_mib: int = 500, **more: Any) -> Task:
    work = Chunk((Span(Source(f"source-{number}", 10, payload=doing), 0, 10),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(cores, memory_mib, **more))


def ended(engine: Engine, count: int) -> list[Observation]:
    found: list[Observation] = []
    deadline = time.monotonic() + 180
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count}"
        found += [one for one in engine.wait(0.5) if isinstance(one, Observation)]
    return found


def at_once(seen: Sequence[Observation], weight: Callable[[Task], int]) -> int:
    """The largest sum of weights of tasks that ran at the same time."""
    changes = []
    for one in seen:
        assert one.started_s is not None
        changes += [(one.started_s, 1, weight(one.task)), (one.finished_s, 0, -weight(one.task))]
    most = now = 0
    for _, _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_every_task_is_observed_once_and_within_the_workers(engine: Engine) -> None:
    tasks = [task(n, Doing(0.005), cores=1 + n % 2, memory_mib=600 + 600 * (n % 3)) for n in range(30)]
    for one in tasks:
        engine.submit(one)
    seen = ended(engine, len(tasks))
    assert sorted(one.task.id for one in seen) == sorted(one.id for one in tasks)
    assert {one.outcome for one in seen} == {Outcome.DONE}
    assert at_once(seen, lambda task: task.resources.cores) == CORES
    assert at_once(seen, lambda task: task.resources.memory_mib) <= MEMORY_MIB
    assert all(one.usage is not None and one.usage.wall_s is not None for one in seen)
    assert all(one.submitted_s <= (one.started_s or 0) <= one.finished_s <= engine.now_s for one in seen)


def test_capacity_tells_what_is_free(engine: Engine) -> None:
    before = engine.capacity()
    assert (before.cores, before.kinds[0].free_cores) == (CORES, CORES)
    assert before.largest is not None
    assert before.largest.memory_mib == MEMORY_MIB
    engine.submit(task(1, Doing(0.2)))
    ended(engine, 1)
    assert engine.capacity() == before


def test_memory_over_the_limit_ends_the_task_and_no_other(engine: Engine) -> None:
    engine.submit(task(1, Doing(0.5, memory_mib=800), memory_mib=400))
    engine.submit(task(2, Doing(0.05), memory_mib=400))
    seen = {one.task.id: one for one in ended(engine, 2)}
    assert seen["1.1"].outcome is Outcome.OUT_OF_MEMORY
    assert seen["1.2"].outcome is Outcome.DONE
    usage = seen["1.1"].usage
    assert usage is not None
    assert usage.memory_mib is not None
    assert 400 <= usage.memory_mib < 900


def test_time_over_the_limit_ends_the_task(engine: Engine) -> None:
    engine.submit(task(1, Doing(30.0), wall_s=0.2))
    (seen,) = ended(engine, 1)
    assert seen.outcome is Outcome.OUT_OF_TIME
    assert seen.started_s is not None
    assert seen.finished_s - seen.started_s < 15


def test_what_is_taken_back_is_observed_once(engine: Engine) -> None:
    for number in range(4):
        engine.submit(task(number, Doing(5.0)))
    engine.wait(0.01)
    engine.cancel([Cancel(f"1.{number}", "not wanted") for number in range(4)])
    seen = ended(engine, 4)
    assert sorted(one.task.id for one in seen) == ["1.0", "1.1", "1.2", "1.3"]
    assert {one.outcome for one in seen} == {Outcome.CANCELLED}
    engine.submit(task(5))
    assert [one.task.id for one in ended(engine, 1)] == ["1.5"]


def test_what_no_worker_can_hold_is_said(engine: Engine) -> None:
    engine.submit(task(1, memory_mib=2 * MEMORY_MIB))
    with pytest.raises(Stalled, match=r"5\.9 GiB"):
        engine.wait(0.01)


def test_a_result_is_there_until_it_is_released(engine: Engine) -> None:
    engine.submit(task(1))
    engine.submit(task(2))
    ended(engine, 2)
    engine.release(["1.2"])
    assert engine.fetch("1.1") == 10


@pytest.mark.parametrize("maker", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("policy", [Adaptive, lambda: Fixed(700, Resources(1, 500))], ids=["adaptive", "fixed"])
def test_a_run_counts_every_element_once(maker: Maker, policy: Any, tmp_path: Path) -> None:
    sizes = {f"source-{number}": 1 + 977 * number % 2000 for number in range(20)}
    with ExitStack() as stack:
        engine = maker(stack, tmp_path)
        result = shaper.run(
            sizes, process=behave, merge=add, engine=engine, policy=policy(), run_dir=tmp_path / "run", progress=False
        )
    assert result.value == sum(sizes.values())
    assert result.report.elements == sum(sizes.values())
