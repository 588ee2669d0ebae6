"""What single tasks say about any number of them, as literal expectations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.models import Run
from shaper.models.beliefs import Beliefs
from shaper.models.group import GroupBeliefs
from shaper.policy.onset import Law, at_first, hindered, law, probe
from tests.unit.factories import chunk, seen, task


def about(*sizes: int, fixed_s: float = 2.0, element_s: float = 1e-3) -> GroupBeliefs:
    """Tasks of these sizes have finished."""
    beliefs = Beliefs()
    for number, n in enumerate(sizes, start=1):
        beliefs = beliefs.updated(seen(task(chunk(n), number=number), wall_s=fixed_s + element_s * n, memory_mib=100.0))
    return beliefs.about("processing")


@pytest.mark.parametrize(("urgency", "s"), [(0.5, 1), (1.0, 50), (1.5, 100)])
def test_the_cheapest_parallelism_is_where_the_derivative_says(urgency: float, s: int) -> None:
    assert Law(2.0, 1e-3).cheapest(100_000, 1000, urgency) == s  # (2 u - 1) b n / a = (2 u - 1) 50


@given(
    st.floats(0.01, 100), st.floats(1e-6, 10), st.integers(1, 10_000), st.integers(1, 300), st.sampled_from([0.5, 1, 2])
)
def test_no_parallelism_costs_less_than_the_cheapest(
    fixed_s: float, element_s: float, elements: int, s_max: int, urgency: float
) -> None:
    one = Law(fixed_s, element_s)

    def cost(s: int) -> float:
        return float(one.wall_s(s, elements) ** urgency * s**0.5)

    best = one.cheapest(elements, s_max, urgency)
    assert 1 <= best <= max(1, min(s_max, elements))
    assert all(cost(best) <= cost(s) * (1 + 1e-9) for s in range(1, min(s_max, elements) + 1))


def test_nothing_is_said_before_a_task_has_finished() -> None:
    assert law(GroupBeliefs()) is None


def test_of_tasks_of_one_size_half_is_taken_to_be_fixed() -> None:
    found = law(about(1000, 1000))
    assert found is not None
    assert found.fixed_s == pytest.approx(1.5)
    assert found.element_s == pytest.approx(1.5e-3)


def test_tasks_of_several_sizes_tell_what_is_fixed() -> None:
    found = law(about(100, 1000, 10_000, 40_000))
    assert found is not None
    assert found.fixed_s == pytest.approx(2.0, rel=0.2)
    assert found.element_s == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("s", [2, 5, 8, 64, 512])
def test_the_work_of_the_probe_makes_the_whole_hardly_dearer(s: int) -> None:
    left = 10_000_000
    found = probe(about(200), left, left, s)
    assert found is not None
    tasks, elements = found
    assert tasks == min(5, s)
    part = tasks * elements / left
    assert part <= 0.25
    assert part * ((s / tasks) ** 0.5 - 1.0) <= 0.04  # work costs 1 / sqrt(s) in s tasks
    assert tasks * elements * s >= left / 40  # but it shows something


def test_there_is_no_probe_that_would_show_nothing_new() -> None:
    assert probe(about(1000), 10_000, 10_000, 64) is None  # none of 2000 elements is a small part
    assert probe(about(1000), 1_000_000, 1500, 64) is None  # memory
    assert probe(about(1000), 1_000_000, 8000, 1) is None  # one task is no parallelism
    assert probe(about(1000), 1_000_000, 8000, 64) == (5, 3103)


def test_few_elements_are_begun_all_at_once_and_many_with_a_baseline() -> None:
    assert at_first(12, 64) == 12
    assert at_first(44, 8) == 8
    assert at_first(1000, 8) is None
    assert at_first(1_000_000, 512) is None


def test_tasks_that_get_less_done_side_by_side_hinder_each_other() -> None:
    alone = Run(1, 0.1, 0.0, 10.0)
    assert not hindered([alone])
    assert not hindered([alone, Run(5, 1.0, 0.0, 20.0)])
    assert not hindered([alone, Run(5, 1.0, 0.0, 32.0)])
    assert hindered([alone, Run(5, 1.0, 0.0, 40.0)])
    assert hindered([alone, Run(5, 0.1, 0.0, 2.0), Run(8, 1.0, 0.0, 40.0)])  # the largest tells
