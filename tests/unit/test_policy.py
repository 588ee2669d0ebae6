"""Decisions, as literal expectations."""

import dataclasses
import math

import pytest

from shaper.errors import BadInput
from shaper.models import Beliefs
from shaper.models.group import GroupBeliefs
from shaper.models.line import Line
from shaper.models.resource import Model
from shaper.policy import Adaptive, Fixed, Published, caution, chunksize
from shaper.policy.chunksize import Pace, Size, even_share, late, tail
from shaper.policy.feed import Feed
from shaper.policy.revision import InFlight, Revision
from shaper.types import (
    Accept,
    Backlog,
    Chunk,
    GiveUp,
    GroupBacklog,
    Merge,
    Observation,
    Outcome,
    Resources,
    Retry,
    Split,
    StageBacklog,
    Task,
)
from tests.unit.factories import capacity, chunk, seen, task


def backlog(pending: int = 10**7, *, group: str = "", in_flight: int = 0, results: int = 0) -> Backlog:
    return Backlog(
        [GroupBacklog("processing", group, "processing", "split", pending, 0, in_flight, 0)] if pending else [],
        [StageBacklog("processing", "accumulating", results, 0, pending > 0, in_flight, pending)],
    )


def learnt(slope: float = 0.01, intercept: float = 300.0, s_per_element: float = 1e-4, fixed_s: float = 1.0) -> Beliefs:
    beliefs = Beliefs()
    for number, n in enumerate((1000, 4000, 16000, 64000, 64000, 64000, 64000), start=1):
        usage = {"memory_mib": intercept + slope * n, "wall_s": fixed_s + s_per_element * n}
        beliefs = beliefs.updated(seen(task(chunk(n), number=number), **usage))
    return beliefs


# -- the table of verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Adaptive(), Fixed(1000), Published()])
def test_what_all_policies_do_alike(policy: Adaptive | Fixed | Published) -> None:
    some, both = task(), task(chunk(1000, "a", "b"))
    assert policy.judge(seen(some), Beliefs(), capacity()) == Accept()
    lost = policy.judge(seen(some, Outcome.LOST), Beliefs(), capacity())
    assert isinstance(lost, Retry)
    # Adaptive sizes it as if it were cut now; what it was promised after an exceeded limit it keeps.
    assert lost.resources == (None if isinstance(policy, Adaptive) else some.resources)
    promised = dataclasses.replace(some, attempt=2)
    assert policy.judge(seen(promised, Outcome.LOST), Beliefs(), capacity()) == Retry(some.resources, lost.reason)
    cancelled = policy.judge(seen(some, Outcome.CANCELLED), Beliefs(), capacity())
    assert isinstance(cancelled, Split)
    failed = seen(some, Outcome.FAILED, detail="KeyError: 'x'\ntraceback")
    assert isinstance(policy.judge(failed, Beliefs(), capacity()), Retry)
    again = seen(dataclasses.replace(some, attempt=2), Outcome.FAILED, detail="KeyError: 'x'\ntraceback")
    assert policy.judge(again, Beliefs(), capacity()) == GiveUp("KeyError: 'x'")
    parts = policy.judge(seen(both, Outcome.FAILED, detail="bad"), Beliefs(), capacity())
    assert isinstance(parts, Split)
    assert [str(piece) for piece in parts.pieces] == ["a[0:500]", "b[0:500]"]


def test_a_function_that_never_works_stops_its_stage() -> None:
    beliefs = Beliefs()
    for number in range(16):
        assert not stops(Outcome.FAILED, beliefs)
        beliefs = beliefs.updated(seen(task(chunk(10, f"s{number}")), Outcome.FAILED, detail="NameError: x"))
    assert Adaptive().judge(seen(task(), Outcome.FAILED, detail="NameError: x"), beliefs, capacity()) == GiveUp(
        "NameError: x", whole_stage=True
    )
    assert not stops(Outcome.FAILED, beliefs.updated(seen(task())))


def stops(outcome: Outcome, beliefs: Beliefs) -> bool:
    verdict = Adaptive().judge(seen(task(chunk(1), memory_mib=8000, attempt=9), outcome), beliefs, capacity())
    return isinstance(verdict, GiveUp) and verdict.whole_stage


@pytest.mark.parametrize(
    ("outcome", "attempts"), [(Outcome.FAILED, 64), (Outcome.OUT_OF_MEMORY, 64), (Outcome.LOST, 100)]
)
def test_many_attempts_without_a_success_stop_the_stage(outcome: Outcome, attempts: int) -> None:
    beliefs = Beliefs()
    for _ in range(attempts):
        assert not stops(outcome, beliefs)
        beliefs = beliefs.updated(seen(task(chunk(1), memory_mib=8000), outcome))
    assert stops(outcome, beliefs)
    assert not stops(outcome, beliefs.updated(seen(task())))


def test_failures_of_one_source_say_nothing_about_the_others() -> None:
    beliefs = Beliefs()
    for _ in range(60):
        beliefs = beliefs.updated(seen(task(chunk(10, "bad")), Outcome.FAILED))
    for _ in range(3):
        beliefs = beliefs.updated(seen(task(chunk(1000, *"abcdefghijklmnopqrstuvwxyz")), Outcome.FAILED))
    assert not stops(Outcome.FAILED, beliefs)


