"""Plans at one moment: the cases of the specification, its worked example, and what each method promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import BadInput
from shaper.scheduling import METHODS, MoldableJob, Placement, best_stretch, plan, usual_cap
from shaper.scheduling.medf import least_stretch, medf
from shaper.scheduling.moment import Moment
from tests.unit.scheduling_factory import best_max_stretch, job, linear, running, shown


def max_stretch(placements: list[Placement]) -> float:
    return max((one.end_s - one.job.release_s) / one.job.times[0] for one in placements)


def test_the_cases_of_the_specification(shared_data: Path) -> None:
    cases = json.loads((shared_data / "dbos_cases.json").read_text())["cases"]
    assert len(cases) == 10
    for case in cases:
        jobs = [MoldableJob(at, r, p) for at, (r, p) in enumerate(zip(case["r"], case["p"], strict=True))]
        found = best_stretch(jobs, [], case["m"], 0.0, 1e-9)
        assert found == pytest.approx(case["medf_S"], abs=1e-5)
        placements = plan(jobs, [], case["m"], 0.0, rho=1.0)
        assert max_stretch(placements) == pytest.approx(case["medf_achieved_max_stretch"], abs=2e-3)
        assert best_max_stretch(jobs, [], case["m"], 0.0) == pytest.approx(case["opt_max_stretch"], abs=1e-5)


# Two processors, of which one is busy until 2.8. Job a, there for 6 s, may run at once on the free one (stretch
# (6 + 8) / 8 = 1.75), or wait for both ((6 + 2.8 + 4) / 8 = 1.6).
EXAMPLE = [job("a", 8.0, 4.0, release_s=-6.0), job("b", 12.0, 12.0)]
BUSY = [running(1, 2.8, start_s=-1.0)]


@pytest.mark.parametrize(("stretch", "feasible"), [(1.0, False), (1.5, False), (1.6, True), (2.0, True)])
def test_in_the_worked_example_a_stretch_of_2_is_feasible_and_1_and_1_5_are_not(stretch: float, feasible: bool) -> None:
    moment = Moment(EXAMPLE, BUSY, 2, 0.0)
    assert isinstance(medf(moment, [stretch] * 2), list) is feasible


def test_in_the_worked_example_the_optimum_is_1_6_and_rho_1_1_gives_1_75_for_fewer_processors() -> None:
    assert best_stretch(EXAMPLE, BUSY, 2, 0.0, 1e-9) == pytest.approx(1.6)
    assert best_max_stretch(EXAMPLE, [(0.0, 2.8, 1)], 2, 0.0) == pytest.approx(1.6)
    assert shown(plan(EXAMPLE, BUSY, 2, 0.0, rho=1.0)) == [("a", 2, 2.8), ("b", 1, 6.8)]
    relaxed = plan(EXAMPLE, BUSY, 2, 0.0, rho=1.1)
    assert shown(relaxed) == [("a", 1, 0.0), ("b", 1, 2.8)]
    assert max_stretch(relaxed) == pytest.approx(1.75)


def test_ties_of_deadlines_are_broken_by_id() -> None:
    jobs = [linear(name, 8.0) for name in ("c", "a", "b")]
    assert [one.job.id for one in plan(jobs, [], 1, 0.0)] == ["a", "b", "c"]


def test_deadlines_that_are_equal_are_a_tie_however_long_before_they_were_given() -> None:
    # Jobs 1 and 2 are both due 15.8125 s from now; were 2 planned first, 1 would find no gap.
    jobs = [job(0, 8.0, release_s=-20.0), job(1, 7.375, release_s=-10.0), job(2, 0.375, release_s=14.5)]
    found = medf(Moment(jobs, [], 1, 0.0), [3.5] * 3)
    assert isinstance(found, list)
    assert [one.job.id for one in found] == [0, 1, 2]


def test_a_relaxed_plan_that_is_not_found_falls_back_to_the_tight_one() -> None:
    # Feasibility is not monotone: at 1.1 S* the first job takes fewer processors, and that is one too few for all.
    jobs = [
        job(0, 4.0, 2.5, 1.5, release_s=-3.0),
        job(1, 6.0, 5.5, 4.5),
        job(2, 8.0, 7.0, 6.5, release_s=-3.0),
    ]
    stretch = best_stretch(jobs, [], 3, 0.0)
    assert isinstance(medf(Moment(jobs, [], 3, 0.0), [1.1 * stretch] * 3), int)
    assert shown(plan(jobs, [], 3, 0.0, rho=1.1)) == shown(plan(jobs, [], 3, 0.0, rho=1.0))


def test_lex_lowers_the_stretch_of_those_who_stand_in_nobodys_way() -> None:
    # A tiny job that has waited for 1000 times its run time sets S* to 1000 for the large one too.
    tiny, large = job("tiny", 1.0, release_s=-1000.0), linear("large", 1e5, 16)
    at_s_star = {one.job.id: one for one in plan([tiny, large], [], 16, 0.0, "dbos")}
    lex = {one.job.id: one for one in plan([tiny, large], [], 16, 0.0, "lex")}
    assert at_s_star["large"].processors == 1
    assert lex["large"].processors >= 10
    assert lex["tiny"].start_s == 0.0


def test_lex_with_all_jobs_pinned_is_still_a_plan() -> None:
    assert len(plan([linear("a", 5.0)], [], 4, 0.0, "lex")) == 1
    alike = [linear(at, 5.0) for at in range(3)]
    assert len(plan(alike, [], 2, 0.0, "lex", rho=1.0)) == 3


def test_iterative_gives_processors_where_they_gain_most_and_stops_at_a_step() -> None:
    assert shown(plan([linear("a", 8.0)], [], 4, 0.0, "iterative")) == [("a", 4, 0.0)]
    stepped = job("s", 8.0, 8.0, 2.0, 2.0)
    assert shown(plan([stepped], [], 4, 0.0, "iterative")) == [("s", 1, 0.0)]
    assert shown(plan([stepped], [], 4, 0.0, "improved-iterative")) == [("s", 3, 0.0)]
    # On two processors the first would end four seconds earlier, and the second four later: that is no smaller.
    jobs = [job("first", 8.0, 4.0, release_s=-1.0), job("second", 3.0)]
    assert shown(plan(jobs, [], 2, 0.0, "iterative")) == [("first", 1, 0.0), ("second", 1, 0.0)]
    # The second processor of the long job would make the short one wait for longer than it gains.
    jobs = [job("long", 10.0, 9.5, release_s=-1.0), job("short", 2.0, release_s=0.0)]
    assert shown(plan(jobs, [], 2, 0.0, "iterative")) == [("long", 1, 0.0), ("short", 1, 0.0)]


def test_backfilling_fills_holes_but_delays_nobody_who_came_first() -> None:
    jobs = [job("wide", 8.0, 4.0), job("narrow", 3.0, release_s=1.0), job("long", 5.0, release_s=2.0)]
    placed = shown(plan(jobs, [running(1, 13.0)], 2, 10.0, "iterative"))
    assert placed == [("narrow", 1, 10.0), ("wide", 2, 13.0), ("long", 1, 17.0)]


@pytest.mark.parametrize(
    ("waiting", "held", "cap", "started"),
    [
        (1, 0, None, [16]),
        (3, 0, None, [5, 5, 5]),
        (3, 10, None, [4, 2]),  # 16 // 4 each, and what is left
        (2, 0, 3, [3, 3]),
        (40, 0, None, [1] * 16),
        (2, 16, None, []),
    ],
)
def test_eq_spt_shares_equally_and_starts_the_shortest_first(
    waiting: int, held: int, cap: int | None, started: list[int]
) -> None:
    jobs = [linear(at, 100.0 - at, 16) for at in range(waiting)]
    busy = [running(held, 50.0)] if held else []
    placements = plan(jobs, busy, 16, 0.0, "eq-spt", cap=cap)
    assert [one.processors for one in placements] == started
    assert [one.job.id for one in placements] == list(range(waiting))[::-1][: len(started)]
    assert all(one.start_s == 0.0 for one in placements)


def test_eq_spt_takes_the_largest_useful_allotment_of_its_share() -> None:
    assert shown(plan([job("s", 8.0, 8.0, 2.0, 2.0)], [], 4, 0.0, "eq-spt")) == [("s", 3, 0.0)]
    assert shown(plan([job("s", 8.0, 8.0, 2.0, 2.0)], [running(2, 5.0)], 4, 0.0, "eq-spt")) == [("s", 1, 0.0)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_the_machine_and_the_cap(method: str) -> None:
    longer = linear("longer than the machine", 100.0, 64)
    (placed,) = plan([longer], [], 8, 5.0, method)
    assert placed.processors <= 8
    assert placed.start_s == 5.0
    (capped,) = plan([longer], [], 8, 5.0, method, cap=3)
    assert capped.processors <= 3
    assert plan([], [], 8, 0.0, method) == []


@pytest.mark.parametrize("method", [name for name in METHODS if name != "eq-spt"])
def test_what_is_still_to_come_starts_no_earlier(method: str) -> None:
    jobs = [linear("now", 8.0), linear("later", 4.0, release_s=3.5)]
    placed = {one.job.id: one.start_s for one in plan(jobs, [], 4, 0.0, method)}
    assert placed["now"] == 0.0
    assert placed["later"] >= 3.5
    assert plan(jobs[1:], [], 4, 0.0, "eq-spt") == []


def test_a_job_past_its_predicted_end_is_taken_to_need_a_fifth_of_its_time_more() -> None:
    overdue = running(2, 10.0)
    (placed,) = plan([linear("a", 4.0, 2)], [overdue], 2, 50.0)
    assert placed.start_s == pytest.approx(60.0)
    # One that should have ended this very moment holds its processors still.
    (placed,) = plan([linear("a", 4.0, 2)], [running(2, 50.0, start_s=50.0 - 1e-3)], 2, 50.0)
    assert placed.start_s > 50.0


def test_on_a_machine_that_has_shrunk_jobs_wait_until_enough_processors_are_free() -> None:
    busy = [running(6, 10.0), running(2, 20.0, name=-2)]
    for method in ("dbos", "lex", "iterative", "improved-iterative"):
        (placed,) = plan([linear("a", 8.0, 1)], busy, 4, 0.0, method)
        assert placed.start_s == 10.0
    assert plan([linear("a", 8.0, 1)], busy, 4, 0.0, "eq-spt") == []


def test_best_stretch_of_nothing_is_0_and_of_one_job_what_it_needs_alone() -> None:
    assert best_stretch([], [], 4, 0.0) == 0.0
    assert best_stretch([linear("a", 8.0)], [], 4, 0.0) == pytest.approx(0.25)
    assert best_stretch([linear("a", 8.0)], [], 4, 8.0) == pytest.approx(1.25)
    found = least_stretch(Moment([linear("a", 8.0), job("b", 2.0)], [], 4, 0.0), 1e-6)
    assert found.blocking == 1


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4, 1e-9])
def test_the_tolerance_is_kept(tol: float) -> None:
    for more_s in range(20):
        # Five jobs of which none sets the least stretch by itself.
        jobs = [linear(at, 8.0 + at + more_s / 7, 2) for at in range(5)]
        least = best_stretch(jobs, BUSY, 2, 0.0, 1e-13)
        assert least <= best_stretch(jobs, BUSY, 2, 0.0, tol) <= least + tol * max(1.0, least) + 1e-12


def test_times_may_be_those_of_a_clock() -> None:
    epoch = 1.7e9
    jobs = [MoldableJob(one.id, one.release_s + epoch, one.times) for one in EXAMPLE]
    busy = [one._replace(start_s=one.start_s + epoch) for one in BUSY]
    assert best_stretch(jobs, busy, 2, epoch, 1e-6) == pytest.approx(1.6, abs=1e-5)
    assert [one.start_s for one in plan(jobs[1:], [], 2, epoch)] == [epoch]


def test_a_sixteenth_of_the_machine_is_the_usual_cap() -> None:
    assert [usual_cap(processors) for processors in (1, 15, 16, 512)] == [1, 1, 1, 32]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "fcfs"},
            "method 'fcfs' is not known: take one of dbos, lex, iterative, improved-iterative, eq-spt",
        ),
        ({"rho": 0.9}, "rho must be at least 1, got 0.9"),
        ({"rho": math.nan}, "rho must be at least 1, got nan"),
        ({"processors": 0}, "processors must be a whole number of at least 1, got 0"),
        ({"processors": 2.5}, "processors must be a whole number of at least 1, got 2.5"),
        ({"cap": 0}, "cap must be a whole number of at least 1, got 0"),
        ({"rho": "a"}, "rho must be at least 1, got 'a'"),
        ({"rho": None}, "rho must be at least 1, got None"),
        ({"method": []}, "method [] is not known: take one of dbos, lex, iterative, improved-iterative, eq-spt"),
        ({"now_s": math.nan}, "now_s must be finite and below 1e+290, got nan"),
        ({"now_s": None}, "now_s must be a number, got None"),
        ({"running": [Placement(job("a", 9.0), 1, 0.0)]}, "two jobs have the id 'a'"),
        ({"running": [Placement(job("r", 9.0), 1, 0.0)] * 2}, "two jobs have the id 'r'"),
        (
            {"running": [Placement(job("r", 9.0, 5.0), 1.5, 0.0)]},  # type: ignore[arg-type]
            "processors of a running job must be a whole number of at least 1, got 1.5",
        ),
        (
            {"running": [Placement(job("r", 9.0), 1, math.inf)]},
            "start_s of a running job must be finite and below 1e+290, got inf",
        ),
        ({"jobs": [1]}, "jobs must be MoldableJobs, and what runs Placements: 'int' object has no attribute 'id'"),
        ({"jobs": [job("a", 1.0), job("a", 2.0)]}, "two jobs have the id 'a'"),
        (
            {"running": [Placement(job("r", 9.0), 2, 0.0)]},
            "running job 'r' holds 2 processors: that must be from 1 to 1, for which it has run times",
        ),
        (
            {"jobs": [job("a", 1.0), job(1, 2.0)]},
            "ids of jobs must be all numbers or all strings: ties are broken by their order",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    arguments = {"jobs": [job("a", 1.0)], "running": [], "processors": 4, "now_s": 0.0, **changes}
    with pytest.raises(BadInput) as caught:
        plan(**arguments)
    assert str(caught.value) == message


def test_a_tolerance_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="tol must be more than zero, got 0"):
        best_stretch([job("a", 1.0)], [], 4, 0.0, 0)
    with pytest.raises(BadInput, match="tol must be more than zero, got 'a'"):
        best_stretch([job("a", 1.0)], [], 4, 0.0, "a")  # type: ignore[arg-type]


def test_the_search_begins_from_what_the_running_jobs_leave_and_feasibility_is_not_monotone() -> None:
    # From 9/11, which job 1 needs, a plan is found at 1 only; from 5/11, as if nothing ran, it would be at 10/11.
    jobs = [job(0, 12.0, 11.0, 3.0, 1.0, release_s=-4.0), job(1, 11.0, 8.0, 5.0, 7.0)]
    busy = [running(3, 4.0, start_s=-1.0)]
    assert best_stretch(jobs, busy, 4, 0.0, 1e-9) == pytest.approx(1.0)
    assert isinstance(medf(Moment(jobs, busy, 4, 0.0), [10 / 11] * 2), list)
    assert isinstance(medf(Moment(jobs, busy, 4, 0.0), [0.95] * 2), int)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_the_tolerance_is_a_part_of_the_stretch_however_small_that_is(scale: float) -> None:
    # The measure scales every stretch, and nothing else.
    jobs = [MoldableJob(at, 0.0, [8.0 + at, 4.5 + at], (8.0 + at) / scale) for at in range(5)]
    least = best_stretch(jobs, BUSY, 2, 0.0, 1e-12)
    assert least <= best_stretch(jobs, BUSY, 2, 0.0, 1e-2) <= 1.0101 * least
    assert best_stretch(jobs, BUSY, 2, 0.0, 1e-2) > 1.00001 * least


def test_a_stretch_that_rounds_to_nothing_is_still_found() -> None:
    jobs = [MoldableJob(at, 0.0, [1e250, 1e-200]) for at in range(2)]
    assert len(plan(jobs, [], 2, 0.0, rho=1.0)) == 2


def test_what_runs_may_come_from_a_generator() -> None:
    placed = plan([linear(0, 4.0, 2), linear(1, 6.0, 2)], iter([running(2, 3.0)]), 2, 1.0)  # type: ignore[arg-type]
    assert all(one.start_s >= 3.0 for one in placed)
