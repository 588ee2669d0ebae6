"""The law of run time: found from its own values, robust, and moderate where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shaper.models.usl import Array, Curve, Labels, _features, _law, fit

GRID = np.array([(s, g, load) for s in (1, 2, 5, 12, 30) for g in (0.5, 1.0, 3.0) for load in (0.0, 4.0)], dtype=float)


def usl(points: Array, each_s: float = 0.0, coherency: float = 0.002, k: float = 1.1, load: float = 0.05) -> Array:
    s, gamma, beside = points.T
    work = gamma**k * (0.1 + 0.9 / s + coherency * (s - 1))
    times: Array = (5 + each_s * (s - 1) + 200 * work) * (1 + beside) ** load
    return times


def fitted(points: Array, times_s: Array, regimes: Labels | None = None) -> Curve:
    labels = np.zeros(len(points), np.intp) if regimes is None else regimes
    return fit(points, times_s, labels, np.ones(len(points)))


def at(curve: Curve, *point: float) -> float:
    return math.exp(curve.log_times(np.array([point]))[0][0])


def test_a_law_without_noise_is_found() -> None:
    curve = fitted(GRID, usl(GRID))
    new = np.array([(3, 1.0, 0.0), (20, 2.0, 2.0), (60, 1.0, 0.0)], dtype=float)
    assert np.exp(curve.log_times(new)[0]) == pytest.approx(usl(new), rel=0.03)
    assert curve.theta[5] == pytest.approx(1.1, abs=0.03)
    assert curve.noise < 0.025
    assert curve.serial == pytest.approx(25 / 205, abs=0.04)


def test_overheads_that_make_more_tasks_slower_are_found() -> None:
    points = np.array([(s, 1.0, 0.0) for s in (1, 5, 10, 20, 40, 40)], dtype=float)
    curve = fitted(points, usl(points, coherency=0.01))
    s = np.arange(1, 65)
    every = np.column_stack([s, np.ones(64), np.zeros(64)])
    assert s[np.argmin(curve.log_times(every)[0])] == pytest.approx(s[np.argmin(usl(every, coherency=0.01))], abs=1)


def test_the_jacobian_is_the_derivative() -> None:
    rng = np.random.default_rng(3)
    regimes = rng.integers(0, 3, len(GRID))
    theta = np.array([0.3, -1.5, -3.0, -5.0, -5.5, 1.1, 0.9, 0.05, -0.1, 0.4, -0.2, -0.3, 0.1])
    features = _features(GRID, 4.0)
    jacobian = _law(theta, features, regimes)[1]
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-6
        slope = (_law(theta + step, features, regimes)[0] - _law(theta - step, features, regimes)[0]) / 2e-6
        assert jacobian[:, j] == pytest.approx(slope, abs=1e-7)


def test_one_straggler_bends_it_little() -> None:
    times_s = usl(GRID)
    late = times_s.copy()
    late[-1] *= 4.0
    without, with_it = fitted(GRID[:-1], times_s[:-1]), fitted(GRID, late)
    for s in (1, 8, 30):
        assert at(with_it, s, 1.0, 0.0) == pytest.approx(at(without, s, 1.0, 0.0), rel=0.08)


def test_one_run_gives_a_moderate_curve() -> None:
    curve = fitted(np.array([(1.0, 1.0, 0.0)]), np.array([100.0]))
    assert at(curve, 1, 1.0, 0.0) == pytest.approx(100, rel=0.01)
    assert 12 < at(curve, 10, 1.0, 0.0) < 50
    assert at(curve, 1, 2.0, 0.0) == pytest.approx(200, rel=0.1)
    _, jacobian = curve.log_times(np.array([(1.0, 1.0, 0.0), (10.0, 1.0, 0.0), (10.0, 5.0, 0.0)]))
    unsure = curve.variance(jacobian)
    assert unsure[0] < unsure[1] < unsure[2]


def test_load_may_make_it_faster() -> None:
    curve = fitted(GRID, usl(GRID, load=-0.1))
    assert at(curve, 5, 1.0, 4.0) < 0.9 * at(curve, 5, 1.0, 0.0)


def test_an_earlier_regime_tells_the_shape_and_not_the_level() -> None:
    before = np.array([(s, 1.0, 0.0) for s in (1, 2, 5, 8, 8, 8)], dtype=float)
    today = np.array([(8.0, 1.0, 0.0)] * 3)
    points = np.vstack([before, today])
    times_s = usl(points)
    times_s[len(before) :] = 2 * times_s[len(before) :] - 5  # twice the work, the same start-up
    curve = fitted(points, times_s, np.array([1] * len(before) + [0] * len(today)))
    assert at(curve, 8, 1.0, 0.0) == pytest.approx(times_s[-1], rel=0.02)
    assert at(curve, 1, 1.0, 0.0) == pytest.approx(2 * usl(before)[0], rel=0.15)
    assert curve.change(1) == pytest.approx(2.0, rel=0.15)


def test_many_runs_at_one_point_do_not_tell_anything_about_others() -> None:
    points = np.array([(5.0, 1.0, 0.0)] * 40)
    curve = fitted(points, np.full(40, 30.0))
    unsure = curve.variance(curve.log_times(np.array([(5.0, 1.0, 0.0), (50.0, 1.0, 0.0)]))[1])
    assert math.sqrt(unsure[0]) < 0.01
    assert math.sqrt(unsure[1]) > 0.1
