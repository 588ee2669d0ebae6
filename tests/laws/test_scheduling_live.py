"""Any jobs on any workers: no more cores than there are, holes that exist, nothing left over; and nobody starves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper.scheduling import METHODS, MoldableJob
from shaper.scheduling.live import LiveJob, Sharing, Worker, budgets
from shaper.scheduling.measures import Fared
from shaper.simulation.live import Arrival, share
from tests.unit.scheduling_factory import linear

NOW = 100.0
TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=10)


@st.composite
def situations(draw: Any) -> tuple[list[LiveJob], list[Worker]]:
    sizes = draw(st.lists(st.integers(1, 12), max_size=4))
    left = list(sizes)
    jobs = []
    for at in range(draw(st.integers(0, 8))):
        release = draw(st.floats(0.0, NOW))
        job = MoldableJob(at, release, draw(TIMES))
        more: dict[str, Any] = {"known": draw(st.booleans()), "priority": draw(st.integers(0, 1))}
        one_task = draw(st.booleans())
        if one_task and left and max(left) and draw(st.booleans()):
            worker = draw(st.sampled_from([number for number, free in enumerate(left) if free]))
            more["cores"] = draw(st.integers(1, left[worker]))
            more["since_s"] = draw(st.floats(release, NOW))
            left[worker] -= more["cores"]
        elif not one_task:
            more["done"] = draw(st.floats(0.0, 1.0))
        jobs.append(LiveJob(job, one_task=one_task, **more))
    # Tasks of jobs that are cut may lie on the workers too.
    free = [draw(st.integers(0, mine)) for mine in left]
    return jobs, [Worker(size, mine) for size, mine in zip(sizes, free, strict=True)]


@given(situations(), st.sampled_from(list(METHODS)), st.none() | st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_budgets_keep_to_cores_holes_and_cap_and_leave_nothing_that_could_be_used(
    situation: tuple[list[LiveJob], list[Worker]], method: str, cap: int | None, random: Any
) -> None:
    jobs, workers = situation
    found = budgets(jobs, workers, NOW, Sharing(method, cap=cap))
    assert [one.id for one in found] == [one.job.id for one in jobs]
    machine = sum(worker.cores for worker in workers)
    assert sum(one.cores for one in found) <= machine
    limit = cap or max(1, machine // 16)
    holes = [worker.free for worker in workers]
    for job, one in zip(jobs, found, strict=True):
        assert one.reason
        assert 0 <= one.lent <= one.cores
        if job.stays:
            assert one.cores == job.cores
            continue
        assert one.cores - one.lent <= limit
        assert one.cores <= (len(job.job.times) if job.known else machine)
        assert one.lent == 0 or not job.one_task
        if job.one_task and one.cores:
            assert one.worker is not None
            holes[one.worker] -= one.cores
    assert min(holes, default=0) >= 0
    wanting = [
        job
        for job, one in zip(jobs, found, strict=True)
        if not job.one_task and one.cores < (job.job.allotments[-1] if job.known else machine)
    ]
    if wanting and all(not job.one_task or job.stays for job in jobs):
        assert sum(one.cores for one in found) == machine
    mixed = list(jobs)
    random.shuffle(mixed)
    assert sorted(budgets(mixed, workers, NOW, Sharing(method, cap=cap))) == sorted(found)


CORES = [4, 4]  # of the workers
SMALL_S = 20.0


def small(count: int, load: float) -> list[Arrival]:
    """Small jobs, so many that they alone would keep a part of the machine busy."""
    gap_s = SMALL_S / (load * sum(CORES))
    return [Arrival(linear(1 + at, SMALL_S, 8, at * gap_s)) for at in range(count)]


def stretches(found: Fared, serial_s: float) -> list[float]:
    """Of the jobs of one size."""
    return [float(s) for s, flow in zip(found.stretch, found.flow_s, strict=True) if abs(flow / s - serial_s) < 1e-6]


@pytest.mark.parametrize("method", ["eq-spt", "dbos"])
@pytest.mark.parametrize("one_task", [False, True])
def test_a_huge_job_in_an_endless_stream_of_small_ones_ends(method: str, one_task: bool) -> None:
    stream = small(240, load=1.2)  # for 500 s more than the machine can do
    huge = Arrival(linear(0, 150.0, 8, 10.0), one_task=one_task)
    (stretch,) = stretches(share([huge, *stream], CORES, Sharing(method)), 150.0)
    assert stretch <= 2.2  # late after 1, and from then on no slower than on one core


@pytest.mark.parametrize("method", ["eq-spt", "dbos"])
def test_small_jobs_behind_many_huge_ones_do_not_wait_for_their_ends(method: str) -> None:
    huge = [Arrival(linear(1000 + at, 5000.0, 8)) for at in range(16)]  # twice as many as there are cores
    found = stretches(share([*huge, *small(100, load=0.3)], CORES, Sharing(method)), SMALL_S)
    assert len(found) == 100
    assert max(found) <= 2.0
