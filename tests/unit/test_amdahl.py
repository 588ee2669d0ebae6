"""Amdahl's law: each equation is the inverse, or the minimum, it claims to be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import BadInput
from shaper.models import amdahl

parts = st.floats(0.01, 0.99)


@given(p=parts, s=st.integers(2, 500), startup_s=st.floats(0, 50), size=st.floats(0.1, 10))
def test_the_parallel_part_is_the_inverse_of_the_law(p: float, s: int, startup_s: float, size: float) -> None:
    wall_s = amdahl.time_s(s, p, 300.0, startup_s, size)
    assert amdahl.parallel_part(s, wall_s, 300.0, startup_s, size) == pytest.approx(p, abs=1e-9)


@given(p=parts, gamma=st.floats(0.1, 0.9) | st.floats(1.1, 10), k=st.floats(0.2, 2.5))
def test_the_exponent_is_the_inverse_of_the_law(p: float, gamma: float, k: float) -> None:
    scale_s = amdahl.time_s(4, p, 300.0, 0.0, gamma**k)
    assert amdahl.exponent(scale_s, amdahl.time_s(4, p, 300.0), gamma) == pytest.approx(k)


@given(p=parts, startup_s=st.floats(0, 20), each_s=st.sampled_from([0.0, 0.1, 1.0, 5.0]), gamma=st.floats(0.2, 5))
def test_the_optimum_costs_less_than_its_neighbours(p: float, startup_s: float, each_s: float, gamma: float) -> None:
    t1_s, k = 100.0, 1.1
    best = amdahl.optimum(startup_s + gamma**k * (1 - p) * t1_s, gamma**k * p * t1_s, each_s)

    def cost(s: float) -> float:
        return (amdahl.time_s(s, p, t1_s, startup_s, gamma**k) + each_s * s) * math.sqrt(s)

    assert cost(best) <= min(cost(0.99 * best), cost(1.01 * best))


def test_without_a_start_up_the_optimum_is_as_published() -> None:
    assert amdahl.optimum(5.0, 95.0) == pytest.approx(0.95 / 0.05)
    assert amdahl.optimum(0.0, 95.0) == math.inf


@given(p=parts, eta=parts)
def test_the_efficient_parallelism_reaches_that_part_of_the_largest_speed_up(p: float, eta: float) -> None:
    s = amdahl.efficient(p, eta)
    speed_up = 1 / amdahl.time_s(s, p, 1.0)
    assert speed_up == pytest.approx(eta / (1 - p))
    # The printed form fails here: at eta = 1 - p one task is enough.
    assert amdahl.efficient(p, 1 - p) == pytest.approx(1.0)


def test_one_task_tells_nothing_about_the_parallel_part() -> None:
    with pytest.raises(BadInput, match="one task tells nothing"):
        amdahl.parallel_part(1, 10.0, 10.0)


@pytest.mark.parametrize(
    ("search", "window"), [("all", (1, 64)), ("low", (1, 12)), ("around", (5, 15)), ("high", (1, 15))]
)
def test_windows_are_those_printed(search: amdahl.Search, window: tuple[int, int]) -> None:
    assert amdahl.window(search, 10.0, 30.0, 64) == window


@given(
    search=st.sampled_from(["all", "low", "around", "high", "efficiency"]),
    best=st.floats(0, 1e9) | st.just(math.inf),
    efficient=st.floats(0, 1e9) | st.just(math.inf),
    s_max=st.integers(1, 100),
)
def test_no_window_is_empty(search: amdahl.Search, best: float, efficient: float, s_max: int) -> None:
    low, high = amdahl.window(search, best, efficient, s_max)
    assert 1 <= low <= high <= s_max