def test_a_chunk_lost_again_and_again_is_cut_because_workers_may_live_shortly() -> None:
    lost = seen(task(chunk(1000), attempt=3, losses=2), Outcome.LOST)
    assert isinstance(Adaptive().judge(lost, learnt(), capacity()), Split)
    assert isinstance(Adaptive().judge(lost, Beliefs(), capacity()), Retry)
    assert isinstance(Adaptive(min_chunksize=500).judge(lost, learnt(), capacity()), Retry)


def test_what_waits_for_a_worker_that_left_is_taken_back() -> None:
    policy, beliefs = Adaptive(), learnt()
    large = task(chunk(10**6), memory_mib=16000)
    given = policy.allocate(large.work, beliefs, capacity(4, 32000))
    assert given.memory_mib > 8000
    in_flight = {large.id: dataclasses.replace(large, resources=given), "1.2": task(number=2)}
    assert not policy.revise(beliefs, capacity(4, 32000), in_flight, 0.0)
    assert [cancel.task_id for cancel in policy.revise(beliefs, capacity(4, 8000), in_flight, 0.0)] == [large.id]
    assert not policy.revise(beliefs, capacity(4, 8000), in_flight, 0.0)


def test_memory_that_nobody_measures_does_not_keep_sizes_small() -> None:
    beliefs, policy = Beliefs(), Adaptive()
    for n in (100, 800, 6400, 51200):
        beliefs = beliefs.updated(seen(task(chunk(n)), memory_mib=None, wall_s=1.0 + 1e-5 * n))
    (shape,) = policy.shapes(beliefs, capacity(), backlog(10**9))
    assert shape.elements > 51200


