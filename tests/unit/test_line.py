"""The resource line: right in the middle, honest at the edge."""

import math

import numpy as np
import pytest

from shaper.models.line import Bins, Line, fit, with_observation
from shaper.models.resource import Model


def learn(rows: list[tuple[float, float]], bins: Bins | None = None) -> Bins:
    bins = bins or {}
    for x, y in rows:
        bins = with_observation(bins, x, y)
    return bins


def line_through(rows: list[tuple[float, float]]) -> Line:
    line = fit(learn(rows), {})
    assert line is not None
    return line


def test_a_line_without_noise_is_found() -> None:
    line = line_through([(x, 300 + 0.01 * x) for x in (1000, 4000, 16000, 64000)])
    assert line.intercept == pytest.approx(300, rel=1e-6)
    assert line.slope == pytest.approx(0.01, rel=1e-6)


def test_memory_flat_below_a_basket_keeps_its_floor() -> None:
    # Measured on the physics example: 26 coefficients, MiB against events.
    rows = [(1e3, 274.0), (32e3, 301), (64e3, 415), (128e3, 677), (256e3, 1178), (512e3, 2095)]
    line = line_through(rows)
    assert line.median(100) >= 274
    for x, y in rows[3:]:
        assert line.median(x) == pytest.approx(y, rel=0.12)


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.30])
def test_the_stated_risk_is_kept(sigma: float) -> None:
    """P(over the allocation) <= 2 %, on the noise that the published fit was measured with; pooled over 40 seeds."""
    over = total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bins: Bins = {}
        for _ in range(60):
            x = float(rng.choice([1e3, 8e3, 32e3, 64e3, 96e3, 128e3]))
            bins = with_observation(bins, x, (300 + 0.013 * x) * rng.lognormal(0, sigma))
        line = fit(bins, {})
        assert line is not None
        for x in (16e3, 64e3, 128e3):
            limit = line.upper(x, 0.02)
            over += int(np.sum((300 + 0.013 * x) * rng.lognormal(0, sigma, 200) > limit))
            total += 200
    assert over / total <= 0.03
    # Nor is that bought with room for twice the noise, once there is enough noise to tell from the prior's.
    assert sigma < 0.1 or over / total >= 0.002


def test_one_in_fifty_that_failed_counts_as_one_in_fifty_however_many_there_were() -> None:
    rng = np.random.default_rng(1)
    model = Model()
    for _ in range(5000):
        y = 1000.0 * float(rng.lognormal(0, 0.1))
        limit = 1000.0 * math.exp(0.1 * 2.05)
        model = model.passed(800.0, limit, None) if y > limit else model.observed(800.0, y, None)
    assert sum(b.weight for b in model.exceeded.values()) <= 0.2 * sum(b.weight for b in model.bins.values())
    assert model.line is not None
    assert model.line.median(800.0) == pytest.approx(1000, rel=0.1)


def test_exhausted_attempts_raise_the_line_but_do_not_count_as_samples() -> None:
    bins = learn([(x, 300 + 0.01 * x) for x in (1000, 2000, 4000)])
    before, after = fit(bins, {}), fit(bins, learn([(64000, 2000.0)]))
    assert before is not None
    assert after is not None
    assert before.median(64000) < 2000 < after.median(64000)
    # A limit far below what is expected anyway says nothing.
    low = fit(bins, learn([(64000, 200.0)]))
    assert low is not None
    assert low.median(64000) == pytest.approx(before.median(64000), rel=0.02)


def test_nothing_seen_gives_no_line_and_one_size_a_cautious_one() -> None:
    assert fit({}, {}) is None
    line = line_through([(1000, 100.0)] * 5)
    assert line.median(1000) == pytest.approx(100)
    assert 100 < line.median(8000) < 800


@pytest.mark.parametrize("rows", [[(1.0, 1e-9)], [(1e12, 1e6), (1.0, 1e-3)], [(5.0, 3.0), (5.0, 3.0), (6.0, 1.0)]])
def test_extreme_observations_give_finite_values(rows: list[tuple[float, float]]) -> None:
    line = line_through(rows)
    for x in (1.0, 1e3, 1e12):
        assert math.isfinite(line.upper(x, 0.02))
        assert line.upper(x, 0.02) >= line.median(x) > 0


def test_the_largest_size_that_fits_is_the_inverse_of_upper() -> None:
    line = line_through([(x, (300 + 0.01 * x) * f) for x in (1e3, 1e4, 1e5) for f in (0.9, 1.0, 1.1)])
    x = line.largest(1000, 0.02, 1e9)
    assert line.upper(x, 0.02) == pytest.approx(1000, rel=1e-3)
    assert line.largest(1000, 0.02, 50.0) == 50.0
    assert line.largest(10, 0.02, 1e9) == 0.0
    assert line.largest(1000, 0.001, 1e9) < x
