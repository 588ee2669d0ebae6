"""When workers are started and let go: within bounds, settled when what is wanted is steady, not swinging with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import BadInput
from shaper.policy.scaling import Bounds, Memory, Need, Seen, Step, decide, need
from shaper.policy.wanted import Tasks, Wanted

TURN_S = 2.0


@dataclass
class Cluster:
    """Workers that queue for a while, then run, and go when they may and `idle` says so."""

    bounds: Bounds
    queue_s: float = 0.0
    idle: bool = True
    now_s: float = 0.0
    running: int = 0
    queued: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    failed: int = 0
    steps: list[Step] = field(default_factory=list)

    def turn(self, wanted: Need | None) -> Step:
        come = [at_s for at_s in self.queued if at_s + self.queue_s <= self.now_s]
        self.queued = self.queued[len(come) :]
        self.running += len(come)
        seen = Seen(self.now_s, self.running, len(self.queued), 5.0 + self.queue_s, self.failed)
        step, self.memory = decide(wanted, seen, self.bounds, self.memory)
        self.failed = 0
        self.queued = self.queued[: len(self.queued) - step.cancel] + [self.now_s] * step.start
        if step.keep is not None and self.idle:
            self.running = min(self.running, step.keep)
        self.now_s += TURN_S
        self.steps.append(step)
        return step

    @property
    def here(self) -> int:
        return self.running + len(self.queued)


bounds = st.tuples(st.integers(0, 5), st.integers(1, 30)).map(lambda pair: Bounds(min(pair), pair[1]))
needs = (
    st.builds(Need, st.integers(0, 60), st.none() | st.floats(0.0, 1e5, allow_nan=False), st.just("tasks")) | st.none()
)


@given(bounds, st.floats(0.0, 900.0), st.lists(needs, max_size=80), st.booleans())
def test_there_are_never_more_workers_than_allowed_nor_fewer_than_asked_for(
    within: Bounds, queue_s: float, wanted: list[Need | None], idle: bool
) -> None:
    cluster = Cluster(within, queue_s, idle)
    for one in wanted:
        step = cluster.turn(one)
        assert within.least <= cluster.here <= within.most
        assert within.least <= step.wanted <= within.most
        assert step.keep is None or step.keep >= within.least
        assert not (step.start and (step.cancel or step.keep is not None))


@given(bounds, st.integers(0, 60), st.floats(0.0, 60.0), st.lists(st.integers(0, 60), max_size=40))
def test_the_number_settles_when_what_is_wanted_is_steady(
    within: Bounds, steady: int, queue_s: float, before: list[int]
) -> None:
    cluster = Cluster(within, queue_s)
    for number in before:
        cluster.turn(Need(number))
    for _ in range(100):
        cluster.turn(Need(steady))
    assert cluster.here == min(max(steady, within.least), within.most)
    last = cluster.turn(Need(steady))
    assert (last.start, last.cancel, last.keep) == (0, 0, None)


@given(bounds, st.lists(st.integers(0, 60), min_size=20, max_size=200))
def test_workers_that_were_wanted_stay_for_a_while(within: Bounds, noise: list[int]) -> None:
    cluster = Cluster(within)
    for number in noise:
        before = cluster.here
        cluster.turn(Need(number))
        lately = [one.wanted for one in cluster.steps[-round(within.hold_s / TURN_S) - 1 :]]
        assert cluster.here >= max(lately)
        if cluster.here < before:
            assert cluster.here == max(lately)


@given(st.integers(0, 2**32), st.integers(4, 20))
def test_noise_around_a_level_starts_workers_and_then_nothing(seed: int, level: int) -> None:
    import random

    rng = random.Random(seed)
    cluster = Cluster(Bounds(0, 100))
    for _ in range(400):
        # Each high comes at least once within the time that workers are held.
        swing = 2 if len(cluster.steps) % 10 == 0 else rng.randint(-2, 2)
        cluster.turn(Need(level + swing))
    assert cluster.here == level + 2
    assert all((one.start, one.keep) == (0, None) for one in cluster.steps[15:])


def test_what_waits_in_a_queue_counts_as_coming() -> None:
    cluster = Cluster(Bounds(0, 50), queue_s=3600.0)
    assert cluster.turn(Need(20)).start == 20
    assert [cluster.turn(Need(20)).start for _ in range(10)] == [0] * 10
    assert cluster.turn(Need(25)).start == 5


def test_what_waits_in_a_queue_is_taken_back_before_running_workers_go() -> None:
    cluster = Cluster(Bounds(1, 50), queue_s=100.0, running=4)
    cluster.turn(Need(10))
    steps = [cluster.turn(Need(5)) for _ in range(20)]
    assert [one.cancel for one in steps if one.cancel] == [5]
    assert (cluster.running, len(cluster.queued)) == (4, 1)


@pytest.mark.parametrize(("queue_s", "held_s"), [(0.0, 30.0), (100.0, 105.0), (3600.0, 600.0)])
def test_running_workers_are_held_for_as_long_as_it_takes_to_get_one(queue_s: float, held_s: float) -> None:
    cluster = Cluster(Bounds(1, 50), queue_s, running=8)
    for _ in range(300):
        cluster.turn(Need(8))
    since_s = cluster.now_s
    while cluster.turn(Need(2)).keep is None:
        assert cluster.now_s < since_s + 2000
    assert cluster.now_s - TURN_S - since_s == pytest.approx(held_s, abs=TURN_S)
    assert cluster.running == 2


def test_at_first_nothing_is_let_go_because_nothing_is_known_of_what_was_wanted_before() -> None:
    cluster = Cluster(Bounds(0, 50), running=8)
    keeps = [cluster.turn(Need(2)).keep for _ in range(round(40 / TURN_S))]
    assert keeps[:15] == [None] * 15
    assert 2 in keeps


def test_no_worker_is_started_for_work_that_is_over_before_it_has_come() -> None:
    there = Seen(100.0, running=4, coming_s=60.0)
    memory = Memory()
    over, _ = decide(Need(10, work_s=4 * 60.0, reason="10 tasks"), there, Bounds(0, 50), memory)
    assert over.start == 0
    assert over.reason == "10 tasks; no more would come in time, 1 min 00 s from now"
    some, _ = decide(Need(10, work_s=4 * 60.0 + 6 * 60.0), there, Bounds(0, 50), memory)
    assert some.start == 2
    many, _ = decide(Need(10, work_s=1e6), there, Bounds(0, 50), memory)
    assert many.start == 6
    # The lower bound holds whatever is left.
    least, _ = decide(Need(0, work_s=0.0), Seen(0.0, 0, coming_s=60.0), Bounds(3, 50), memory)
    assert least.start == 3


def test_workers_that_end_at_once_are_tried_again_ever_more_rarely() -> None:
    cluster = Cluster(Bounds(0, 10))
    tried_s = []
    for _ in range(200):
        step = cluster.turn(Need(5, reason="5 tasks"))
        if step.start:
            tried_s.append(cluster.now_s)
            cluster.failed, cluster.queued = step.start, []
    waits = [b - a for a, b in pairwise(tried_s)]
    assert waits == sorted(waits)
    assert waits[-1] >= 16 * waits[0]
    assert "ended as soon as they began" in cluster.steps[-1].reason


def test_a_worker_that_works_ends_the_pause() -> None:
    paused = Memory(pauses=6, not_before_s=0.0)
    _, memory = decide(Need(1), Seen(10.0, 1, proven=True), Bounds(0, 5), paused)
    assert memory.pauses == 0


def test_a_run_that_says_nothing_keeps_what_it_has() -> None:
    cluster = Cluster(Bounds(2, 10), running=6)
    for _ in range(100):
        step = cluster.turn(None)
        assert (step.start, step.cancel, step.keep) == (0, 0, None)


def test_tasks_are_counted_in_workers_that_hold_them() -> None:
    rows = (Tasks(10, 1, 2000), Tasks(3, 2, 500))
    assert need(Wanted(rows, 130.0, "13 tasks"), 4, 8000) == Need(4, pytest.approx(40.0), "13 tasks")
    assert need(Wanted(rows, None, "13 tasks"), 4, 4000).workers == 7  # memory holds two of the first
    assert need(Wanted((Tasks(7),), None), 4, 100).workers == 2  # memory is not known yet
    assert need(Wanted(), 4, 8000) == Need(0, None, "nothing is left to run")


def test_tasks_that_do_not_fit_want_one_worker_and_are_named() -> None:
    found = need(Wanted((Tasks(100, 1, 20_000),), 1000.0, "100 tasks"), 4, 8000)
    assert found.workers == 1
    assert found.reason == "100 tasks; tasks of 1 cores and 20000 MiB do not fit such workers"


@pytest.mark.parametrize(("least", "most"), [(3, 2), (-1, 4), (0, 0)])
def test_bounds_that_cannot_be_are_refused(least: int, most: int) -> None:
    with pytest.raises(BadInput, match="0 <= MIN <= MAX"):
        Bounds(least, most)
