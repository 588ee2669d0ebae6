"""When the past no longer holds: a large change at once, a small one when it lasts, noise never."""

import numpy as np
import pytest

from shaper.models.drift import Watch, earlier_regime, surprise


def watched(zs: list[float], error: float = 0.5) -> Watch:
    watch = Watch()
    for z in zs:
        watch = watch.after(error if z > 0 else -error, z)
    return watch


def test_surprise_is_a_normal_quantile_of_student_t() -> None:
    # P(t > 2.228) with 10 degrees of freedom is that of a normal 1.960.
    assert surprise(2.228, 1.0, 10.0) == pytest.approx(1.960, abs=0.005)
    assert surprise(-2.228, 1.0, 10.0) == -surprise(2.228, 1.0, 10.0)
    assert surprise(0.1, 0.05, 1e9) == pytest.approx(2.0, abs=1e-3)
    # Few runs behind the deviation: the same error surprises less.
    assert surprise(5.0, 1.0, 6.0) < 3.5 < 4.7 < surprise(5.0, 1.0, 100.0)


@pytest.mark.parametrize(
    ("zs", "runs"),
    [
        ([], 0),
        ([0.3, -0.2, 6.0], 1),
        ([0.3, -6.0], 1),
        ([3.0, 3.0], 0),
        ([3.0, 3.0, 3.0], 3),
        ([0.5, 2.5, 2.5, 2.5, 2.5], 4),
        ([4.0, -4.0, 4.0, -4.0], 0),
    ],
)
def test_a_change_is_as_old_as_its_first_surprise(zs: list[float], runs: int) -> None:
    assert watched(zs).changed_runs == runs


def test_a_change_too_small_to_matter_is_none() -> None:
    assert watched([9.0], error=0.01).changed_runs == 0


def test_noise_is_hardly_ever_a_change() -> None:
    rng = np.random.default_rng(5)
    alarms, watch = 0, Watch()
    for z in rng.normal(0, 1, 20_000):
        watch = watch.after(float(z), float(z))
        if watch.changed_runs:
            alarms, watch = alarms + 1, Watch()
    assert alarms <= 5


def test_a_run_belongs_to_the_earlier_regime_that_explains_it_best() -> None:
    assert earlier_regime(9.0, {0: 7.0, 1: 1.2, 2: -0.6}) == 2
    assert earlier_regime(-9.0, {0: 7.0, 1: 2.5}) is None
    assert earlier_regime(2.5, {0: 0.1}) is None
    assert earlier_regime(9.0, {}) is None
