"""A data source that is away for a while, in virtual time: nothing is lost, little is tried in vain."""

from __future__ import annotations

from typing import Any

import pytest

import shaper
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import Incomplete
from shaper.policy import Adaptive, Fixed
from shaper.types import Chunk, Resources, Source, Task, Usage

SOURCES = [Source(f"s{number}", 20_000) for number in range(100)]
ELEMENTS = sum(source.elements or 0 for source in SOURCES)
POLICIES: dict[str, Any] = {
    "adaptive": lambda: Adaptive(target_wall=5.0),
    "fixed": lambda: Fixed(1000, Resources(1, 1000)),
}


def cost(task: Task, rng: Any) -> Usage:
    if not isinstance(task.work, Chunk):
        return Usage(wall_s=0.5, memory_mib=100.0, result_bytes=1000)
    return Usage(wall_s=2.0 + task.work.elements * 5e-3, memory_mib=200.0, result_bytes=1000)


def run(policy: Any, away: list[tuple[float, float]], sources: Any = SOURCES) -> shaper.Result:
    engine = Simulated([WorkerSpec(4, 8000, 5)], cost, away=away)
    return shaper.run(sources, engine=engine, policy=policy)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("away_s", [20.0, 300.0])
def test_a_source_that_comes_back(name: str, away_s: float) -> None:
    calm = run(POLICIES[name](), []).report
    result = run(POLICIES[name](), [(60.0, 60.0 + away_s)])
    report = result.report
    assert result.value == report.elements == ELEMENTS
    assert report.failures > 0  # it was away
    # Whoever failed last waits for half a minute at most.
    assert report.makespan_s <= calm.makespan_s + away_s + 60.0
    # What 20 slots began until it was noticed, each again now and then: not the whole dataset in vain.
    assert report.failures <= 3 * 20 * (6 + away_s / 30.0)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (run(Adaptive(), [(60.0, 90.0)]).report for _ in range(2))
    assert (first.makespan_s, first.tasks, first.failures) == (second.makespan_s, second.tasks, second.failures)


def test_patience_has_an_end() -> None:
    with pytest.raises(Incomplete, match="OSError: the data source is away; the same for 2 min"):
        run(Adaptive(patience="2 min"), [(60.0, 1e9)])


def test_a_source_that_was_never_there_is_told_within_a_minute() -> None:
    engine = Simulated([WorkerSpec(4, 8000, 5)], cost, away=[(0.0, 1e9)])
    with pytest.raises(Incomplete, match="OSError: the data source is away"):
        shaper.run(SOURCES, engine=engine, policy=Adaptive())
    assert engine.now_s < 60.0
