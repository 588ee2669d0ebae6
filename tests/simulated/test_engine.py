"""The simulated engine against schedules worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper.engines import Simulated, WorkerSpec
from shaper.engines.cluster import SharedSource
from shaper.errors import BadInput, Stalled
from shaper.types import Cancel, Chunk, Observation, Outcome, Resources, Source, Span, Task, Usage

SOURCE = Source("a", 10**9)


def task(number: int, *, elements: int = 10, memory_mib: int = 1000, cores: int = 1, **more: Any) -> Task:
    work = Chunk((Span(SOURCE, number * 1000, number * 1000 + elements),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(cores, memory_mib, **more))


def cost(task: Task, rng: Any) -> Usage:
    return Usage(wall_s=float(task.work.elements), memory_mib=100.0 * task.work.elements, read_bytes=1000)


def everything(engine: Simulated) -> list[Observation]:
    seen: list[Observation] = []
    while engine._running or engine._queue:
        for one in engine.wait(1e9):
            assert isinstance(one, Observation)
            seen.append(one)
    return seen


def times(seen: list[Observation]) -> list[tuple[str, float | None, float]]:
    return [(one.task.id, one.started_s, one.finished_s) for one in seen]


def test_tasks_run_in_order_as_cores_allow() -> None:
    engine = Simulated([WorkerSpec(2, 4000, 1)], cost)
    for number in range(3):
        engine.submit(task(number))
    assert times(everything(engine)) == [("1.0", 0, 10), ("1.1", 0, 10), ("1.2", 10, 20)]


def test_one_manager_dispatches_serially_and_slots_are_held_longer() -> None:
    engine = Simulated([WorkerSpec(4, 8000, 1)], cost, dispatch_s=2.0, slot_overhead_s=1.0)
    for number in range(3):
        engine.submit(task(number))
    assert times(everything(engine)) == [("1.0", 2, 13), ("1.1", 4, 15), ("1.2", 6, 17)]


def test_a_task_dies_where_its_memory_crosses_the_limit() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1)], cost)
    engine.submit(task(0, memory_mib=250))
    (seen,) = everything(engine)
    assert (seen.outcome, seen.finished_s) == (Outcome.OUT_OF_MEMORY, 2.5)
    assert seen.usage is not None
    assert seen.usage.memory_mib == 250


def test_wall_limits_and_speeds() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1, speed=2.0)], cost)
    engine.submit(task(0, wall_s=4.0))
    engine.submit(task(1))
    first, second = everything(engine)
    assert (first.outcome, first.finished_s) == (Outcome.OUT_OF_TIME, 4)
    assert (second.outcome, second.finished_s) == (Outcome.DONE, 9)


def test_workers_join_and_leave() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1, leaves_s=5.0), WorkerSpec(1, 4000, 1, joins_s=7.0, name="late")], cost)
    engine.submit(task(0))
    (lost,) = engine.wait(100)
    assert isinstance(lost, Observation)
    assert (lost.outcome, lost.finished_s) == (Outcome.LOST, 5)
    assert engine.capacity().kinds == ()
    engine.submit(task(1))
    assert times(everything(engine)) == [("1.1", 7, 17)]


def test_nothing_that_can_ever_run_is_said_so() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1)], cost)
    engine.submit(task(0, memory_mib=5000))
    with pytest.raises(Stalled, match=r"4\.9 GiB, which no worker has"):
        engine.wait(10)


def test_a_task_that_does_not_fit_lets_others_pass() -> None:
    engine = Simulated([WorkerSpec(2, 4000, 1)], cost)
    engine.submit(task(0, memory_mib=3000))
    engine.submit(task(1, memory_mib=3000))
    engine.submit(task(2, memory_mib=1000))
    assert [name for name, _, _ in times(everything(engine))] == ["1.0", "1.2", "1.1"]


def test_tasks_that_no_worker_can_hold_are_passed_however_many_they_are_and_are_first_when_one_comes() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1), WorkerSpec(1, 9000, 1, joins_s=15.0)], cost)
    for number in range(40):
        engine.submit(task(number, memory_mib=5000))
    for number in range(40, 43):
        engine.submit(task(number))
    assert engine.capacity().waiting == 43
    (first,) = engine.wait(100)
    assert isinstance(first, Observation)
    assert (first.task.id, first.finished_s) == ("1.40", 10)
    assert engine.capacity().waiting == 41
    engine.cancel([Cancel("1.39", "not wanted")])
    ended = everything(engine)
    assert [one.task.id for one in ended[:3]] == ["1.39", "1.41", "1.0"]
    assert {one.task.id: one.started_s for one in ended}["1.0"] == 15


def test_cancelled_tasks_are_observed_once() -> None:
    engine = Simulated([WorkerSpec(1, 4000, 1)], cost)
    engine.submit(task(0))
    engine.submit(task(1))
    engine.wait(1)
    engine.cancel([Cancel("1.0", "no"), Cancel("1.1", "no")])
    assert {(s.task.id, s.outcome) for s in engine.wait(1) if isinstance(s, Observation)} == {
        ("1.0", Outcome.CANCELLED),
        ("1.1", Outcome.CANCELLED),
    }
    assert everything(engine) == []


def test_losses_come_at_their_rate() -> None:
    engine = Simulated([WorkerSpec(10, 100_000, 10)], cost, loss_rate=0.2)
    for number in range(2000):
        engine.submit(task(number))
    lost = sum(one.outcome is Outcome.LOST for one in everything(engine))
    assert 330 < lost < 470


def test_readers_share_the_bandwidth() -> None:
    engine = Simulated([WorkerSpec(2, 4000, 1)], cost, bandwidth=100.0)
    engine.submit(task(0))
    engine.submit(task(1))
    assert [one.finished_s for one in everything(engine)] == [30.0, 30.0]  # 2000 bytes at 100 B/s, then 10 s


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(1, 500)), min_size=1, max_size=8))
def test_sharing_is_that_of_a_fluid(readers: list[tuple[float, float]]) -> None:
    """Against a simulation in small steps of time."""
    source = SharedSource(10.0)
    starts = sorted((at, size, f"r{n}") for n, (at, size) in enumerate(readers))
    done: dict[str, float] = {}
    now, queue = 0.0, list(starts)
    while queue or source._readers:
        due = source.next_done_s()
        if queue and (due is None or queue[0][0] <= due):
            now, size, name = queue.pop(0)
            source.start(name, size, now)
        else:
            assert due is not None
            now = due
            done.update(dict.fromkeys(source.finish(now), now))
    left = {name: size for _, size, name in starts}
    begin = {name: at for at, _, name in starts}
    step, clock, want = 0.01, 0.0, {}
    while left:
        active = [name for name in left if begin[name] <= clock]
        for name in active:
            left[name] -= step * 10.0 / len(active)
            if left[name] <= 0:
                want[name] = clock + step
                del left[name]
        clock += step
    for name, at in want.items():
        assert done[name] == pytest.approx(at, abs=0.1)


def test_bad_clusters_are_refused() -> None:
    with pytest.raises(BadInput, match="at least one WorkerSpec"):
        Simulated([], cost)
    with pytest.raises(BadInput, match="at least 1 core"):
        WorkerSpec(0, 100, 1)
    with pytest.raises(BadInput, match="must leave after they join"):
        WorkerSpec(1, 100, 1, joins_s=5, leaves_s=4)
