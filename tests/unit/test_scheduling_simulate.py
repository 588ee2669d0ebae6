"""Whole traces in virtual time, and what is measured of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shaper.errors import BadInput
from shaper.scheduling import METHODS, MoldableJob, simulate
from shaper.scheduling.live import Sharing
from shaper.scheduling.measures import (
    DOWNEY_CLASSES_S,
    Fared,
    by_class,
    ranks_below,
    summary,
)
from shaper.simulation.live import Arrival, kinds, mispredicted, share
from shaper.simulation.moldable import LOADS, Rule, downey_jobs, mapping_jobs
from shaper.simulation.swf import Record
from tests.unit.scheduling_factory import booked, job, linear, offered_load, peak, shown


def test_the_adversary_starts_a_small_job_right_after_a_large_one_has_the_machine() -> None:
    jobs = [linear("large", 1e6, 64), linear("small", 1.0, 64, release_s=1e-3)]
    took_all = simulate(jobs, 64, "dbos", rho=1.0)
    assert took_all.stretch["small"] > 1e4  # and so much as one likes, with a larger large job
    # What is relaxed leaves processors free, and so does a cap.
    assert simulate(jobs, 64, "dbos", rho=1.5).stretch["small"] < 1.0
    assert simulate(jobs, 64, "dbos", rho=1.0, cap=16).stretch["small"] < 1.0


def test_flow_and_stretch_are_counted_from_the_release() -> None:
    jobs = [job("first", 4.0, release_s=1.0), job("second", 2.0, release_s=3.0)]
    found = simulate(jobs, 1, "iterative")
    assert shown(found.placements) == [("first", 1, 1.0), ("second", 1, 5.0)]
    assert found.ends_s == {"first": 5.0, "second": 7.0}
    assert found.flow == {"first": 4.0, "second": 4.0}
    assert found.stretch == {"first": 1.0, "second": 2.0}


def test_the_plan_is_made_anew_at_a_completion_or_only_at_arrivals() -> None:
    # The running job ends far earlier than predicted: who plans at completions starts the next one then.
    jobs = [job("first", 10.0), job("second", 5.0, release_s=1.0)]
    early = {"first": 0.3}
    assert simulate(jobs, 1, "dbos", slowdown=early).ends_s["second"] == 8.0
    assert simulate(jobs, 1, "dbos", slowdown=early, replan="arrivals").ends_s["second"] == 15.0
    # What has passed its time starts as soon as there is room, without being planned again.
    late = {"first": 2.0}
    assert simulate(jobs, 1, "dbos", slowdown=late, replan="arrivals").ends_s["second"] == 25.0
    assert simulate(jobs, 1, "dbos", slowdown=late).stretch["first"] == 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("replan", ["events", "arrivals"])
def test_every_job_runs_once_within_the_machine(method: str, replan: Any) -> None:
    rng = np.random.default_rng(3)
    jobs = []
    for at in range(40):
        times = rng.uniform(1.0, 50.0) / np.arange(1, 13) ** rng.uniform(0.2, 1.0) * rng.uniform(1.0, 1.3, 12)
        jobs.append(MoldableJob(at, float(rng.integers(0, 40)), times))  # some at the same moment, tables with humps
    wrong = dict(enumerate(rng.lognormal(0.0, 0.7, 40).tolist()))
    for slowdown in ({}, wrong):
        found = simulate(jobs, 8, method, replan=replan, slowdown=slowdown)
        assert sorted(one.job.id for one in found.placements) == list(range(40))
        assert all(one.start_s >= one.job.release_s for one in found.placements)
        taken = [(one.start_s, found.ends_s[one.job.id], one.processors) for one in found.placements]
        assert peak(taken) <= 8
        if not slowdown:
            assert taken == booked(found.placements)


def test_the_same_jobs_make_the_same_schedule_in_whatever_order_they_are_given() -> None:
    jobs = mapping_jobs(60, 1, 32, count=30)
    for method in METHODS:
        assert simulate(jobs, 32, method) == simulate(jobs[::-1], 32, method)


def test_a_trace_without_jobs_is_a_schedule_without_placements() -> None:
    assert simulate([], 4).placements == ()
    with pytest.raises(BadInput, match="there are no jobs to measure"):
        summary(Fared.of(simulate([], 4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replan": "never"}, "replan must be 'events' or 'arrivals', got 'never'"),
        ({"slowdown": {"a": 0.0}}, "slowdown of job 'a' must be positive and below 1e+290, got 0.0"),
        ({"slowdown": {"a": math.inf}}, "slowdown of job 'a' must be positive and below 1e+290, got inf"),
        ({"slowdown": {"a": "x"}}, "slowdown of job 'a' must be positive and below 1e+290, got 'x'"),
        ({"jobs": [job("a", 1.0), job("a", 2.0, release_s=9.0)]}, "two jobs have the id 'a'"),
        ({"processors": 0}, "processors must be a whole number of at least 1, got 0"),
        ({"method": "best"}, "method 'best' is not known: take one of"),
    ],
)
def test_what_cannot_be_simulated_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        simulate(**{"jobs": [job("a", 1.0)], "processors": 2, **changes})
    assert str(caught.value).startswith(message)


def test_measures_pool_schedules() -> None:
    one = simulate([job(0, 4.0), job(1, 4.0)], 1, "iterative")
    other = simulate([job(0, 40.0)], 1, "iterative")
    found = summary(Fared.of(one, other))
    assert (found.jobs, found.average_stretch, found.max_stretch) == (3, pytest.approx(4 / 3), 2.0)
    assert (found.share_above_1, found.average_flow_s, found.max_flow_s) == (pytest.approx(1 / 3), 52 / 3, 40.0)
    pooled = Fared.pooled([Fared.of(one), Fared.of(other)])
    assert sorted(pooled.stretch) == [1.0, 1.0, 2.0]
    assert sorted(pooled.flow_s) == [4.0, 8.0, 40.0]


def test_fairness_is_by_classes_of_run_time_on_one_processor() -> None:
    jobs = [job(at, serial_s) for at, serial_s in enumerate((0.5, 16.0, 17.0, 2e6))]
    classes = by_class(Fared.of(simulate(jobs, 1, "iterative")), DOWNEY_CLASSES_S)
    assert [one.name for one in classes] == ["1-16", "16-256", "256-4K", "4K-64K", "64K-1M", "> 1M"]
    assert [one.jobs for one in classes] == [1, 2, 0, 0, 0, 1]
    assert [one.share_above_1 for one in classes] == [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def test_a_short_run_late_on_a_clock_has_its_flow_and_its_class() -> None:
    found = simulate([job("short", 1e-9, release_s=1e12), job("slow", 5.0)], 2, slowdown={"slow": 4.0})
    assert found.flow == {"slow": 20.0, "short": 1e-9}
    assert found.stretch == {"slow": 1.0, "short": 1.0}
    classes = by_class(Fared.of(found), DOWNEY_CLASSES_S)
    assert [one.jobs for one in classes] == [1, 1, 0, 0, 0, 0]


def test_curves_are_compared_rank_by_rank() -> None:
    assert ranks_below(np.array([3.0, 1.0, 9.0, 0.5]), np.array([2.0, 2.0, 2.0, 10.0])) == 0.75


def test_made_up_jobs_keep_as_many_processors_busy_as_was_asked_for() -> None:
    for low, high in LOADS:
        assert low <= offered_load(mapping_jobs((low + high) / 2, 0, count=1000)) <= high
    arrivals = kinds(300, 0, 64, 900)
    assert offered_load([one.job for one in arrivals]) == pytest.approx(300, rel=0.02)
    assert [one.one_task for one in arrivals[:6]] == [False, False, True] * 2
    work_s = [sum(one.job.serial_s for one in arrivals[at::3]) for at in range(3)]
    assert work_s[0] == pytest.approx(work_s[2], rel=0.4)
    with pytest.raises(BadInput, match="load and number of jobs must be more than zero and finite"):
        kinds(0, 0, 64, 900)


def test_a_traces_jobs_do_the_work_they_did_and_become_no_slower_with_more_processors() -> None:
    records = [
        Record(1, 0.0, 100.0, 4),
        Record(2, 5.0, None, 4),
        Record(3, 6.0, 0.0, 4),
        Record(4, 7.0, 10.0, 400),
        Record(5, 8.0, 10.0, None),
        Record(6, 9.0, 1.0, 1),
    ]
    jobs = downey_jobs(records, 0, 32, count=5)
    assert [(one.id, one.release_s, one.serial_s) for one in jobs] == [(1, 0.0, 400.0), (4, 7.0, 4000.0)]
    assert all(len(one.times) == 32 and (np.diff(one.times) <= 1e-9).all() for one in jobs)
    assert downey_jobs(records, 1, 32)[0] != jobs[0]
    assert downey_jobs(records, 0, 32, count=5) == jobs
    with pytest.raises(BadInput, match="no job of the trace has both a run time and a number of processors"):
        downey_jobs(records[1:3], 0)


@pytest.mark.parametrize(
    ("text", "rule", "shown_as"),
    [
        ("dbos", Rule("dbos"), "dbos 1.5"),
        ("lex:1.1:32", Rule("lex", 1.1, 32), "lex 1.1, cap 32"),
        ("eq-spt::4", Rule("eq-spt", 1.5, 4), "eq-spt, cap 4"),
    ],
)
def test_rules_are_written_as_method_rho_and_cap(text: str, rule: Rule, shown_as: str) -> None:
    assert Rule.parse(text) == rule
    assert str(rule) == shown_as


@pytest.mark.parametrize("text", ["", "best", "dbos:x", "dbos:1:2.5", "dbos:1:2:3"])
def test_rules_that_are_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"write METHOD\[:RHO\[:CAP\]\]"):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dbos:nan", "rho must be at least 1, got nan"),
        ("lex:0.5", "rho must be at least 1, got 0.5"),
        ("dbos::0", "cap must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_of_rules_are_checked_before_anything_is_simulated(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Rule.parse(text)


def test_jobs_that_share_workers_run_as_long_as_their_cores_make_them() -> None:
    # A cap of 4 on 8 cores, and all that is left is lent: 80 s on 8 cores, until b comes and takes half of them.
    a, b = linear("a", 80.0, 8), linear("b", 20.0, 8, release_s=5.0)
    found = share([Arrival(a), Arrival(b)], [4, 4], Sharing(cap=4))
    # b: 20 s on 4 cores. a: half of it in 5 s, a quarter in the next 5, and the last one on 8 cores in 2.5.
    assert found.flow_s.tolist() == pytest.approx([5.0, 12.5])
    assert found.stretch.tolist() == pytest.approx([5.0 / 20.0, 12.5 / 80.0])
    # As one task a keeps its four to its end; b is lent none of them.
    found = share([Arrival(a, one_task=True), Arrival(b)], [4, 4], Sharing(cap=4))
    assert found.flow_s.tolist() == pytest.approx([5.0, 20.0])
    # Predictions that are off do not change how long a job runs.
    for factor in (0.1, 10.0):
        (flow_s,) = share([Arrival(a, one_task=True, factor=factor)], [4, 4], Sharing(cap=4)).flow_s
        assert flow_s == pytest.approx(20.0)


def test_predictions_are_off_by_log_normal_factors_that_the_seed_gives() -> None:
    arrivals = kinds(300, 0, 8, 2000)
    assert [one.factor for one in mispredicted(arrivals, 0.0, 1)] == [1.0] * 2000
    off = mispredicted(arrivals, 0.5, 1)
    assert np.log([one.factor for one in off]).std() == pytest.approx(0.5, rel=0.05)
    assert mispredicted(arrivals, 0.5, 1) == off
    assert mispredicted(arrivals, 0.5, 2) != off
