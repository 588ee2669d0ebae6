"""How many tasks of a stage run at once, as literal expectations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shaper.errors import BadInput
from shaper.models import Beliefs
from shaper.policy import Adaptive
from shaper.policy.parallelism import Parallelism
from shaper.types import Backlog, GroupBacklog, Outcome, Shape, StageBacklog, StageRun, Task
from tests.unit.factories import capacity, chunk, seen, task

LEFT = 100_000
SCALES = {1: 102.0, 2: 52.0, 5: 22.0, 10: 12.0, 20: 7.0}  # 2 + 100 / s


def stages(*names: str, mode: str = "split", left: int = LEFT, in_flight: int = 0) -> Backlog:
    return Backlog(
        [GroupBacklog(name, "", name, mode, left, 0, in_flight, in_flight * 10) for name in names],
        [StageBacklog(name, f"{name}_merge", 0, 0, True, in_flight, left, None, in_flight * 10) for name in names],
    )


def ran(name: str, walls_s: dict[int, float], beliefs: Beliefs | None = None, load: float = 0.0) -> Beliefs:
    beliefs = beliefs or Beliefs()
    for s, wall_s in walls_s.items():
        beliefs = beliefs.ran(StageRun(name, name, "split", s, LEFT, LEFT, load, wall_s))
    return beliefs


def with_category(of: Task, category: str = "a") -> Task:
    return replace(of, category=category)


def with_sizes(beliefs: Beliefs, category: str = "a", cores: int = 1) -> Beliefs:
    """Tasks of several sizes have finished."""
    for number, n in enumerate((100, 1000, 10_000, 10_000), start=1):
        of = with_category(task(chunk(n), number=number, cores=cores), category)
        beliefs = beliefs.updated(seen(of, wall_s=2.0 + n * 1e-3, cpu_s=2.0 + n * 1e-3, memory_mib=200.0))
    return beliefs


def shapes_of(policy: Adaptive, beliefs: Beliefs, backlog: Backlog, count: int = 4) -> list[Shape]:
    return list(policy.shapes(beliefs, capacity(4, 16_000, count), backlog))


def test_a_lone_stage_gets_all_the_workers_when_its_makespan_counts() -> None:
    (shape,) = shapes_of(Adaptive(), with_sizes(ran("a", SCALES)), stages("a"))
    assert shape.parallelism is None
    assert shape.in_flight == 16


def test_a_lone_stage_gets_fewer_where_more_were_seen_to_be_slower() -> None:
    slower = {1: 100.0, 2: 55.0, 4: 40.0, 8: 60.0, 16: 110.0}
    beliefs = ran("a", slower, ran("a", slower))
    (shape,) = shapes_of(Adaptive(), with_sizes(beliefs), stages("a"))
    assert shape.parallelism in (3, 4, 5)
    assert shape.in_flight == shape.parallelism
    assert "longer" in shape.reason


def test_what_was_not_seen_limits_nothing() -> None:
    """Runs at one and two tasks at once say nothing sure about sixteen."""
    (shape,) = shapes_of(Adaptive(), with_sizes(ran("a", {1: 100.0, 2: 110.0})), stages("a"))
    assert shape.parallelism is None


def test_where_cost_counts_a_stage_without_history_begins_with_one_task() -> None:
    (shape,) = shapes_of(Adaptive(goal="cost"), Beliefs(), stages("a"))
    assert (shape.in_flight, shape.parallelism) == (1, 1)


def test_a_stage_of_a_few_elements_is_begun_as_a_whole() -> None:
    """One file of a dozen says nothing about two, and would be a dozenth of the work."""
    (shape,) = shapes_of(Adaptive(goal="cost"), Beliefs(), stages("a", left=12))
    assert (shape.elements, shape.in_flight, shape.parallelism) == (1, 12, 12)
    (shape,) = shapes_of(Adaptive(goal="cost"), Beliefs(), stages("a", left=12), count=1)
    assert (shape.in_flight, shape.parallelism) == (4, 4)


def baseline(elements: int = 200) -> Beliefs:
    """One task has finished."""
    one = with_category(task(chunk(elements)))
    beliefs = Beliefs().updated(seen(one, wall_s=2.0 + elements * 1e-3, cpu_s=2.0, memory_mib=200.0))
    return beliefs.ran(StageRun("a", "a", "split", 1, elements, LEFT, 0.0, 2.0 + elements * 1e-3))


def test_then_comes_one_wave_of_the_probe_and_nothing_before_it_has_ended() -> None:
    policy, beliefs = Adaptive(goal="cost"), baseline()
    (shape,) = shapes_of(policy, beliefs, stages("a"))
    assert (shape.parallelism, shape.in_flight) == (5, 5)
    assert 400 <= shape.elements <= 1600
    assert "probe" in shape.reason
    assert shapes_of(policy, beliefs, stages("a", in_flight=2)) == []


def test_then_tasks_say_what_the_stage_is_worth_and_sizes_grow_in_waves() -> None:
    beliefs = baseline()
    for number in range(2, 7):
        of = with_category(task(chunk(1600), number=number))
        beliefs = beliefs.updated(seen(of, wall_s=2.0 + 25.0, cpu_s=27.0, memory_mib=200.0))
    beliefs = beliefs.ran(StageRun("a", "a", "split", 5, 8000, LEFT, 0.0, 27.0))
    (shape,) = shapes_of(Adaptive(goal="cost"), beliefs, stages("a", left=90_000))
    assert shape.parallelism == 16  # 2 s and 1400 s of work
    assert 1600 < shape.elements <= 90_000 / 16 + 1
    assert "as a task takes" in shape.reason


def test_a_wave_that_runs_is_not_joined_by_tasks_of_what_was_learnt_meanwhile() -> None:
    policy, beliefs = Adaptive(goal="cost"), baseline()
    assert shapes_of(policy, beliefs, stages("a"))
    of = with_category(task(chunk(1600), number=2))
    beliefs = beliefs.updated(seen(of, wall_s=3.6, cpu_s=3.6, memory_mib=200.0))
    assert shapes_of(policy, beliefs, stages("a", in_flight=4)) == []


def test_stages_that_do_not_fit_side_by_side_follow_each_other_where_cost_counts() -> None:
    plans = Parallelism(Adaptive(goal="cost").settings)
    both = stages("a", "b")
    few, many = capacity(2, 16_000), capacity(64, 64_000)
    found = plans.plans(Beliefs(), few, both)
    assert (found["a"].s, found["b"].s) == (1, 0)  # a will soon have its probe, of as many as there is room for
    assert "room" in found["b"].reason
    # What has begun goes on, though what came in between may be worth less.
    again = Backlog(both.groups[::-1], both.stages[::-1])
    found = plans.plans(Beliefs().ran(StageRun("a", "a", "split", 1, 10, LEFT, 0.0, 1.0)), few, again)
    assert found["a"].s >= 1
    assert found["b"].s == 0
    assert plans.plans(Beliefs(), few, stages("b"))["b"].s == 1
    found = Parallelism(Adaptive(goal="cost").settings).plans(Beliefs(), many, both)
    assert (found["a"].s, found["b"].s) == (1, 1)


def test_a_stage_whose_source_is_away_keeps_no_other_waiting() -> None:
    beliefs = Beliefs()
    for number in range(30):
        of = replace(task(chunk(10, f"file {number}"), number=number), stage="a", category="a")
        beliefs = beliefs.updated(replace(seen(of, Outcome.FAILED), io_error=True))
    assert beliefs.outage("a", "").holds
    plans = Parallelism(Adaptive(goal="cost").settings).plans(beliefs, capacity(2, 16_000), stages("a", "b"))
    assert plans["b"].s == 1


def test_tasks_that_hinder_each_other_leave_the_word_to_the_model() -> None:
    """Five tasks got no more done than one: what each takes alone says nothing about more."""
    beliefs = with_sizes(Beliefs())
    beliefs = beliefs.ran(StageRun("a", "a", "split", 1, 1000, LEFT, 0.0, 3.0))
    beliefs = beliefs.ran(StageRun("a", "a", "split", 5, 8000, LEFT, 0.0, 24.0))
    (shape,) = shapes_of(Adaptive(goal="cost"), beliefs, stages("a"))
    assert shape.parallelism in (1, 2, 3)
    assert "law fitted to 2 runs" in shape.reason


def test_groups_make_no_more_tasks_than_run_at_once() -> None:
    """Each group's last task would else be one too many for the workers."""
    beliefs = with_sizes(Beliefs()).ran(StageRun("a", "a", "split", 1, 10_000, LEFT, 0.0, 12.0))
    groups = [GroupBacklog("a", f"g{n}", "a", "split", 33_000, 0, 0, 0) for n in range(3)]
    backlog = Backlog(groups, [StageBacklog("a", "merges", 0, 0, True, 0, 99_000)])
    plan = Parallelism(Adaptive(goal="cost").settings).plans(beliefs, capacity(4, 16_000, 4), backlog)["a"]
    assert plan.elements is not None
    assert sum(-(-33_000 // plan.elements) for _ in groups) <= plan.s <= 16


def test_then_the_stage_is_cut_into_as_many_tasks_as_the_model_chooses() -> None:
    fixed = {1: 120.0, 2: 70.0, 4: 45.0, 8: 32.5, 16: 26.25}  # 20 + 100 / s: T sqrt(s) is least at 5
    (shape,) = shapes_of(Adaptive(goal="cost"), with_sizes(ran("a", fixed)), stages("a"))
    assert shape.parallelism in (4, 5, 6)
    assert shape.in_flight == shape.parallelism
    assert shape.elements == -(-LEFT // shape.parallelism)
    assert "parallelism" in shape.reason
    assert "law fitted to 5 runs" in shape.reason


def test_memory_may_demand_more_tasks_but_not_more_at_once() -> None:
    beliefs = ran("a", {1: 120.0, 2: 70.0, 4: 45.0, 8: 32.5, 16: 26.25})
    for number, n in enumerate((100, 1000, 2000, 2000, 2000), start=1):
        of = task(chunk(n), number=number)
        object.__setattr__(of, "category", "a")
        beliefs = beliefs.updated(seen(of, wall_s=2.0 + n * 1e-3, memory_mib=200.0 + 5.0 * n))
    (shape,) = shapes_of(Adaptive(goal="cost"), beliefs, stages("a"))
    assert shape.parallelism in range(4, 9)  # so that no last wave is of a few
    assert shape.elements < 3300  # 16,000 MiB
    assert shape.in_flight == shape.parallelism


def test_urgency_moves_the_choice() -> None:
    fixed = {1: 120.0, 2: 70.0, 4: 45.0, 8: 32.5, 16: 26.25}
    chosen = []
    for urgency in (0.5, 1.0, 2.0):
        policy = Adaptive(goal="cost", urgency=urgency)
        (shape,) = shapes_of(policy, with_sizes(ran("a", fixed)), stages("a"))
        chosen.append(shape.parallelism or 0)
    assert chosen[0] < chosen[1] < chosen[2]


def test_stages_that_compete_share_the_workers_and_see_each_other_as_load() -> None:
    light = {1: 12.0, 2: 11.0, 5: 10.5, 10: 10.2}
    beliefs = ran("light", light, ran("heavy", SCALES))
    plans = Parallelism(Adaptive().settings).plans(beliefs, capacity(4, 16_000, 4), stages("heavy", "light"))
    assert plans["heavy"].s > 3 * plans["light"].s
    assert 16 <= plans["heavy"].s + plans["light"].s <= 18
    assert "beside" in plans["heavy"].reason


def test_stages_that_compete_without_history_are_not_limited() -> None:
    plans = Parallelism(Adaptive().settings).plans(ran("a", SCALES), capacity(), stages("a", "b"))
    assert plans == {}


def test_a_task_of_threads_gets_one_core_then_the_probe_then_what_the_model_chooses() -> None:
    policy, backlog = Adaptive(goal="cost"), stages("a", mode="threads")
    plan = Parallelism(policy.settings).plans(Beliefs(), capacity(8), backlog)["a"]
    assert plan.s == 1
    threads = Beliefs()
    for s, wall_s in {1: 100.0, 2: 52.0, 4: 30.0, 8: 20.0}.items():
        threads = threads.ran(StageRun("a", "a", "threads", s, 1000, LEFT, 0.0, wall_s))
    shapes_of(policy, with_sizes(threads), backlog)
    given = policy.allocate(chunk(1000), with_sizes(threads), capacity(8))
    assert given.cores == 1  # of another category
    work = chunk(1000)
    object.__setattr__(work, "category", "a")
    assert policy.allocate(work, with_sizes(threads), capacity(4, 16_000, 4)).cores in (2, 3, 4)


def test_runs_of_tasks_with_many_cores_say_nothing_about_tasks_side_by_side() -> None:
    threads = Beliefs()
    for s, wall_s in {1: 100.0, 2: 90.0, 4: 85.0, 8: 200.0}.items():
        threads = threads.ran(StageRun("a", "a", "threads", s, 1000, LEFT, 0.0, wall_s))
    assert Parallelism(Adaptive().settings).plans(with_sizes(threads), capacity(8), stages("a")) == {}


def test_where_time_counts_tasks_of_threads_get_what_gets_most_done() -> None:
    beliefs = Beliefs()
    for s, wall_s in {1: 100.0, 2: 60.0, 4: 40.0, 8: 30.0}.items():
        beliefs = beliefs.ran(StageRun("a", "a", "threads", s, 1000, LEFT, 0.0, wall_s))
    parallelism = Parallelism(Adaptive().settings)
    many = parallelism.plans(beliefs, capacity(8), stages("a", mode="threads", left=100_000))["a"]
    assert many.s == 1  # a hundred tasks: threads would waste cores
    few = Parallelism(Adaptive().settings).plans(beliefs, capacity(8), stages("a", mode="threads", left=1000))["a"]
    assert few.s >= 6  # one task alone


def test_switched_off_nothing_is_limited() -> None:
    policy = Adaptive(goal="cost", without=["parallelism"])
    (shape,) = shapes_of(policy, with_sizes(ran("a", SCALES)), stages("a"))
    assert shape.parallelism is None


def test_the_objectives_of_the_whole_are_goals() -> None:
    assert Adaptive(objective="cost").settings.goal == "cost"
    assert Adaptive(objective="makespan", goal="cost").settings.goal == "makespan"
    assert Adaptive(objective="cost").settings.objective == "throughput"
    with pytest.raises(BadInput, match="'throughput', 'waste', 'retries', 'makespan' or 'cost', got 'money'"):
        Adaptive(objective="money")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="urgency is a number above 0"):
        Adaptive(urgency=0)
