"""I/O errors: when a piece is run again, after how long, and when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.models import Beliefs
from shaper.policy import outage, verdict
from shaper.types import GiveUp, Merge, Observation, Outcome, Pause, Retry, Shape, Split, Task
from tests.unit.factories import chunk, seen, task


def failed(of: Task, at_s: float) -> Observation:
    one = seen(of, Outcome.FAILED, detail="OSError: no answer\nTraceback")
    return replace(one, submitted_s=at_s - 1.0, started_s=at_s - 1.0, finished_s=at_s, io_error=True)


def done(of: Task, began_s: float, at_s: float) -> Observation:
    return replace(seen(of), submitted_s=began_s, started_s=began_s, finished_s=at_s)


def judged(one: Observation, beliefs: Beliefs, retries: int = 1) -> object:
    return verdict.judge(one, beliefs, retries=retries, exhausted=lambda _: GiveUp("not asked"), patience_s=1000.0)


def again(one: Observation, found: object) -> Task:
    assert isinstance(found, Retry)
    assert found.pause is not None
    return replace(one.task, attempt=one.task.attempt + 1, pause=found.pause)


def life(beliefs: Beliefs, of: Task, at_s: float) -> tuple[list[float], object, Beliefs]:
    """A piece that fails whenever it is run: its pauses, and the verdict that is no retry."""
    pauses: list[float] = []
    while True:
        one = failed(of, at_s)
        beliefs = beliefs.updated(one)
        found = judged(one, beliefs)
        if not isinstance(found, Retry):
            return pauses, found, beliefs
        of = again(one, found)
        assert of.pause is not None
        pauses.append(round(of.pause.until_s - at_s, 6))
        at_s = of.pause.until_s + 1.0


WORKED = Beliefs().updated(done(task(chunk(10, "z")), 0.0, 1.0))


def test_pauses_double_up_to_half_a_minute() -> None:
    beliefs = WORKED.updated(failed(task(chunk(10, "b")), 9.0))
    pauses, found, _ = life(beliefs, task(chunk(10, "a")), 10.0)
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert 1000.0 - 31.0 <= sum(pauses) + len(pauses) <= 1000.0 + 31.0
    assert isinstance(found, GiveUp)
    assert found.reason.startswith("OSError: no answer; the same for 17 min")


def test_of_one_source_alone_less_is_believed() -> None:
    pauses, found, _ = life(WORKED, task(chunk(10, "z")), 10.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert isinstance(found, GiveUp)


def test_a_file_that_was_never_read_is_soon_taken_to_be_bad() -> None:
    pauses, found, _ = life(WORKED, task(chunk(10, "a")), 10.0)
    assert pauses == [1.0, 2.0]
    assert isinstance(found, GiveUp)


def test_where_nothing_has_worked_yet_it_is_told_within_seconds() -> None:
    pauses, found, _ = life(Beliefs().updated(failed(task(chunk(10, "b")), 9.0)), task(chunk(10, "a")), 10.0)
    assert pauses == [1.0, 2.0]
    assert found == GiveUp("OSError: no answer")


def test_a_piece_that_fails_while_others_are_served_is_bad_itself() -> None:
    one = failed(task(chunk(10, "a")), 10.0)
    beliefs = WORKED.updated(one)
    second = again(one, judged(one, beliefs))
    beliefs = beliefs.updated(done(task(chunk(10, "b")), 10.5, 11.0))
    last = failed(second, 12.0)
    assert judged(last, beliefs.updated(last)) == GiveUp("OSError: no answer")


def test_what_began_before_the_failure_proves_nothing() -> None:
    one = failed(task(chunk(10, "a")), 10.0)
    beliefs = WORKED.updated(one)
    second = again(one, judged(one, beliefs))
    beliefs = beliefs.updated(done(task(chunk(10, "b")), 9.5, 11.0))
    last = failed(second, 12.0)
    assert isinstance(judged(last, beliefs.updated(last)), Retry)


def test_of_a_piece_of_several_sources_each_is_run_on_its_own() -> None:
    one = failed(task(chunk(10, "a", "b")), 10.0)
    found = judged(one, WORKED.updated(one))
    assert isinstance(found, Split)
    assert len(found.pieces) == 2


def test_a_piece_of_several_sources_stays_whole_in_an_outage_and_is_split_before_anything_is_given_up() -> None:
    beliefs = WORKED.updated(failed(task(chunk(10, "c", "d")), 9.0))
    pauses, found, _ = life(beliefs, task(chunk(10, "a", "b")), 10.0)
    assert sum(pauses) > 900.0
    assert isinstance(found, Split)
    assert len(found.pieces) == 2


def test_excused_failures_do_not_count_as_retries() -> None:
    of = task(chunk(10, "a"), attempt=7)
    of = replace(of, pause=Pause(0.0, 20.0, 30.0, 6, 5))
    ordinary = seen(of, Outcome.FAILED, detail="KeyError: 'x'")
    assert isinstance(judged(ordinary, WORKED, retries=2), Retry)
    assert isinstance(judged(ordinary, WORKED, retries=1), GiveUp)


def test_a_merge_with_an_io_error_is_a_failure_like_any() -> None:
    of = task(Merge(("1.1", "1.2"), 20))
    first, last = failed(of, 10.0), failed(replace(of, attempt=2), 11.0)
    assert judged(first, WORKED.updated(first)) == Retry(of.resources, "failed, once more: OSError: no answer")
    assert isinstance(judged(last, WORKED.updated(last)), GiveUp)


def test_new_pieces_are_held_while_nothing_but_io_errors_comes_back() -> None:
    shapes = [Shape("processing", "", None, 10, 4, "because"), Shape("processing", "", None, 1, 1, "merge", fan_in=8)]
    beliefs = WORKED
    for number, name in enumerate("abcd"):
        assert outage.held(shapes, beliefs) == shapes
        beliefs = beliefs.updated(failed(task(chunk(10, name)), 10.0 + number))
    assert [shape.fresh for shape in outage.held(shapes, beliefs)] == [False, True]
    beliefs = beliefs.updated(done(task(chunk(10, "e")), 20.0, 21.0))
    assert outage.held(shapes, beliefs) == shapes


def test_other_groups_are_not_held() -> None:
    beliefs = WORKED
    for name in "abcd":
        beliefs = beliefs.updated(failed(task(chunk(10, name, group="away")), 10.0))
    shapes = [replace(Shape("processing", "", None, 10, 4, "because"), group=name) for name in ("away", "there")]
    assert [shape.fresh for shape in outage.held(shapes, beliefs)] == [False, True]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0.0, 5.0)), max_size=40))
def test_a_pause_always_ends_and_patience_bounds_all_of_them(events: list[tuple[str, bool, float]]) -> None:
    """Whatever else happens in between, a piece that always fails is given up."""
    beliefs, of, at_s = WORKED, task(chunk(10, "a")), 2.0
    for name, well, gap_s in events:
        at_s += gap_s
        beliefs = beliefs.updated(
            done(task(chunk(10, name)), at_s - 0.5, at_s) if well else failed(task(chunk(10, name)), at_s)
        )
    pauses, found, _ = life(beliefs, of, at_s)
    assert isinstance(found, GiveUp)
    assert sum(pauses) <= 1000.0 + 31.0
    assert all(0.0 < pause <= 30.0 for pause in pauses)


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, IsADirectoryError])
def test_what_is_about_the_file_is_no_io_error(error: type[OSError]) -> None:
    from shaper.monitor.child import _is_io_error

    assert not _is_io_error(error("gone"))
    assert _is_io_error(TimeoutError("slow"))
    wrapped = ValueError("cannot process")
    wrapped.__cause__ = OSError("[FATAL] Connection error")
    assert _is_io_error(wrapped)
    wrapped.__cause__ = error("gone")
    assert not _is_io_error(wrapped)
