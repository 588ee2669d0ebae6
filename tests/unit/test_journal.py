import json
from pathlib import Path

import pytest

from shaper import journal
from shaper.errors import Changed, Damaged
from shaper.journal import Journal
from shaper.ledger import StagePlan
from shaper.types import Accept, Merge, Observation, Outcome, ResultRef, Retry, Source, Usage
from tests.unit.factories import chunk, task

PLAN = StagePlan("processing", (Source("a", 10**9), Source("b", 10**9)))


def done(name: str, work: object) -> Observation:
    import dataclasses

    ran = dataclasses.replace(task(work), id=name)  # type: ignore[arg-type]
    return Observation(ran, Outcome.DONE, Usage(), 0, 0, 1, result=ResultRef(f"results/{name}.pkl", 7, "abcd1234"))


def written(path: Path) -> Journal:
    made = Journal(path, 1)
    made.open_stage(PLAN, "f", known=False)
    made.record(done("1.1", chunk(100)), Accept())
    made.record(done("1.2", chunk(100, "b")), Accept())
    return made


def test_a_merge_replaces_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    made = written(path)
    made.record(done("1.3", Merge(("1.1", "1.2"), 200)), Accept())
    made.record(done("1.4", chunk(50)), Retry(task().resources))
    made.close()
    past = journal.read(path)
    assert past.sessions == 1
    assert {name: settled.result.ranges for name, settled in past.results.items()} == {
        "1.3": ((0, 0, 100), (1, 0, 100))
    }
    assert past.results["1.3"].ref == ResultRef("results/1.3.pkl", 7, "abcd1234")


def test_lost_results_are_forgotten_and_skipped_spans_kept(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    made = written(path)
    made.lost(["1.1"])
    work = chunk(100, "a", "b")
    made.record(done("1.5", work), Accept(work.spans[:1]))
    made.close()
    past = journal.read(path)
    assert set(past.results) == {"1.2", "1.5"}
    assert past.skipped["processing"] == [(0, 0, 50, "skipped by the process function")]
    assert past.results["1.5"].result.ranges == ((1, 0, 50),)


def test_a_cut_last_line_is_dropped_and_the_next_session_does_not_continue_it(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    written(path).close()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="the last line is cut off"):
        assert set(journal.read(path).results) == {"1.1"}
    Journal(path, 2).close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["session", "stage", "done", "session"]


@pytest.mark.parametrize("damaged", [None, b"1\n", b'{"kind": "done"}\n', b"\xff\n"])
def test_a_last_line_that_cannot_be_read_is_dropped_whole_as_it_is(tmp_path: Path, damaged: bytes | None) -> None:
    path = tmp_path / journal.NAME
    written(path).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1][:-5] + b"\n" if damaged is None else damaged]))
    with pytest.warns(UserWarning, match="the last line cannot be read"):
        assert set(journal.read(path).results) == {"1.1"}
    Journal(path, 2).close()
    assert set(journal.read(path).results) == {"1.1"}


def test_a_line_that_was_removed_takes_the_merges_of_its_result_along_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    made = written(path)
    made.record(done("1.3", Merge(("1.1", "1.2"), 200)), Accept())
    made.close()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"1.1","stage"' not in line))
    assert set(journal.read(path).results) == {"1.2"}


def test_a_session_that_was_killed_between_two_stages_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    written(path).close()
    journal.check(journal.read(path), {"processing": "f", "other": "g"}, tmp_path)
    with pytest.raises(Changed, match="holds the stages processing"):
        journal.check(journal.read(path), {"other": "g"}, tmp_path)


def test_a_corrupt_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    written(path).close()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{broken\n", *lines[2:]]))
    with pytest.raises(Damaged, match="line 3 cannot be read"):
        journal.read(path)
