"""Several stages in one run: some beside each other, some after others, whose values are their datasets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper import Source, Stage
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Changed, Incomplete, ProcessFailed
from shaper.types import Chunk, Task, Usage
from tests.conftest import ROOT


def total(a: Any, b: Any) -> Any:
    return a + b


def count(chunk: Chunk) -> int:
    return chunk.elements


def squares(chunk: Chunk) -> list[int]:
    return sorted(number**2 for span in chunk.spans for number in range(span.start, span.stop))


def per_value(values: list[int]) -> list[Source]:
    """A source for each value, as long as the value."""
    return [Source(f"v{value}", value, payload=value) for value in sorted(values) if value]


def payloads(chunk: Chunk) -> dict[int, int]:
    return {span.source.payload: len(span) for span in chunk.spans}


def added(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {*a, *b}}


def fails(chunk: Chunk) -> int:
    raise ValueError("as it should")


def refuses(*values: Any) -> Any:
    raise LookupError(f"nothing in {values}")


def run(stages: list[Stage], tmp_path: Path, **options: Any) -> Any:
    return shaper.run(stages, run_dir=tmp_path / "run", progress=False, cores=2, memory="1GB", **options)


FIRST = Stage("first", {"a": 5}, squares, total)
LENGTHS = Stage("lengths", per_value, payloads, added, after=["first"])


def test_the_value_of_a_stage_is_the_dataset_of_the_next(tmp_path: Path) -> None:
    last = Stage(
        "last", lambda values, by: {"all": len(values) + sum(by.values())}, count, total, after=("first", "lengths")
    )
    result = run([FIRST, LENGTHS, last], tmp_path)
    assert result.value == {
        "first": [0, 1, 4, 9, 16],
        "lengths": {1: 1, 4: 4, 9: 9, 16: 16},
        "last": 5 + 30,
    }
    lines = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines if line["kind"] == "stage" and line["elements"] > 1] == ["lengths", "last"]


def test_a_failed_stage_stops_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    stages = [
        Stage("bad", {"a": 3}, fails, total),
        Stage("good", {"a": 30}, count, total),
        Stage("after bad", lambda value: {"b": value}, count, total, after=["bad"]),
        Stage("also after bad", {"c": 7}, count, total, after=["after bad", "good"]),
        Stage("after good", lambda value: {"d": value}, count, total, after=["good"]),
    ]
    with pytest.raises(ProcessFailed, match=r"stage 'after bad': not begun: stage 'bad', which it waits for") as found:
        run(stages, tmp_path)
    assert "stage 'also after bad': not begun: stage 'after bad'" in str(found.value)
    partial = found.value.partial
    assert {name: partial.get(name) for name in ("good", "after good")} == {"good": 30, "after good": 30}


def test_a_dataset_function_that_raises_is_named_with_its_error(tmp_path: Path) -> None:
    stages = [FIRST, Stage("second", refuses, count, total, after=["first"]), Stage("free", {"a": 3}, count, total)]
    with pytest.raises(ProcessFailed, match=r"dataset of second.*LookupError: nothing in") as found:
        run(stages, tmp_path)
    assert found.value.partial["free"] == 3
    assert isinstance(found.value.__cause__, LookupError)


def test_a_dataset_that_turns_out_empty_is_named(tmp_path: Path) -> None:
    stages = [FIRST, Stage("second", lambda values: {}, count, total, after=["first"])]
    with pytest.raises(Incomplete, match="the dataset is empty"):
        run(stages, tmp_path)


SCRIPT = """
import os, signal, sys
import shaper
from shaper import Stage
from tests.engines.test_stages import count, payloads, per_value, squares, total, added

def once(chunk):
    with open(sys.argv[2], "a") as log:
        log.write("first\\n")
    return squares(chunk)

def dies(chunk):
    if not os.path.exists(sys.argv[2] + ".again"):
        os.kill(int(os.environ["MANAGER"]), signal.SIGKILL)
    return payloads(chunk)

os.environ["MANAGER"] = str(os.getpid())
extra = [Stage("extra", {"e": 1}, count, total)] if len(sys.argv) > 3 and sys.argv[3] == "extra" else []
first = {"a": 5 if len(sys.argv) < 4 or sys.argv[3] != "other" else 6}
stages = [Stage("first", first, once, total), Stage("second", per_value, dies, added, after=["first"])]
print(shaper.run(stages + extra, run_dir=sys.argv[1], progress=False, cores=1, memory="1GB").value)
"""


def test_a_run_killed_in_its_second_stage_goes_on_there(tmp_path: Path) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)

    def start(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), str(tmp_path / "run"), str(log), *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)

    assert start().returncode == -signal.SIGKILL
    Path(f"{log}.again").touch()
    before = log.read_text()
    again = start()
    assert again.returncode == 0, again.stderr
    assert "'second': {" in again.stdout
    assert log.read_text() == before
    other = start("other")
    assert "source 'a' has changed" in other.stderr


def test_stages_that_wait_run_in_the_simulator_too() -> None:
    def cost(task: Task, rng: Any) -> Usage:
        return Usage(wall_s=1.0, memory_mib=100.0, result_bytes=10)

    stages = [
        Stage("a", {"x": 100}),
        Stage("b", lambda n: {"y": 2 * n}, after=["a"]),
        Stage("c", {"z": 1}, after=["b"]),
    ]
    result = shaper.run(stages, engine=Simulated([WorkerSpec(4, 4000, 1)], cost))
    assert result.value == {"a": 100, "b": 200, "c": 1}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([FIRST, FIRST], "two stages are named 'first'"),
        ([Stage("x", {"a": 1}, count, total, after=["y"])], "waits for 'y', which is not a stage before it"),
        ([Stage("x", {"a": 1}, count, total, after="first")], "after is a sequence of names"),
        ([Stage("x", lambda: {"a": 1}, count, total)], "after is empty"),
    ],
)
def test_stages_that_cannot_be_ordered_are_refused(stages: list[Stage], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        run(stages, tmp_path)


def test_other_stages_than_before_are_refused(tmp_path: Path) -> None:
    run([FIRST, LENGTHS], tmp_path)
    with pytest.raises(Changed, match=r"holds the stages first, lengths\.dataset, lengths, not first"):
        run([FIRST], tmp_path)
