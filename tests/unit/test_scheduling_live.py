"""The cores that each job may use now: shares, plans, holes on workers, loans, probes, priorities, late jobs."""

from __future__ import annotations

from typing import Any

import pytest

from shaper.errors import BadInput
from shaper.scheduling import JobId, MoldableJob
from shaper.scheduling.live import Budget, LiveJob, Sharing, Worker, budgets
from tests.unit.scheduling_factory import job, linear

WIDE = Sharing(cap=64)


def cut(name: JobId, serial_s: float = 1000.0, processors: int = 64, release_s: float = 0.0, **more: Any) -> LiveJob:
    return LiveJob(linear(name, serial_s, processors, release_s), **more)


def whole(name: JobId, serial_s: float = 1000.0, processors: int = 64, release_s: float = 0.0, **more: Any) -> LiveJob:
    return cut(name, serial_s, processors, release_s, one_task=True, **more)


def runs(name: JobId, cores: int, serial_s: float = 1000.0, since_s: float = 0.0) -> LiveJob:
    return whole(name, serial_s, cores=cores, since_s=since_s)


def idle(*cores: int) -> list[Worker]:
    return [Worker(mine, mine) for mine in cores]


def cores(found: list[Budget]) -> dict[JobId, int]:
    return {one.id: one.cores for one in found}


def test_one_job_gets_its_capped_share_and_is_lent_the_rest() -> None:
    (found,) = budgets([cut("a")], idle(32, 32), 0.0)
    assert (found.cores, found.lent) == (64, 60)
    assert found.reason == "an equal share of 64 cores; jobs: 1; 60 that nobody waits for are lent"
    assert budgets([cut("a", processors=6)], idle(32, 32), 0.0)[0].cores == 6  # more are of no use to it


def test_jobs_share_equally_and_loans_go_to_those_who_can_use_them() -> None:
    jobs = [cut("a", processors=3), cut("b"), cut("c"), cut("d")]
    assert cores(budgets(jobs, idle(64), 0.0, WIDE)) == {"a": 3, "b": 21, "c": 20, "d": 20}
    assert cores(budgets(jobs, idle(64), 0.0)) == {"a": 3, "b": 21, "c": 20, "d": 20}


def test_the_shortest_are_first_where_there_are_fewer_cores_than_jobs() -> None:
    jobs = [cut("long", 900.0), cut("short", 100.0), cut("middle", 500.0)]
    found = budgets(jobs, idle(2), 0.0)
    assert cores(found) == {"long": 0, "short": 1, "middle": 1}
    assert found[0].reason == "waits: all cores are given to others"


def test_what_is_shorter_than_the_floor_is_not_shorter_than_others_of_its_kind() -> None:
    jobs = [cut("tiny", 0.1, release_s=-1.0), cut("small", 9.0, release_s=-2.0)]
    assert cores(budgets(jobs, idle(1), 0.0)) == {"tiny": 0, "small": 1}
    assert cores(budgets(jobs, idle(1), 0.0, Sharing(floor_s=1.5))) == {"tiny": 1, "small": 0}
    # Nor does it set the stretch of all: a tiny job that has waited a little would leave the large one on one core.
    jobs = [whole("tiny", 0.01, release_s=-0.009), whole("large", 1e4)]
    floored = budgets(jobs, idle(64), 0.0, Sharing("dbos", cap=64))
    assert cores(floored)["large"] > 1
    assert cores(budgets(jobs, idle(64), 0.0, Sharing("dbos", cap=64, floor_s=1e-3)))["large"] == 1


def test_one_task_gets_no_more_than_the_cap_and_the_largest_worker() -> None:
    assert cores(budgets([whole("a")], idle(*[8] * 8), 0.0, WIDE)) == {"a": 8}
    assert cores(budgets([whole("a")], idle(*[8] * 8), 0.0)) == {"a": 4}
    # A plan does not count with more than a worker has: on 8 cores they would run one after the other.
    stepped = [LiveJob(MoldableJob(name, 0.0, [80.0] * 7 + [10.0]), one_task=True) for name in "ab"]
    assert cores(budgets(stepped, idle(4, 4), 0.0, Sharing("dbos", cap=64, rho=1.0))) == {"a": 1, "b": 1}


def test_one_task_takes_the_smallest_hole_that_is_large_enough() -> None:
    workers = [Worker(16, 16), Worker(16, 5), Worker(16, 4), Worker(16, 3)]
    (found,) = budgets([whole("a", processors=4)], workers, 0.0, WIDE)
    assert (found.cores, found.worker) == (4, 2)
    first, second = budgets([whole("a", processors=4), whole("b", processors=4)], workers, 0.0, WIDE)
    assert (first.worker, second.worker) == (2, 1)


def test_one_task_shrinks_to_a_hole_of_at_least_half_and_else_waits_for_its_cores() -> None:
    (shrunk,) = budgets([whole("a", processors=8)], [Worker(8, 4), Worker(8, 3)], 0.0, WIDE)
    assert (shrunk.cores, shrunk.worker) == (4, 0)
    stepped = LiveJob(MoldableJob("a", 0.0, [8.0, 8.0, 4.0, 4.0, 4.0, 2.0]), one_task=True)
    assert cores(budgets([stepped], [Worker(8, 5)], 0.0, WIDE)) == {"a": 3}
    waiting, other = budgets([whole("a", processors=8), cut("b")], [Worker(8, 3), Worker(8, 3)], 0.0, WIDE)
    assert (waiting.cores, waiting.reason) == (0, "waits for 8 cores on one worker; there are 3")
    assert other.cores == 8  # the other 8 are not lent while the first waits for them
    assert budgets([whole("a", processors=8)], [Worker(8, 0)], 0.0, WIDE)[0].cores == 0


