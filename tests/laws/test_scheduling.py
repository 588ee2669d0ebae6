"""Schedules of any jobs: within the machine, after the release, on useful allotments; and as the papers' rules say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper.scheduling import METHODS, JobId, MoldableJob, Placement, best_stretch, plan, simulate
from shaper.scheduling.backfill import Backfill
from shaper.scheduling.medf import medf
from shaper.scheduling.moment import Moment, remaining_s
from shaper.scheduling.profile import Profile
from tests.unit import scheduling_factory as plain
from tests.unit.scheduling_factory import Booked, booked, peak, shown, useful

NOW = 20.0


@dataclass(frozen=True)
class Case:
    jobs: list[MoldableJob]
    running: list[Placement]
    processors: int
    cap: int | None

    @property
    def taken(self) -> Booked:
        return [(NOW, NOW + remaining_s(one, NOW), one.processors) for one in self.running]


# Eighths add up exactly, so that the plain rules and the fast ones see the same ties.
TIME = st.integers(1, 160).map(lambda n: n / 8)
RELEASE = st.integers(0, 320).map(lambda n: n / 8)  # before and after NOW
TABLE = st.lists(TIME, min_size=1, max_size=7)  # with steps, humps, and larger than the machine
FALLING = TABLE.map(lambda times: sorted(times, reverse=True))


@st.composite
def cases(draw: Any, most: int = 6) -> Case:
    processors = draw(st.integers(1, 5))
    tables = draw(st.lists(TABLE | FALLING, min_size=1, max_size=most))
    jobs = [MoldableJob(at, draw(RELEASE), times) for at, times in enumerate(tables)]
    running, free = [], processors
    for at in range(draw(st.integers(0, 3))):
        held = draw(st.integers(1, processors))
        if held <= free:
            # Predicted to end before or after NOW: some are overdue.
            job = MoldableJob(-1 - at, 0.0, [draw(TIME)] * held)
            running.append(Placement(job, held, draw(st.integers(0, 160)) / 8))
            free -= held
    return Case(jobs, running, processors, draw(st.none() | st.integers(1, 6)))


@given(cases(), st.sampled_from(list(METHODS)), st.sampled_from([1.0, 1.1, 1.5, 3.0]))
@settings(max_examples=150)
def test_plans_keep_to_machine_releases_cap_and_useful_allotments(case: Case, method: str, rho: float) -> None:
    placements = plan(case.jobs, case.running, case.processors, NOW, method, rho, case.cap)
    assert peak([*case.taken, *booked(placements)]) <= case.processors
    assert all(one.start_s >= max(NOW, one.job.release_s) for one in placements)
    limit = min(case.processors, case.cap or case.processors)
    assert all(one.processors in useful(one.job, limit) for one in placements)
    ids = [one.job.id for one in placements]
    assert len(ids) == len(set(ids))
    if method == "eq-spt":
        assert all(one.start_s == NOW for one in placements)
        left = [one for one in case.jobs if one.id not in ids and one.release_s <= NOW]
        free = case.processors - sum(one.processors for one in [*case.running, *placements])
        assert not left or free == 0
    else:
        assert sorted(ids) == [one.id for one in case.jobs]


@given(cases(), st.integers(2, 40))
@settings(max_examples=150)
def test_medf_is_the_rule_of_the_paper(case: Case, eighths: int) -> None:
    stretch = eighths / 8
    expected = plain.medf(case.jobs, case.taken, case.processors, NOW, stretch, case.cap)
    found = medf(Moment(case.jobs, case.running, case.processors, NOW, case.cap), [stretch] * len(case.jobs))
    assert (None if isinstance(found, int) else shown(found)) == expected


def long_queue(seed: int, count: int, since_s: int = 0) -> list[MoldableJob]:
    """Jobs of very different sizes, so that gaps which tiny ones leave are of no use to large ones."""
    rng = np.random.default_rng(seed)
    return [
        MoldableJob(at, float(rng.integers(since_s, 41)), rng.lognormal(3.0, 2.0) / np.arange(1, 25) ** 0.8)
        for at in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_long_queue_is_planned_by_the_rules_of_the_papers_too(seed: int) -> None:
    jobs = long_queue(seed, 70)
    stretch = best_stretch(jobs, [], 24, 40.0)
    for factor in (1.0, 1.05):
        expected = plain.medf(jobs, [], 24, 40.0, factor * stretch)
        found = medf(Moment(jobs, [], 24, 40.0), [factor * stretch] * len(jobs))
        assert (None if isinstance(found, int) else rounded(shown(found))) == (expected and rounded(expected))


def rounded(plan: list[tuple[JobId, int, float]]) -> list[tuple[JobId, int, float]]:
    return [(name, processors, round(start, 6)) for name, processors, start in plan]


@pytest.mark.parametrize("method", ["dbos", "lex", "iterative"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_forgotten_of_a_long_queue_changes_no_plan(
    method: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = long_queue(seed, 300 if method != "iterative" else 110, since_s=40)
    swept = []
    sweep = Profile.sweep

    def watched(self: Profile, least_work_s: float) -> None:
        before = len(self.times)
        sweep(self, least_work_s)
        swept.append(before - len(self.times))

    monkeypatch.setattr(Profile, "sweep", watched)
    with_sweeps = plan(jobs, [], 24, 40.0, method, rho=1.0)
    assert sum(swept) > 0
    monkeypatch.setattr(Profile, "sweep", lambda self, least_work_s: None)
    assert plan(jobs, [], 24, 40.0, method, rho=1.0) == with_sweeps
    # Nor do the profiles that backfilling keeps along the queue.
    for kept in (1, 10**9):
        monkeypatch.setattr("shaper.scheduling.backfill._KEPT", kept)
        assert method != "iterative" or plan(jobs, [], 24, 40.0, method) == with_sweeps


@given(cases())
@settings(max_examples=100)
def test_medf_meets_every_deadline_and_never_moves_what_is_placed(case: Case) -> None:
    stretch = 1.01 * best_stretch(case.jobs, case.running, case.processors, NOW)
    moment = Moment(case.jobs, case.running, case.processors, NOW)
    found = medf(moment, [stretch] * len(case.jobs))
    if isinstance(found, int):
        return  # feasibility is not monotone
    due = {one.id: one.release_s + stretch * one.serial_s for one in case.jobs}
    assert all(one.end_s <= due[one.job.id] * (1 + 1e-9) for one in found)
    order = [one.job for one in found]
    assert order == sorted(order, key=lambda one: (due[one.id], one.id))
    for count in range(1, len(order)):
        fewer = medf(Moment(order[:count], case.running, case.processors, NOW), [stretch] * count)
        assert fewer == found[:count]


@given(cases(most=3))
@settings(max_examples=60)
def test_s_star_is_never_below_the_optimum(case: Case) -> None:
    optimum = plain.best_max_stretch(case.jobs, case.taken, case.processors, NOW)
    found = best_stretch(case.jobs, case.running, case.processors, NOW, 1e-6)
    assert found >= optimum * (1 - 1e-9)
    assert found <= 4 * optimum  # MEDF is a heuristic; the worst that random instances have shown is 1.3


@given(st.floats(0.001, 1e6), st.floats(0.0, 1e6), st.floats(0.01, 1.0))
def test_a_job_alone_has_the_stretch_it_needs_to_the_last_digit(serial_s: float, age_s: float, part: float) -> None:
    one = MoldableJob(0, -age_s, [serial_s, part * serial_s])
    soonest_s = min(one.times)
    assert best_stretch([one], [], 2, 0.0) == (age_s + soonest_s) / serial_s  # no rounding makes it miss its deadline


@given(cases())
def test_lex_keeps_the_largest_stretch_at_s_star(case: Case) -> None:
    stretch = best_stretch(case.jobs, case.running, case.processors, NOW)
    placements = plan(case.jobs, case.running, case.processors, NOW, "lex", rho=1.0)
    assert max((one.end_s - one.job.release_s) / one.job.serial_s for one in placements) <= stretch * (1 + 1e-9)


@given(cases(most=4), st.booleans())
@settings(max_examples=60)
def test_iterative_is_the_rule_of_its_paper(case: Case, improved: bool) -> None:
    method = "improved-iterative" if improved else "iterative"
    expected = plain.iterative(case.jobs, case.taken, case.processors, NOW, improved=improved)
    found = plan(case.jobs, case.running, case.processors, NOW, method)
    assert sorted(shown(found)) == sorted(expected)


@given(cases())
def test_backfilling_delays_nobody_who_came_first(case: Case) -> None:
    backfill = Backfill(Moment(case.jobs, case.running, case.processors, NOW))
    starts = [one.start_s for one in backfill.plan()]
    assert starts == plain.backfilled(backfill.jobs, [1] * len(starts), case.taken, case.processors, NOW)


@given(
    cases(most=12),
    st.sampled_from(list(METHODS)),
    st.sampled_from(["events", "arrivals"]),
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.0, 2.0, 4.0]), min_size=12, max_size=12),
)
@settings(max_examples=120)
def test_in_a_simulation_every_job_runs_once_and_nothing_overlaps(
    case: Case, method: str, replan: Any, factors: list[float]
) -> None:
    slowdown = {one.id: factor for one, factor in zip(case.jobs, factors, strict=False)}
    found = simulate(case.jobs, case.processors, method, cap=case.cap, replan=replan, slowdown=slowdown)
    assert sorted(one.job.id for one in found.placements) == [one.id for one in case.jobs]
    taken = [(one.start_s, found.ends_s[one.job.id], one.processors) for one in found.placements]
    assert peak(taken) <= case.processors
    limit = min(case.processors, case.cap or case.processors)
    for one in found.placements:
        spent = one.duration_s * slowdown[one.job.id]
        assert one.start_s >= one.job.release_s
        assert found.ends_s[one.job.id] == one.start_s + spent
        assert one.processors in useful(one.job, limit)
        assert found.flow[one.job.id] >= spent * (1 - 1e-12)
