"""Which parallelism: expected costs and improvements are those that many draws have, ties go where they should."""

from __future__ import annotations

import numpy as np
import pytest

from shaper.models.decision import Goal, candidates, least, least_known, most_not_slower

S = np.arange(1.0, 6.0)
MU = np.log([100.0, 60.0, 45.0, 44.0, 43.0])
VAR = np.array([0.01, 0.02, 0.05, 0.2, 0.5])


def drawn(goal: Goal, n: int = 400_000) -> np.ndarray:
    """Costs of times drawn from the log-normal distribution, (n, 5)."""
    rng = np.random.default_rng(3)
    times_s = np.exp(MU + np.sqrt(VAR) * rng.normal(size=(n, 5)))
    return times_s**goal.time * S**goal.tasks


@pytest.mark.parametrize("urgency", [0.5, 1.0, 2.0])
def test_the_expected_cost_is_the_mean_of_many(urgency: float) -> None:
    goal = Goal.of("cost", urgency)
    assert goal == (urgency, 0.5)
    assert np.exp(goal.log_costs(MU, VAR, S)) == pytest.approx(drawn(goal).mean(0), rel=0.02)


def test_the_makespan_is_time_alone_whatever_the_urgency() -> None:
    goal = Goal.of("makespan", 0.5)
    assert goal.log_costs(MU, 0 * VAR, S) == pytest.approx(MU)


@pytest.mark.parametrize("urgency", [0.5, 1.0])
def test_the_expected_improvement_is_the_mean_of_many(urgency: float) -> None:
    goal = Goal.of("cost", urgency)
    best = float(goal.log_costs(MU, VAR, S)[1])
    gains = np.maximum(1.0 - drawn(goal) / np.exp(best), 0.0).mean(0)
    assert goal.improvements(MU, VAR, S, best) == pytest.approx(gains, abs=2e-3)


def test_what_is_known_improves_nothing() -> None:
    goal = Goal.of("cost", 1.0)
    costs = goal.log_costs(MU, 0 * VAR, S)
    assert goal.improvements(MU, 0 * VAR, S, float(costs.min())) == pytest.approx(np.zeros(5), abs=1e-9)


def test_candidates_are_every_parallelism() -> None:
    assert candidates(2.0, 3.0, 3).tolist() == [[1, 2, 3], [2, 2, 3], [3, 2, 3]]


def test_of_equal_costs_the_smallest_parallelism_is_least() -> None:
    assert least(np.array([2.0, 1.0, 1.0])) == 2


def test_of_near_costs_the_least_known_parallelism_is_taken() -> None:
    costs = np.log([1.5, 1.006, 1.002, 1.0, 1.004, 1.02])
    assert least_known(costs, 0.01, [4]) == 2
    assert least_known(costs, 0.01, [2, 4]) == 3
    assert least_known(costs, 0.01, [2, 3, 4, 5]) == 4
    assert least_known(costs, 0.001, [1]) == 4


def test_more_tasks_are_taken_until_they_are_known_to_be_slower() -> None:
    falling = np.log([10.0, 6.0, 5.0, 4.8])
    assert most_not_slower(falling, np.zeros(4), 0.01) == 4
    rising = np.log([10.0, 6.0, 6.5, 7.0])
    assert most_not_slower(rising, np.zeros(4), 0.01) == 2
    assert most_not_slower(rising, np.array([0.0, 0.0, 0.0, 0.2**2]), 0.01) == 4
    assert most_not_slower(np.log([10.0, 6.0, 6.02, 6.04]), np.zeros(4), 0.01) == 4
