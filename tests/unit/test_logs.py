"""What tasks print is bounded: each file when its task ends, the folder over a run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.engines.logs import Logs
from shaper.monitor import logs
from shaper.types import Outcome


@given(st.integers(0, 300_000))
def test_a_log_keeps_its_beginning_and_its_end(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "log.out"
    text = b"".join(b"%09d\n" % number for number in range(-(-size // 10)))[:size]
    path.write_bytes(text)
    assert logs.cut(path) == path.stat().st_size <= logs.MOST_BYTES
    found = path.read_bytes()
    if size <= logs.MOST_BYTES:
        assert found == text
        return
    said = re.search(rb"\n\.\.\. (\d+) bytes are left out \.\.\.\n", found)
    assert said is not None
    head, tail = found[: said.start()], found[said.end() :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert min(len(head), len(tail)) > logs.MOST_BYTES // 3
    assert len(head) + int(said[1]) + len(tail) == size


def test_a_log_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert logs.cut(tmp_path / "log.out") == 0
    assert not (tmp_path / "log.out").exists()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_logs_of_tasks_that_went_well_make_room_first_the_oldest_before_others(tmp_path: Path) -> None:
    kept = Logs(tmp_path / "logs", most_bytes=5 * 4096)
    outcomes = [Outcome.FAILED, Outcome.DONE, Outcome.CANCELLED, Outcome.OUT_OF_MEMORY, Outcome.LOST]
    for number, outcome in enumerate(outcomes):
        kept.write(f"1.{number}", (b"said", b""))
        kept.keep(f"1.{number}", outcome)
    everything = {f"1.{number}.out" for number in range(5)}
    assert names(tmp_path / "logs") == everything
    for name, left in (("2.1", "1.1.out"), ("2.2", "1.2.out"), ("2.3", "1.0.out"), ("2.4", "1.3.out")):
        kept.write(name, (b"", b"said"))
        kept.keep(name, Outcome.FAILED)
        everything = everything - {left} | {f"{name}.err"}
        assert names(tmp_path / "logs") == everything
    # Of those that go wrong the last are kept; one that goes well has no place among them.
    kept.write("3.1", (b"said", b""))
    kept.keep("3.1", Outcome.DONE)
    assert names(tmp_path / "logs") == everything


def test_a_task_that_runs_again_under_its_name_counts_once(tmp_path: Path) -> None:
    kept = Logs(tmp_path, most_bytes=2 * 4096)
    for name in ("1.1", "1.2", "1.2", "1.2"):
        kept.write(name, (b"said", b""))
        kept.keep(name, Outcome.FAILED)
    assert names(tmp_path) == {"1.1.out", "1.2.out"}


def test_what_an_earlier_session_left_is_bounded_and_goes_first(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"1.{number}.out").write_bytes(b"x" * 4096)
        os.utime(tmp_path / f"1.{number}.out", (number, number))
    (tmp_path / "of the user").write_text("left alone")
    kept = Logs(tmp_path, most_bytes=3 * 4096)
    assert names(tmp_path) == {"of the user", "1.1.out", "1.2.out", "1.3.out"}
    for number in range(2):
        kept.write(f"2.{number}", (b"said", b""))
        kept.keep(f"2.{number}", Outcome.DONE)
    assert names(tmp_path) == {"of the user", "1.3.out", "2.0.out", "2.1.out"}


def test_a_long_log_counts_as_what_is_left_of_it(tmp_path: Path) -> None:
    kept = Logs(tmp_path, most_bytes=2 * logs.MOST_BYTES)
    for name in ("1.1", "1.2"):
        kept.write(name, (b"x" * 10**6, b""))
        kept.keep(name, Outcome.DONE)
    assert names(tmp_path) == {"1.1.out", "1.2.out"}
