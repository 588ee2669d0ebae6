"""The profile of free processors."""

from __future__ import annotations

import math

import pytest

from shaper.scheduling.profile import Profile


def profile(processors: int = 4, *running: tuple[float, int]) -> Profile:
    return Profile.of(processors, running)


def test_processors_become_free_as_jobs_end() -> None:
    found = profile(4, (3.0, 2), (5.0, 1), (3.0, 1))
    assert (found.times, found.changes) == ([3.0, 5.0], [3, 1])
    assert [found.earliest(j, 1.0, 0.0, math.inf) for j in (1, 3, 4)] == [3.0, 3.0, 5.0]
    assert found.earliest(5, 1.0, 0.0, math.inf) is None
    assert found.earliest(2, 1.0, 4.5, math.inf) == 4.5


def test_a_gap_has_to_last_and_to_end_in_time() -> None:
    found = profile()
    found.reserve(2.0, 3.0, 3)
    assert found.earliest(2, 2.0, 0.0, math.inf) == 0.0
    assert found.earliest(2, 2.5, 0.0, math.inf) == 5.0
    assert found.earliest(1, 9.0, 0.0, math.inf) == 0.0
    assert found.earliest(2, 2.5, 0.0, 7.5) == 5.0
    assert found.earliest(2, 2.5, 0.0, 7.4) is None
    assert found.longest_s == pytest.approx(2.4)  # from 5 to 7.4; the gap before is 2 long


def test_what_is_taken_and_given_back_leaves_no_trace() -> None:
    found = profile()
    found.reserve(0.0, 2.0, 4)
    found.reserve(2.0, 3.0, 4)
    assert (found.times, found.changes) == ([5.0], [4])
    apart = found.copy()
    apart.reserve(5.0, 1.0, 4)
    assert (found.times, found.changes) == ([5.0], [4])


def test_a_sweep_closes_the_gaps_that_are_too_small_for_what_is_left() -> None:
    found = profile()
    found.reserve(0.0, 1.0, 4)
    found.reserve(2.0, 8.0, 4)  # a gap of 4 processor-seconds before it
    found.reserve(10.0, 5.0, 2)
    found.reserve(15.0, 1.0, 4)  # and one of 10
    assert found.earliest(1, 1.0, 0.0, math.inf) == 1.0
    found.sweep(4.0)
    assert found.earliest(1, 1.0, 0.0, math.inf) == 1.0
    found.sweep(4.1)
    assert found.earliest(1, 1.0, 0.0, math.inf) == 10.0
    found.sweep(11.0)
    assert found.earliest(1, 1.0, 0.0, math.inf) == 16.0


def test_processors_that_a_shrunk_machine_lacks_are_no_reason_to_close_a_gap() -> None:
    found = profile(4, (10.0, 8))  # 4 too few until 10
    found.reserve(15.0, 1.0, 4)  # a gap of 20 processor-seconds before it
    found.sweep(15.0)
    assert found.earliest(4, 5.0, 0.0, math.inf) == 10.0