def test_one_task_that_runs_keeps_its_cores_and_counts_as_a_job() -> None:
    found = budgets([runs("r", 8), cut("a"), cut("b")], [Worker(32, 24)], 0.0, WIDE)
    assert cores(found) == {"r": 8, "a": 12, "b": 12}
    assert found[0].reason == "keeps its cores to its end"
    assert [one.cores - one.lent for one in found] == [8, 10, 10]


def test_a_job_of_which_nothing_is_known_is_probed_before_all_others() -> None:
    jobs = [cut("a", 20.0), cut("new", 1e9, known=False), whole("new too", known=False, processors=8)]
    found = budgets(jobs, idle(2), 0.0)
    assert cores(found) == {"a": 0, "new": 1, "new too": 1}
    assert found[1].reason == "a probe: nothing is known of its run time yet"
    assert cores(budgets(jobs, idle(2), 0.0, Sharing("dbos"))) == {"a": 0, "new": 1, "new too": 1}
    assert cores(budgets(jobs[1:2], idle(16), 0.0)) == {"new": 16}  # of which 15 are lent


@pytest.mark.parametrize("method", ["eq-spt", "dbos", "lex", "iterative"])
def test_a_higher_priority_is_served_first(method: str) -> None:
    jobs = [cut("a", 100.0), cut("b", 1e5, priority=1), cut("c", 100.0)]
    assert cores(budgets(jobs, idle(1), 0.0, Sharing(method))) == {"a": 0, "b": 1, "c": 0}


def test_of_the_late_jobs_the_one_that_should_have_ended_first_goes_before_the_shorter_ones() -> None:
    jobs = [
        cut("short", 50.0, release_s=190.0),
        cut("late", 100.0, release_s=99.0),
        cut("later", 80.0, release_s=119.5),
        cut("not late", 120.0, release_s=85.0),
    ]
    found = budgets(jobs, idle(1), 200.0)
    assert cores(found) == {"short": 0, "late": 1, "later": 0, "not late": 0}
    assert found[1].reason == "the job that is late for longest"
    assert cores(budgets(jobs, idle(2), 200.0)) == {"short": 1, "late": 1, "later": 0, "not late": 0}
    assert cores(budgets(jobs, idle(1), 199.0))["short"] == 1  # when nobody is late yet
    # One that is late takes what hole there is.
    late = whole("late", 100.0, release_s=0.0)
    assert cores(budgets([late], [Worker(64, 1), Worker(64, 2)], 99.0, WIDE)) == {"late": 0}
    assert cores(budgets([late], [Worker(64, 1), Worker(64, 2)], 101.0, WIDE)) == {"late": 2}


def test_plans_count_with_the_rest_of_jobs_and_with_tasks_that_are_overdue() -> None:
    deadline = Sharing("dbos", cap=8, rho=1.0)
    # On one core the job would take 80 s more; of its half, 40 s are left.
    begun = cut("a", 80.0, 8, done=0.5)
    other = whole("b", 80.0, 1, release_s=40.0)
    whole_job = budgets([cut("a", 80.0, 8), other], idle(8), 40.0, deadline)
    half = budgets([begun, other], idle(8), 40.0, deadline)
    assert whole_job[0].cores - whole_job[0].lent == 2  # due at 40 + 80 * 1.0: 80 s on 2 cores
    assert half[0].cores - half[0].lent == 1
    # The task has run for 100 s of a predicted 10: it is taken to need 20 more, and the next one waits for its core.
    overdue, waiting = runs("r", 1, 10.0, since_s=0.0), whole("w", 1e4, 1, release_s=100.0)
    found = budgets([overdue, waiting], [Worker(1, 0)], 100.0, Sharing("dbos"))
    assert found[1].reason == "planned to start in 20 s"
    # So has one of which nothing is known, and one with more cores than were foreseen.
    for odd in (
        LiveJob(job("r", 1e6), known=False, one_task=True, cores=1, since_s=0.0),
        LiveJob(job("r", 1e6), one_task=True, cores=2, since_s=0.0),
    ):
        found = budgets([odd, waiting], [Worker(odd.cores, 0)], 100.0, Sharing("dbos"))
        assert found[1].reason == "planned to start in 20 s"


@pytest.mark.parametrize("method", ["eq-spt", "dbos"])
def test_without_workers_or_with_fewer_than_before_jobs_wait(method: str) -> None:
    assert budgets([], idle(4), 0.0, Sharing(method)) == []
    assert cores(budgets([cut("a"), whole("b"), cut("c", known=False)], [], 0.0, Sharing(method))) == {
        "a": 0,
        "b": 0,
        "c": 0,
    }
    found = budgets([runs("r", 8), cut("a"), whole("b")], [Worker(4, 4)], 0.0, Sharing(method))
    assert cores(found) == {"r": 8, "a": 0, "b": 0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cut("a", cores=-1), "job 'a': cores must be at least 0, got -1"),
        (lambda: cut("a", done=1.5), "job 'a': done must be from 0 to 1, got 1.5"),
        (lambda: whole("a", cores=2), "job 'a': its one task runs, so since_s must say since when"),
        (lambda: Sharing("fcfs"), "method 'fcfs' is not known: take one of "),
        (lambda: Sharing(rho=0.5), "rho must be at least 1, got 0.5"),
        (lambda: Sharing(cap=0), "cap must be a whole number of at least 1, got 0"),
        (lambda: Sharing(floor_s=0.0), "floor_s must be positive and below 1e+290, got 0.0"),
        (lambda: budgets([], [Worker(4, 5)], 0.0), "a worker has 4 cores, so 0 to that many may be free, got 5"),
        (lambda: budgets([cut("a"), whole("a")], idle(4), 0.0), "two jobs have the id 'a'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert str(caught.value).startswith(message)
