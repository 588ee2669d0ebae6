"""Results that stay on workers: lost with them and done again, never for long, and never the value of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shaper
from shaper.engines import Simulated, WorkerSpec
from shaper.types import Merge, Observation, Outcome, ResultLost, Task, Usage


class Watched(Simulated):
    """Notes which results were lost, and which could have been."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, keeps_results=True, **options)
        self.lost = 0
        self.durable: dict[str, bool] = {}

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        found = super().wait(timeout_s)
        for seen in found:
            if isinstance(seen, ResultLost):
                self.lost += len(seen.task_ids)
            elif seen.outcome is Outcome.DONE:
                self.durable[seen.task.id] = seen.result is None or seen.result.durable
        return found

    def fetch(self, task_id: str) -> object:
        assert self.durable[task_id]
        return super().fetch(task_id)


class Ages:
    """A policy that notes since when work could be lost."""

    def __init__(self, inner: Any, engine: Simulated) -> None:
        self.inner, self.engine, self.oldest_s = inner, engine, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def shapes(self, beliefs: Any, capacity: Any, backlog: Any) -> Any:
        for stage in backlog.stages:
            if stage.unsaved_since_s is not None and capacity.cores:
                self.oldest_s = max(self.oldest_s, self.engine.now_s - stage.unsaved_since_s)
        return self.inner.shapes(beliefs, capacity, backlog)


def cost(task: Task, rng: Any) -> Usage:
    if isinstance(task.work, Merge):
        return Usage(wall_s=0.5, memory_mib=200.0, result_bytes=10**6)
    return Usage(
        wall_s=float(5 + 1e-3 * task.work.elements * rng.lognormal(0, 0.1)), memory_mib=300, result_bytes=10**6
    )


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    lifetime_s=st.floats(120, 600),
    count=st.integers(1, 12),
    checkpoint_s=st.sampled_from([0, 5, 60]),
    ordered=st.booleans(),
)
def test_results_that_are_lost_with_their_workers_are_done_again(
    seed: int, lifetime_s: float, count: int, checkpoint_s: float, ordered: bool
) -> None:
    engine = Watched([WorkerSpec(4, 8000, count, lifetime_mean_s=lifetime_s, rejoin_s=10.0)], cost, seed)
    dataset = shaper.Stage("all", {f"s{n}": 50_000 for n in range(20)}, None, None, ordered=ordered)
    result = shaper.run([dataset], engine=engine, policy=shaper.policy.Adaptive(checkpoint_s=checkpoint_s))
    assert result.value == {"all": 10**6}
    assert engine.lost == 0 or (checkpoint_s > 0 and not ordered)
    assert (result.report.redone_elements > 0) == (engine.lost > 0)


def test_nothing_is_kept_on_workers_longer_than_asked() -> None:
    def kept(checkpoint_s: float, seed: int) -> tuple[float, int]:
        engine = Watched([WorkerSpec(4, 8000, 10, lifetime_mean_s=400, rejoin_s=10)], cost, seed)
        policy = Ages(shaper.policy.Adaptive(checkpoint_s=checkpoint_s), engine)
        shaper.run({f"s{n}": 500_000 for n in range(20)}, engine=engine, policy=policy)
        return policy.oldest_s, engine.lost

    # A merge that brings results home may be lost itself: of some seeds they stay longer.
    few = [kept(20.0, seed) for seed in range(1, 8)]
    assert statistics.median(oldest_s for oldest_s, _ in few) <= 20 + 5 < kept(10.0**6, 1)[0]
    assert any(lost for _, lost in few)


@pytest.mark.parametrize("sources", [1, 3])
def test_the_value_of_a_run_is_brought_home(sources: int) -> None:
    engine = Watched([WorkerSpec(4, 8000, 1)], cost)
    dataset = {f"s{n}": 1 for n in range(sources)}
    assert shaper.run(dataset, engine=engine, policy=shaper.policy.Adaptive()).value == sources
