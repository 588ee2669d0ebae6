"""What a run could use now: tasks that could run, what each needs, and the work that is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shaper.models import Beliefs
from shaper.policy import Adaptive
from shaper.policy.wanted import Cut, Tasks, wanted
from shaper.types import Backlog, GroupBacklog, Merge, Resources, StageBacklog
from tests.unit.factories import chunk, seen, task

SETTINGS = Adaptive().settings
GIVEN = {("processing", ""): Resources(1, 800), ("processing", None): Resources(1, 300)}


def backlog(pending: int = 1_000_000, in_flight: int = 0, results: int = 0, *, merging: int = 0) -> Backlog:
    stage = StageBacklog(
        "processing", "accumulating", results, merging, pending > 0 or in_flight > 0, in_flight, pending, 1024
    )
    group = GroupBacklog("processing", "", "processing", "split", pending, 0, in_flight, 1000 * in_flight)
    return Backlog([group] if pending else [], [stage])


def learnt(fixed_s: float = 1.0, s_per_element: float = 1e-3, *, beside: int = 0, waiting_s: float = 0.0) -> Beliefs:
    """After tasks of several sizes; the last ones beside others, waiting for their data."""
    found = Beliefs()
    for number, elements in enumerate((1000, 2000, 4000, 8000, 16000) * (4 + beside // 5)):
        cpu_s = fixed_s / 2 + s_per_element * elements
        late = number >= 8
        wall_s = fixed_s + s_per_element * elements + (waiting_s if late else 0.0)
        one = replace(task(chunk(elements), number=number), beside=beside if late else 0)
        found = found.updated(seen(one, wall_s=wall_s, cpu_s=cpu_s))
    return found


def cut(size: int = 10_000, *, adapts: bool = True) -> Cut:
    return Cut({("processing", ""): size, ("processing", None): 8}, GIVEN, SETTINGS if adapts else None)


def test_while_nothing_has_finished_a_few_tasks_are_wanted_and_the_work_is_unknown() -> None:
    found = wanted(Beliefs(), backlog(), Cut())
    assert found.tasks == (Tasks(3, 1, None),)
    assert found.work_s is None
    assert found.reason == "3 tasks to learn from: nothing has finished yet"
    assert wanted(Beliefs(), backlog(pending=2), Cut()).tasks == (Tasks(2, 1, None),)


def test_the_last_tasks_of_which_none_has_finished_are_work_of_unknown_length() -> None:
    assert wanted(Beliefs(), backlog(0, in_flight=4), cut()).work_s is None
    assert wanted(learnt(), backlog(0, in_flight=4), cut()).work_s == 0.0


def test_a_policy_of_one_size_wants_as_many_tasks_as_there_are() -> None:
    found = wanted(learnt(), backlog(in_flight=4), cut(adapts=False))
    assert found.tasks == (Tasks(104, 1, 800),)
    assert found.work_s == pytest.approx(100 * 11 + 4 * 2 / 2, rel=0.05)
    busy = wanted(learnt(), backlog(10_000, in_flight=100), cut(adapts=False))
    assert busy.work_s == pytest.approx(11 + 100 * 2 / 2, rel=0.05)


def test_a_policy_that_adapts_wants_as_many_as_are_worth_their_fixed_cost() -> None:
    large = wanted(learnt(), backlog(), cut(500_000)).tasks[0].count
    assert large > 50  # not the two of 500,000 elements
    cheap = wanted(learnt(fixed_s=0.1), backlog(), cut(500_000)).tasks[0].count
    dear = wanted(learnt(fixed_s=20.0), backlog(), cut(500_000)).tasks[0].count
    assert cheap > 2 * large > 4 * dear
    # At least half of each task is work.
    assert 1e-3 * 1_000_000 / dear >= 20.0


def test_sizes_that_still_grow_promise_no_more_tasks_than_there_will_be() -> None:
    beliefs = learnt(fixed_s=20.0)
    assert beliefs.about("processing").largest_done == 16_000
    grown, growing = (wanted(beliefs, backlog(), cut(size)).tasks[0].count for size in (1_000_000, 33_000))
    assert growing <= grown < 1_000_000 / 33_000
    # Below the largest that finished a size stays small for other reasons, memory for instance.
    assert wanted(beliefs, backlog(), cut(10_000)).tasks[0].count == 100


def test_costs_are_not_raised_for_the_sake_of_speed() -> None:
    thrifty = Cut({("processing", ""): 12_000}, GIVEN, Adaptive(goal="cost").settings)
    assert wanted(learnt(), backlog(120_000), thrifty).tasks[0].count == 10


def test_no_more_is_wanted_than_the_data_source_feeds() -> None:
    beliefs = learnt(beside=100, waiting_s=40.0)
    about = beliefs.about("processing")
    assert about.source_per_s is not None
    found = wanted(beliefs, backlog(), cut())
    alone = about.unhindered
    assert alone is not None
    fed = about.source_per_s * alone.median(10_000) / 10_000
    assert fed < found.tasks[0].count < 1.5 * fed + 1
    assert "the data source feeds no more" in found.reason
    without = Cut(cut().sizes, GIVEN, Adaptive(without=["bandwidth"]).settings)
    assert wanted(beliefs, backlog(), without).tasks[0].count > 2 * found.tasks[0].count


def test_the_last_tasks_and_merges_are_wanted_until_they_are_done() -> None:
    last = Backlog((), [StageBacklog("processing", "accumulating", 20, 2, True, 5, 0, 2**20, 5000)])
    found = wanted(learnt(), last, cut())
    assert found.tasks == (Tasks(5, 1, 800), Tasks(4, 1, 300))
    assert found.reason == "the last 5 tasks, 4 merges"
    merges = wanted(learnt(), backlog(pending=0, results=20, merging=1), cut())
    assert merges.tasks == (Tasks(4, 1, 300),)


def test_merges_take_the_time_that_merges_took() -> None:
    beliefs = learnt()
    for number in range(4):
        merge = Merge(("1", "2"), 1000 * 2**number, 2**20 * 2**number)
        beliefs = beliefs.updated(seen(task(merge, number=100 + number), wall_s=2.0**number))
    found = wanted(beliefs, backlog(pending=0, results=15), cut())
    assert found.work_s == pytest.approx(2 * beliefs.about("accumulating").wall.line.median(8.0))  # type: ignore[union-attr]


def test_nothing_is_wanted_of_a_run_that_is_over() -> None:
    found = wanted(learnt(), Backlog(), cut())
    assert (found.tasks, found.work_s, found.reason) == ((), 0.0, "nothing is left to run")


def test_groups_that_a_long_backlog_does_not_show_count_too() -> None:
    shown = backlog(100_000)
    (stage,) = shown.stages
    hidden = Backlog(shown.groups, [replace(stage, pending_elements=1_000_000)])
    assert wanted(learnt(), hidden, cut(adapts=False)).tasks[0].count == 100


def test_an_attempt_whose_threads_compute_longer_than_it_takes_hides_no_waiting() -> None:
    beliefs = Beliefs()
    for number, (elements, wall_s, cpu_s) in enumerate([(1000, 3.0, 1.0), (4000, 6.4, 4.0), (16_000, 15.7, 16.4)]):
        beliefs = beliefs.updated(
            seen(replace(task(chunk(elements), number=number), beside=2), wall_s=wall_s, cpu_s=cpu_s)
        )
    alone = beliefs.about("processing").unhindered
    assert alone is not None
    assert alone.median(1000) == pytest.approx(3.0, rel=0.5)