def test_a_size_is_found_where_no_size_meets_the_risk() -> None:
    beliefs = Beliefs()
    for number, n in enumerate((100, 400, 1600, 6400) * 4):
        beliefs = beliefs.updated(
            seen(task(chunk(n)), memory_mib=1500 * (1.3 if number // 4 % 2 else 0.9), wall_s=10.0)
        )
    (shape,) = Adaptive().shapes(beliefs, capacity(1, 2000), backlog(10**9))
    assert shape.elements >= 6400
    assert "but so do smaller ones" in shape.reason


def test_a_target_below_what_one_element_needs_gives_way() -> None:
    policy = Adaptive(target_memory="100MiB")
    (shape,) = policy.shapes(learnt(slope=0.01, intercept=300), capacity(), backlog(10**9))
    assert 1000 < shape.elements < 30_000
    assert policy.allocate(chunk(shape.elements), learnt(), capacity()).memory_mib > 300


def test_a_task_that_takes_its_worker_down_is_given_up_in_the_end() -> None:
    one = seen(task(chunk(1), attempt=25, losses=24), Outcome.LOST, detail="gone")
    assert Adaptive().judge(one, Beliefs(), capacity()) == GiveUp("lost 25 times, last: gone")
    two = seen(task(chunk(2), attempt=25, losses=24), Outcome.LOST, detail="gone")
    assert isinstance(Fixed(1000).judge(two, Beliefs(), capacity()), Split)


def test_losses_do_not_use_up_the_retries_of_failures() -> None:
    failed = seen(task(attempt=4, losses=3), Outcome.FAILED)
    assert isinstance(Adaptive(retries=1).judge(failed, Beliefs(), capacity()), Retry)
    assert isinstance(Adaptive(retries=0).judge(failed, Beliefs(), capacity()), GiveUp)


# -- fixed -------------------------------------------------------------------------------------------------------------


def test_fixed_fails_or_halves_as_told() -> None:
    over = seen(task(memory_mib=1000), Outcome.OUT_OF_MEMORY, memory_mib=1010)
    assert Fixed(1000).judge(over, Beliefs(), capacity()) == GiveUp("needs more than 1000 MiB (used 1010 MiB)")
    halving = Fixed(1000, on_exhaustion="halve")
    whole = halving.judge(over, Beliefs(), capacity())
    assert isinstance(whole, Retry)
    assert whole.resources == Resources(4, 8000)
    halves = halving.judge(seen(task(memory_mib=8000), Outcome.OUT_OF_MEMORY), Beliefs(), capacity())
    assert isinstance(halves, Split)
    assert [p.elements for p in halves.pieces] == [500, 500]


def test_fixed_fills_every_slot_and_no_more() -> None:
    shapes = Fixed(1000, Resources(1, 4000)).shapes(Beliefs(), capacity(count=10), backlog())
    assert [(s.elements, s.in_flight, s.cross_sources) for s in shapes] == [(1000, 22, False)]


# -- published, step by step -------------------------------------------------------------------------------------------


def test_published_gives_a_whole_worker_until_five_have_finished_then_the_most_seen_in_steps_of_250_mb() -> None:
    policy, beliefs = Published(1000), Beliefs()
    for number in range(5):
        assert policy.allocate(chunk(), beliefs, capacity()) == Resources(4, 8000)
        beliefs = beliefs.updated(seen(task(number=number), memory_mib=700 + number))
    assert policy.allocate(chunk(), beliefs, capacity()) == Resources(1, 716)  # 750 MB


def test_published_climbs_from_its_allocation_to_the_largest_worker_and_then_halves() -> None:
    policy = Published(1000)
    kinds = dataclasses.replace(capacity(), kinds=(*capacity(1, 1000).kinds, *capacity(1, 2000).kinds))
    given = 750
    ladder = []
    for _ in range(3):
        verdict = policy.judge(seen(task(memory_mib=given), Outcome.OUT_OF_MEMORY), Beliefs(), kinds)
        ladder.append(verdict.resources.memory_mib if isinstance(verdict, Retry) else verdict)
        given = ladder[-1] if isinstance(ladder[-1], int) else given
    assert ladder[:2] == [1000, 2000]
    assert isinstance(ladder[2], Split)
    assert [piece.elements for piece in ladder[2].pieces] == [500, 500]


def test_published_rounds_the_fit_down_to_a_power_of_two() -> None:
    policy = Published(1000, target_memory=1000)
    shapes = policy.shapes(learnt(), capacity(), backlog())
    assert shapes[0].elements in (65536, 65535)  # the fit says 70,000


# -- adaptive ----------------------------------------------------------------------------------------------------------


def test_adaptive_starts_with_a_few_small_probes_of_spread_sizes_whatever_the_guess() -> None:
    for policy in (Adaptive(), Adaptive(first_guess=10**9)):
        shapes = policy.shapes(Beliefs(), capacity(count=10), backlog())
        assert [(s.elements, s.in_flight) for s in shapes] == [(488, 1), (1952, 2), (7808, 3)]
    assert Adaptive(first_guess=100).shapes(Beliefs(), capacity(), backlog())[0].elements == 100


def test_adaptive_probes_smaller_when_a_probe_did_not_fit() -> None:
    beliefs = Beliefs().updated(seen(task(chunk(400)), Outcome.OUT_OF_MEMORY))
    shapes = Adaptive().shapes(beliefs, capacity(), backlog())
    assert [(s.elements, s.in_flight) for s in shapes] == [(50, 1)]


def test_a_stage_with_no_more_elements_than_cores_begins_with_one_for_each() -> None:
    shapes = Adaptive().shapes(Beliefs(), capacity(4, 8000, 10), backlog(16))
    assert [(s.elements, s.in_flight) for s in shapes] == [(1, 16)]


def test_no_probe_is_larger_than_what_each_core_would_get() -> None:
    shapes = Adaptive().shapes(Beliefs(), capacity(4, 8000, 10), backlog(100))
    assert [(s.elements, s.in_flight) for s in shapes] == [(1, 1), (2, 2), (2, 3), (1, 40)]


def test_adaptive_takes_the_size_that_memory_allows_with_every_core_busy() -> None:
    shapes = Adaptive().shapes(learnt(), capacity(4, 4000), backlog())
    # 1000 MiB each: 300 + 0.01 n stays below it with room for the risk.
    assert 30_000 < shapes[-1].elements < 70_000
    assert "memory: 4 tasks of 1000 MiB" in shapes[-1].reason


def test_adaptive_leaves_a_core_idle_rather_than_cut_to_nothing() -> None:
    shapes = Adaptive().shapes(learnt(intercept=300, slope=0.01), capacity(4, 1300), backlog())
    assert "3 tasks" in shapes[-1].reason or "2 tasks" in shapes[-1].reason


def test_adaptive_grows_by_a_bounded_factor() -> None:
    shapes = Adaptive().shapes(learnt(), capacity(4, 10**6), backlog(10**9))
    assert shapes[-1].elements <= 8 * 64_000


def test_adaptive_shrinks_at_the_end() -> None:
    policy, beliefs = Adaptive(), learnt(fixed_s=0.1)
    sizes = [policy.shapes(beliefs, capacity(4, 4000), backlog(left))[-1].elements for left in (10**7, 100_000, 25_000)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_adaptive_gives_memory_by_size() -> None:
    tight = capacity(4, 2800)
    small, large = (Adaptive().allocate(chunk(n), learnt(), tight).memory_mib for n in (2000, 30_000))
    assert small < large <= 2800
    assert large >= 600


def test_adaptive_splits_into_pieces_it_believes_in() -> None:
    policy, beliefs = Adaptive(), learnt()
    over = seen(task(chunk(1_000_000), memory_mib=1000), Outcome.OUT_OF_MEMORY)
    verdict = policy.judge(over, beliefs.updated(over), capacity(4, 4000))
    assert isinstance(verdict, Split)
    assert len(verdict.pieces) > 8
    assert sum(piece.elements for piece in verdict.pieces) == 1_000_000


def test_adaptive_gives_more_to_a_task_that_was_unlucky_where_halves_would_cost_more() -> None:
    policy = Adaptive()
    over = seen(task(chunk(30_000), memory_mib=620), Outcome.OUT_OF_MEMORY)
    verdict = policy.judge(over, learnt(fixed_s=20.0).updated(over), capacity(4, 4000))
    assert isinstance(verdict, Retry)
    assert verdict.resources.memory_mib > 620


def test_adaptive_halves_a_task_that_was_unlucky_where_the_fixed_cost_is_small() -> None:
    policy = Adaptive()
    over = seen(task(chunk(30_000), memory_mib=620), Outcome.OUT_OF_MEMORY)
    verdict = policy.judge(over, learnt(fixed_s=0.1).updated(over), capacity(4, 4000))
    assert isinstance(verdict, Split)
    assert [piece.elements for piece in verdict.pieces] == [15_000, 15_000]


def test_one_element_that_fits_nowhere_is_named_and_given_up() -> None:
    whole = seen(task(chunk(1), memory_mib=8000), Outcome.OUT_OF_MEMORY, memory_mib=8010)
    verdict = Adaptive().judge(whole, Beliefs().updated(whole), capacity())
    assert verdict == GiveUp("one element needs more than 7.8 GiB (used 7.8 GiB), and no worker has more")


def test_the_minimum_chunksize_is_kept() -> None:
    policy = Adaptive(min_chunksize=1000)
    over = seen(task(chunk(1500), memory_mib=8000), Outcome.OUT_OF_MEMORY)
    verdict = policy.judge(over, Beliefs().updated(over), capacity())
    assert isinstance(verdict, Split)
    assert [piece.elements for piece in verdict.pieces] == [1000, 500]
    several = seen(task(chunk(1000, "a", "b"), memory_mib=8000), Outcome.OUT_OF_MEMORY)
    assert isinstance(policy.judge(several, Beliefs().updated(several), capacity()), Split)
    least = seen(task(chunk(1000), memory_mib=8000), Outcome.OUT_OF_MEMORY)
    assert isinstance(policy.judge(least, Beliefs().updated(least), capacity()), GiveUp)


def test_a_merge_that_does_not_fit_gets_the_largest_worker_and_is_never_split() -> None:
    work = Merge(("1.1", "1.2"), 2000, 10**6)
    policy = Adaptive()
    verdict = policy.judge(seen(task(work, memory_mib=1000), Outcome.OUT_OF_MEMORY), Beliefs(), capacity())
    assert isinstance(verdict, Retry)
    assert verdict.resources.memory_mib > 1000
    assert isinstance(
        policy.judge(seen(task(work, memory_mib=8000), Outcome.OUT_OF_MEMORY), Beliefs(), capacity()), GiveUp
    )


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ({"target_memory": "500MiB"}, lambda size, before: size < before),
        ({"target_wall": 2.0}, lambda size, before: size <= 10_500),
        ({"cap": 600}, lambda size, before: size < before),
        ({"risk": 0.0001}, lambda size, before: size < before),
        ({"min_chunksize": 100_000}, lambda size, before: size == 100_000),
    ],
)
def test_settings_change_the_size(setting: dict[str, object], change: object) -> None:
    before = Adaptive().shapes(learnt(), capacity(4, 4000), backlog())[-1].elements
    size = Adaptive(**setting).shapes(learnt(), capacity(4, 4000), backlog())[-1].elements  # type: ignore[arg-type]
    assert change(size, before)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target_memory": "2XB"}, "target_memory '2XB' is not a size"),
        ({"risk": 3}, "risk is a probability"),
        ({"objective": "speed"}, "objective is 'throughput'"),
        ({"goal": "fame"}, "goal is 'makespan'"),
        ({"min_chunksize": 0}, "min_chunksize must be a whole number of at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Adaptive(**setting)  # type: ignore[arg-type]


def test_a_new_group_starts_with_few_small_tasks_and_all_the_memory_there_is() -> None:
    beliefs = learnt()
    shapes = Adaptive().shapes(beliefs, capacity(4, 8000, 10), backlog(group="other"))
    assert "first of other" in shapes[-1].reason
    assert shapes[-1].in_flight <= 5
    work = Chunk(chunk(10_000, group="other").spans)
    assert Adaptive().allocate(work, beliefs, capacity(4, 8000, 10)).memory_mib == 2000


def test_every_decision_carries_a_reason() -> None:
    for policy in (Adaptive(), Fixed(1000), Published()):
        for beliefs in (Beliefs(), learnt()):
            for left in (backlog(), backlog(5000), backlog(0, results=20)):
                assert all(shape.reason for shape in policy.shapes(beliefs, capacity(), left))
        for outcome in Outcome:
            over = dataclasses.replace(task(), resources=Resources(1, 1000, 10, 1.0))
            assert policy.judge(seen(over, outcome, detail="why"), learnt(), capacity()).reason


# -- what Adaptive notices while a run goes on -------------------------------------------------------------------------


def released(number: int, elements: int, *, memory_mib: int = 2000, beside: int = 20) -> Task:
    return dataclasses.replace(task(chunk(elements), number=number, memory_mib=memory_mib), beside=beside)


def died(of: Task, *, submitted_s: float, at_s: float) -> Observation:
    over = seen(of, Outcome.OUT_OF_MEMORY, memory_mib=float(of.resources.memory_mib))
    return dataclasses.replace(over, submitted_s=submitted_s, started_s=submitted_s, finished_s=at_s)


def changed() -> Beliefs:
    """A line of many tasks, then a row of deaths that it does not explain."""
    beliefs = learnt()
    for number in range(4):
        over = died(released(100 + number, 64_000), submitted_s=100.0 + number, at_s=150.0)
        beliefs = beliefs.updated(over)
    return beliefs


def test_a_row_of_deaths_that_was_not_to_be_expected_is_a_change() -> None:
    before, after = learnt().about("processing"), changed().about("processing")
    assert (before.alarms, after.alarms) == (0, 1)
    assert after.changed_s == 100.0
    assert after.cautious > 0
    assert before.memory.line is not None
    assert after.memory.line is not None
    assert after.memory.line.median(64_000) > 2000 > before.memory.line.median(64_000)
    calm = learnt()
    for number in range(8):
        calm = calm.updated(died(released(100, 64_000), submitted_s=100.0 + 10 * number, at_s=150.0))
        for other in range(12):
            done = seen(task(chunk(64_000), number=200 + other), memory_mib=940.0, wall_s=7.0)
            calm = calm.updated(dataclasses.replace(done, submitted_s=200.0 + number))
    assert calm.about("processing").alarms == 0


def test_an_attempt_that_died_after_part_of_its_time_tells_how_much_it_would_have_needed() -> None:
    beliefs = learnt(s_per_element=1e-3)
    for number in range(4):
        over = died(released(100 + number, 64_000), submitted_s=100.0 + number, at_s=100.0 + number + 1.0 + 16.0)
        beliefs = beliefs.updated(over)
    line = beliefs.about("processing").memory.line
    assert line is not None
    # A quarter of the 64 s: from 300 MiB to 2000, so about 300 + 4 * 1700 at its end.
    assert line.median(64_000) == pytest.approx(7100, rel=0.1)


def test_the_last_tasks_are_not_held_up_by_a_slow_manager() -> None:
    wall = Line(floor=22.0, intercept=22.0, slope=0.0025, sigma=0.3, n=50.0)
    settings, size = Adaptive().settings, Size(50_000, 400, "", wall)
    # m tasks of n elements: 0.18 m for dispatch and 0.0025 n for the last are least at n = sqrt(left 0.18 / 0.0025).
    assert tail(size, 2e6, math.inf, settings, 0.18).elements == pytest.approx(12_000, rel=0.05)
    assert tail(size, 2e6, math.inf, settings, 0.0).elements < 12_000


def test_idle_slots_begin_on_few_heavy_elements_while_the_probes_run() -> None:
    large = capacity(32, 64_000)
    shapes = Adaptive().shapes(Beliefs(), large, backlog(64))
    # Two for every slot: no probe is larger, and all slots are busy.
    assert [shape.elements for shape in shapes] == [1, 2, 2, 1]
    assert shapes[-1].in_flight == 32
    # Where a slot's share is large, probes are a small part of it, and nothing is cut before they tell.
    assert [(shape.elements, shape.in_flight) for shape in Adaptive().shapes(Beliefs(), large, backlog(10**6))] == [
        (61, 1),
        (244, 2),
        (976, 3),
    ]


def test_slots_that_other_jobs_use_are_not_idle() -> None:
    busy = dataclasses.replace(capacity(32, 64_000), others=32)
    assert [shape.in_flight for shape in Adaptive().shapes(Beliefs(), busy, backlog(64))] == [1, 2, 3]
    half = dataclasses.replace(capacity(32, 64_000), others=16)
    assert Adaptive().shapes(Beliefs(), half, backlog(64))[-1].in_flight == 16


def test_no_slot_is_idle_to_save_a_fixed_cost() -> None:
    wall = Line(floor=10.0, intercept=10.0, slope=1.0, sigma=0.05, n=50.0)
    settings, size = Adaptive().settings, Size(500, 400, "", wall)
    # All slots are busy with something else: no more fixed costs than needed.
    assert tail(size, 2000, math.inf, settings, 0.0).elements > 50
    assert tail(size, 2000, 5.0, settings, 0.0).elements == 5


def test_what_ends_evenly_anyhow_is_one_wave() -> None:
    """Two tasks of 30 s that vary by a twentieth end a second apart: another fixed cost of 2 s would be more."""
    wall = Line(floor=2.0, intercept=2.0, slope=1e-3, sigma=0.05, n=50.0)
    settings, size = Adaptive().settings, Size(100_000, 2, "", wall)
    assert tail(size, 56_000, 28_000.0, settings, 0.0).elements == 28_000
    # Of many tasks the slowest is later, and where they vary more, so is one of two.
    many = Size(100_000, 200, "", wall)
    assert tail(many, 5_600_000, 28_000.0, settings, 0.0).elements < 25_000
    noisy = Size(100_000, 2, "", dataclasses.replace(wall, sigma=0.4))
    assert tail(noisy, 56_000, 28_000.0, settings, 0.0).elements < 25_000


def test_the_slowest_of_more_tasks_is_later() -> None:
    found = [late(slots) for slots in (1, 2, 8, 32, 100, 10_000)]
    assert found[0] == 0.0
    assert found[1] == pytest.approx(0.56, abs=0.04)  # 1 / sqrt(pi)
    assert found[2] == pytest.approx(1.42, abs=0.02)
    assert found == sorted(found)


def test_what_tasks_have_done_since_the_last_turn_counts() -> None:
    """Two tasks of 10 s were released together: when one has ended the other nearly has, and is not waited for."""
    flying, wall = InFlight(), Line(floor=1.0, intercept=1.0, slope=9e-3, sigma=0.05, n=50.0)
    one, two = released(1, 1000), released(2, 1000)
    flying.note({}, 100.0)
    stage = StageBacklog("processing", "merging", 0, 0, True, 1, 5000, None, 1000)
    done = dataclasses.replace(seen(one, wall_s=9.0), finished_s=109.0)
    flying.ended(done)
    assert flying.left(stage, wall) == pytest.approx(100.0)
    flying.note({two.id: two}, 109.0)
    assert flying.left(stage, wall) == pytest.approx(100.0)
    flying.note({two.id: two}, 200.0)
    assert flying.left(stage, wall) == 0.0


def test_the_last_round_waits_for_slots_to_fall_free() -> None:
    policy, beliefs, two = Adaptive(), learnt(), capacity(2, 16_000)
    shapes = policy.shapes(beliefs, two, backlog(400_000, in_flight=2))
    assert sum(shape.in_flight for shape in shapes) == 3  # one ahead, so that no slot waits for the manager
    assert policy.shapes(beliefs, two, backlog(1000, in_flight=2)) == []
    (shape,) = policy.shapes(beliefs, two, backlog(1000, in_flight=1))
    assert shape.in_flight == 2
    # One would hear too late of slots that other jobs free.
    (shape,) = Adaptive().shapes(beliefs, dataclasses.replace(two, others=1), backlog(1000, in_flight=1))
    assert shape.in_flight == 2


def test_the_last_round_of_one_stage_keeps_no_slot_from_others() -> None:
    """A task that fills a worker in memory leaves cores that others can use."""
    beliefs = learnt(slope=0.01, intercept=12_000.0)
    for number in range(4):
        light = dataclasses.replace(task(chunk(1000), number=100 + number), category="light")
        beliefs = beliefs.updated(seen(light, memory_mib=100.0, wall_s=1.0 + 0.01 * number))
    groups = [
        GroupBacklog("heavy", "", "processing", "split", 1, 0, 1, 1),
        GroupBacklog("light", "", "light", "split", 10**6, 0, 0, 0),
    ]
    whole = [
        StageBacklog("heavy", "merging", 0, 0, True, 1, 1, None, 1),
        StageBacklog("light", "merging", 0, 0, True, 0, 10**6, None, 0),
    ]
    shapes = Adaptive().shapes(beliefs, capacity(8, 16_000), Backlog(groups, whole))
    assert [shape.stage for shape in shapes] == ["light"]
    nothing_left = Backlog(groups[1:], whole)
    assert [shape.stage for shape in Adaptive().shapes(beliefs, capacity(8, 16_000), nothing_left)] == ["light"]


def test_idle_slots_share_what_is_left_where_they_are_the_more() -> None:
    wall = Line(floor=2.0, intercept=2.0, slope=1e-3, sigma=0.05, n=50.0)
    size = Size(100_000, 8, "", wall)
    assert even_share(size, 80_000.0, 8, 0) == 10_000
    assert even_share(size, 80_000.0, 5, 3) == 10_000
    assert even_share(size, 80_000.0, 3, 5) == math.inf
    assert even_share(size, 80_000.0, 0, 8) == math.inf
    # Of little it is not known how much the others still have to do.
    assert even_share(size, 800.0, 4, 4) == pytest.approx(2010)
    assert even_share(size, 800.0, 8, 0) == 100


def test_where_size_costs_no_time_the_last_tasks_are_not_cut() -> None:
    wall = Line(floor=2.0, intercept=2.0, slope=0.0, sigma=0.6, n=50.0)
    size = Size(100_000, 8, "", wall)
    settings = Adaptive().settings
    assert tail(size, 80_000.0, math.inf, settings, 0.0) == size
    assert tail(size, 80_000.0, 10_000.0, settings, 0.0).elements == 10_000  # slots are idle


def test_cores_that_concurrency_forbids_are_no_slots_to_be_filled() -> None:
    policy, beliefs, large = Adaptive(concurrency=1), learnt(s_per_element=1e-3), capacity(32, 64_000)
    left, sizes = 100_000, []
    while left:
        sizes.append(min(left, policy.shapes(beliefs, large, backlog(left))[-1].elements))
        left -= sizes[-1]
    assert len(sizes) < 8  # each costs 1 s more, and nothing ends earlier for it


def test_few_cores_probe_sizes_far_apart() -> None:
    shapes = Adaptive().shapes(Beliefs(), capacity(2, 16_000), backlog(40_000))
    assert [shape.elements for shape in shapes] == [39, 624]
    # Where cost counts the baseline is alone: a part that makes the whole hardly dearer, and less of it on many cores.
    alone = [
        Adaptive(goal="cost").shapes(Beliefs(), capacity(cores, 64_000), backlog(40_000))[0].elements
        for cores in (2, 8, 64)
    ]
    assert alone == [975, 218, 78]


def test_what_was_too_large_at_the_end_is_not_taken_back_for_being_small() -> None:
    """Sizes of the last tasks change with the slots that are idle: two and one in turn, for ever."""
    revision, waiting = Revision(Adaptive().settings), dataclasses.replace(capacity(4, 16_000), waiting=1)

    def taken_back(now_s: float, elements: int, wanted: int) -> bool:
        of = task(chunk(elements), number=int(now_s))
        revision.want("processing", "", wanted)
        return bool(revision.revise(learnt(), waiting, {of.id: of}, now_s))

    revision.want("processing", "", 4)
    assert taken_back(1000.0, 2, 1)
    assert not taken_back(2000.0, 1, 2)
    assert taken_back(3000.0, 1, 4)


def test_a_trial_is_worth_a_few_fixed_costs_and_no_more_of_a_small_stage() -> None:
    wall = {"s_per_element": 1e-3, "fixed_s": 1.0}
    known = learnt(**wall).remembered().about("processing")
    large = caution.first(40_000, 10**9, known)
    assert large == 10_000
    # 16 s for each slot: a quarter of it would be a round more, for a fixed cost.
    small = caution.first(16_000, 16_000.0, known)
    assert 7000 < small < 9000
    assert caution.first(5000, 5000.0, known) == 5000
    # However small the stage: nothing larger than a slot's share, or than has finished.
    assert caution.first(16_000, 4000.0, known) == 4000
    assert caution.first(5000, 5000.0, dataclasses.replace(known, largest_done=3000.0)) == 3000
    assert caution.first(16_000, 16_000.0, learnt(**wall).doubtful().about("processing")) == 1000


def test_one_task_proves_what_the_same_code_has_shown() -> None:
    beliefs = learnt().remembered()
    assert beliefs.about("processing").unproven
    good = seen(task(chunk(16_000), number=100), memory_mib=460.0, wall_s=2.6)
    assert not beliefs.updated(good).about("processing").cautious
    assert learnt().doubtful().updated(good).about("processing").cautious
    # A small one shows nothing of what each element takes.
    small = seen(task(chunk(300), number=100), memory_mib=303.0, wall_s=1.03)
    assert beliefs.updated(small).about("processing").cautious
    # One that does not fit what was shown begins a trial of what it has shown itself.
    bad = seen(task(chunk(16_000), number=100), memory_mib=4600.0, wall_s=2.6)
    assert beliefs.updated(bad).about("processing").cautious


def test_results_come_back_at_once_while_workers_are_lost_often() -> None:
    policy, beliefs = Adaptive(checkpoint_s=60.0), learnt()
    assert not policy.shapes(beliefs, capacity(), backlog())[-1].durable
    for number in range(10):
        lost = seen(task(chunk(64_000), number=100 + number), Outcome.LOST, wall_s=10.0)
        beliefs = beliefs.updated(lost)
    merging, *_, processing = policy.shapes(beliefs, capacity(), backlog(results=20))
    assert processing.durable
    assert merging.durable
    # Of what stays for a second little is lost.
    assert not Adaptive(checkpoint_s=1.0).shapes(beliefs, capacity(), backlog())[-1].durable


def test_after_a_change_sizes_are_small_and_what_is_likely_to_die_is_taken_back() -> None:
    policy, small = Adaptive(), capacity(4, 4000)
    usual = policy.shapes(learnt(), small, backlog())[-1].elements
    old, young = released(50, 64_000), released(51, 64_000)
    policy.revise(learnt(), small, {}, 50.0)
    policy.revise(learnt(), small, {old.id: old}, 120.0)
    policy.revise(learnt(), small, {old.id: old, young.id: young}, 130.0)
    taken = policy.revise(changed(), small, {old.id: old, young.id: young}, 160.0)
    assert [cancel.task_id for cancel in taken] == [young.id]
    assert not policy.revise(changed(), small, {old.id: old}, 161.0)
    assert policy.shapes(changed(), small, backlog())[-1].elements <= usual // 4


def test_tasks_that_wait_are_cut_anew_once_far_larger_ones_are_better() -> None:
    policy, small = Adaptive(), capacity(4, 4000)
    first = seen(task(chunk(1000)), memory_mib=310.0, wall_s=20.1)
    few = Beliefs().updated(first).updated(seen(task(chunk(2000), number=2), memory_mib=320.0, wall_s=20.2))
    cut = policy.shapes(few, small, backlog())[-1].elements
    waiting = [released(number, cut) for number in range(10, 16)]
    in_flight = {one.id: one for one in waiting}
    assert policy.revise(few, small, in_flight, 21.0) == ()
    policy.shapes(learnt(fixed_s=20.0), small, backlog())
    full = dataclasses.replace(small, waiting=2)
    found = policy.revise(learnt(fixed_s=20.0), full, in_flight, 22.0)
    assert [cancel.task_id for cancel in found] == [waiting[-1].id, waiting[-2].id]


def saturated() -> Beliefs:
    """After probes, and tasks beside forty that get 10,000 elements per second together."""
    beliefs = Beliefs()
    for number, n in enumerate((1000, 4000, 16_000)):
        alone = seen(released(number, n, beside=0), memory_mib=300.0, wall_s=10 + n * 1e-3, cpu_s=n * 1e-3)
        beliefs = beliefs.updated(alone)
    assert beliefs.about("processing").source_per_s is None
    for number in range(100):
        held_s = 16_000 * 40 / 10_000  # the source is never idle
        busy = released(10 + number, 16_000, beside=40)
        beliefs = beliefs.updated(seen(busy, memory_mib=300.0, wall_s=held_s, cpu_s=16.0))
    return beliefs


def test_a_source_that_gives_no_more_is_noticed() -> None:
    beliefs = saturated()
    given = beliefs.about("processing").source_per_s
    assert given == pytest.approx(10_000, rel=0.1)
    many = capacity(40, 400_000)
    fed = Adaptive().shapes(beliefs, many, backlog(10**9))[-1]
    unfed = Adaptive(without=["bandwidth"]).shapes(beliefs, many, backlog(10**9))[-1]
    assert fed.reason.startswith("bandwidth: tasks begin as fast as ")
    assert fed.in_flight < unfed.in_flight


def beside_four(held_s: float) -> GroupBeliefs:
    """Of a source that gives 2,500 elements per second, after tasks of 150 elements, four at once."""
    beliefs = Beliefs()
    for number, n in enumerate((100, 400, 1600) * 2):
        one = seen(released(number, n, beside=0), memory_mib=300.0, wall_s=0.1 + n * 1e-4, cpu_s=n * 1e-5)
        beliefs = beliefs.updated(one)
    about = beliefs.about("processing")
    wall = Model()
    for n, wall_s in ((80, 0.2), (80, 1.0), (150, 0.3), (150, 1.0), (220, 0.9), (220, 1.2)):
        wall = wall.observed(n, wall_s, None)
    return dataclasses.replace(
        about, wall=wall, source_per_s=2500.0, recent_held_s=held_s, recent_x=150.0, recent_beside=4.0
    )


def test_tasks_that_wait_for_the_source_however_little_they_ask_for_ask_for_more() -> None:
    settings, workers = Adaptive().settings, capacity(16, 64_000)
    waits, alone = (chunksize.best(beside_four(held_s), workers, settings, Pace()) for held_s in (1.0, 0.12))
    assert waits is not None
    assert alone is not None
    assert waits.elements == 4 * 150
    assert waits.elements > 2 * alone.elements


def test_as_many_ask_a_source_as_keep_it_busy_by_what_they_take_now() -> None:
    settings, workers = Adaptive(min_chunksize=600).settings, capacity(16, 64_000)
    waits, alone = (chunksize.best(beside_four(held_s), workers, settings, Pace()) for held_s in (1.0, 0.12))
    assert waits is not None
    assert alone is not None
    assert waits.elements == alone.elements == 600
    assert alone.slots * 600 < 2500 * 1.0 <= waits.slots * 600


def test_a_source_that_is_busy_stops_no_run_that_has_nothing_else_to_do() -> None:
    policy, many = Adaptive(), capacity(40, 400_000)
    idle = backlog(10**9, results=8)
    first = policy.shapes(saturated(), many, idle)[-1]
    busy = backlog(10**9, in_flight=first.in_flight, results=8)
    flying = [dataclasses.replace(stage, in_flight_elements=first.in_flight * first.elements) for stage in busy.stages]
    merges = policy.shapes(saturated(), many, Backlog(busy.groups, flying))
    assert [shape.elements for shape in merges] == [1]
    # All have ended at once: there may be nothing to merge yet.
    assert policy.shapes(saturated(), many, idle)[-1].elements == first.elements


def test_tasks_start_no_faster_than_the_source_feeds_them_and_never_none() -> None:
    feed = Feed()
    assert feed.most(1000, 500, 1000.0) == 7  # three seconds ahead, and a tenth more than is known to be there
    assert feed.most(1000, 500, 1000.0) == 0
    feed.now_s = 10.0
    assert feed.most(3, 500, 1000.0) == 3
    started = 0
    for second in range(20, 120):
        feed.now_s = float(second)
        started += feed.most(1000, 500, 1000.0)
    assert started * 500 == pytest.approx(1.1 * 100 * 1000, rel=0.05)
    assert feed.most(5, 10**9, 1000.0) == 0
    feed.now_s = 200.0
    assert feed.most(5, 10**9, 1000.0) == 1


def test_at_the_end_slow_merges_combine_fewer_results() -> None:
    def ends(merge_s_per_mib: float, fixed_s: float) -> int | None:
        beliefs = learnt()
        for number, mib in enumerate((8, 32, 128)):
            merge = Merge(("1.1", "1.2"), 10, mib * 2**20, "accumulating")
            beliefs = beliefs.updated(seen(task(merge, number=300 + number), wall_s=fixed_s + merge_s_per_mib * mib))
        left = StageBacklog("processing", "accumulating", 40, 0, False, 0, 0, 4 * 2**20)
        return Adaptive().shapes(beliefs, capacity(), Backlog([], [left]))[0].fan_in

    slow, cheap = ends(1.0, 0.1), ends(0.001, 5.0)
    assert slow is not None
    assert cheap is not None
    assert slow < 8 < cheap


def test_what_another_run_has_learnt_is_used_and_not_trusted() -> None:
    small = capacity(4, 4000)
    warm, known = learnt().remembered(), learnt()
    assert warm.about("processing").done == 0
    first = Adaptive().shapes(warm, small, backlog())[-1]
    usual = Adaptive().shapes(known, small, backlog())[-1]
    assert 1000 < first.elements <= usual.elements // 4
    assert Adaptive().allocate(chunk(first.elements), warm, small).memory_mib == 1000
    for number in range(8):
        n = first.elements
        warm = warm.updated(seen(task(chunk(n), number=number), memory_mib=300 + 0.01 * n, wall_s=1 + 1e-4 * n))
    assert Adaptive().shapes(warm, small, backlog())[-1].elements > usual.elements // 2


def test_groups_that_are_on_trial_share_the_workers_until_some_of_each_have_finished() -> None:
    """Else one after the other would be through with nothing but small tasks."""
    workers, names = capacity(4, 4000, 16), ("a", "b", "c", "d")

    def shapes(in_flight: int) -> dict[str, int]:
        groups = [
            GroupBacklog("processing", name, "processing", "split", 10**7, 0, in_flight, in_flight * 10)
            for name in names
        ]
        stage = StageBacklog("processing", "accumulating", 0, 0, True, 4 * in_flight, 4 * 10**7)
        found = Adaptive().shapes(learnt().remembered(), workers, Backlog(groups, [stage]))
        return {shape.group: shape.in_flight for shape in found}

    begun = shapes(0)
    assert set(begun) == set(names)
    assert all(8 <= count <= 17 for count in begun.values())  # of 64 slots, and those ahead
    assert shapes(17) == {}


@pytest.mark.parametrize("wrong", ["tail", ["tails"], ["tail", 1]])
def test_only_ingredients_can_be_left_out(wrong: object) -> None:
    with pytest.raises(BadInput, match="without is a collection of probes, risk"):
        Adaptive(without=wrong)  # type: ignore[arg-type]


def test_no_more_tasks_at_once_than_allowed() -> None:
    wanted = Adaptive(concurrency=3).shapes(learnt(), capacity(16, 64_000), backlog(in_flight=1))
    assert [shape.in_flight for shape in wanted] == [3]
