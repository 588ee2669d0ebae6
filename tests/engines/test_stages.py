"""Several stages in one run: some beside each other, some after others, whose values are their datasets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper import Source, Stage
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Changed, Incomplete, ProcessFailed
from shaper.simulation.replay import replay
from shaper.simulation.simulate import simulate
from shaper.types import Chunk, Task, Usage
from tests.conftest import ROOT
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine


def total(a: Any, b: Any) -> Any:
    """Results are merged in any order."""
    return sorted(a + b) if isinstance(a, list) else a + b


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
    assert partial == {"bad": None, "good": 30, "after bad": None, "also after bad": None, "after good": 30}


def test_a_dataset_function_that_raises_is_named_with_its_error(tmp_path: Path) -> None:
    stages = [FIRST, Stage("second", refuses, count, total, after=["first"]), Stage("free", {"a": 3}, count, total)]
    with pytest.raises(ProcessFailed, match=r"dataset of second.*LookupError: nothing in") as found:
        run(stages, tmp_path)
    assert found.value.partial["free"] == 3
    assert isinstance(found.value.__cause__, LookupError)


@pytest.mark.parametrize("nothing", [{}, [Source("none", 0)]])
def test_a_dataset_that_turns_out_empty_is_done_with_the_value_none(nothing: Any, tmp_path: Path) -> None:
    stages = [
        FIRST,
        Stage("second", lambda values: nothing, count, total, after=["first"]),
        Stage("third", lambda value: {"a": 3 if value is None else 4}, count, total, after=["second"]),
    ]
    values = {"first": [0, 1, 4, 9, 16], "second": None, "third": 3}
    assert run(stages, tmp_path).value == values
    assert run(stages, tmp_path).value == values, "a run that goes on"
    found, _ = simulated([FIRST, stages[1], stages[2]])
    assert found.value == {"first": 5, "second": None, "third": 3}


def test_a_dataset_given_up_front_that_is_empty_is_refused(tmp_path: Path) -> None:
    for dataset, said in (({}, "it names no source"), ({"a": 0}, "zero elements")):
        with pytest.raises(BadInput, match=said):
            run([FIRST, Stage("second", dataset, count, total, after=["first"])], tmp_path)


def test_what_is_no_list_of_stages_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to run: the list of stages, or of sources, is empty"):
        run([], tmp_path)
    with pytest.raises(BadInput, match="a list of stages holds nothing else, got dict"):
        run([FIRST, {"a": 3}], tmp_path)  # type: ignore[list-item]


SCRIPT = """
import os, signal, sys
import shaper
from shaper import Stage
from tests.engines.test_stages import added, count, payloads, per_value, squares, total

run_dir, log, further, what = sys.argv[1:]
turn = when = kills = 0

def step():
    global turn
    turn += 1
    if turn == when:
        os.kill(os.getpid(), signal.SIGKILL)

class Killing(shaper.policy.Fixed):
    "Ends this process where it has been asked so often: before tasks are released, or before one that ended counts."
    def shapes(self, beliefs, capacity, backlog):
        step()
        return super().shapes(beliefs, capacity, backlog)
    def judge(self, seen, beliefs, capacity):
        step()
        return super().judge(seen, beliefs, capacity)

def logged(name, function):
    def process(chunk):
        with open(log, "a") as file:
            file.write(name)
        return function(chunk)
    return process

def found_otherwise(values):
    return per_value(list(values))

found = per_value if what != "function" else found_otherwise

def after_all(values, by):
    return {"all": len(values) + sum(by.values())}

def session():
    stages = [
        Stage("first", {"a": 6 if what == "input" else 5}, logged("first", squares), total),
        Stage("beside", {"b": 4}, logged("beside", squares if what == "process" else count), total),
        Stage("second", found, logged("second", payloads), added, after=["first"]),
        Stage("last", after_all, logged("last", count), total, after=["first", "second"]),
    ]
    policy = Killing(4, shaper.Resources(1, 200))
    result = shaper.run(stages, policy=policy, run_dir=run_dir, progress=False, cores=1, memory="1GB")
    value = result.value
    print(sorted(value["first"]), value["beside"], sorted(value["second"].items()), value["last"])
    print(kills, result.report.elements_before, flush=True)

if not int(further):
    session()
while int(further):  # every session gets a little further than the one before
    when = 3 + int(further) * kills
    child = os.fork()
    if not child:
        session()
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
    kills += 1
"""
WHOLE = "[0, 1, 4, 9, 16] 4 [(1, 1), (4, 4), (9, 9), (16, 16)] 35"
DATASETS = 2


def start(tmp_path: Path, further: int = 0, what: str = "") -> tuple[list[str], str]:
    """Run it to its end; what it printed, and what it said of errors."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(tmp_path / "run"), str(tmp_path / "log"), str(further), what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, check=False)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("further", [2, *(pytest.param(n, marks=pytest.mark.chaos) for n in (1, 3, 4))])
def test_a_run_whose_manager_is_killed_at_any_moment_goes_on_where_it_was(tmp_path: Path, further: int) -> None:
    # Sessions end before and after the end of a stage, of the search for a dataset, of a merge.
    said, errors = start(tmp_path, further)
    assert said, errors
    assert said[0] == WHOLE
    assert int(said[1].split()[0]) >= 3, "kills"


def test_of_a_finished_run_nothing_is_done_again_and_what_has_changed_of_one_stage_is_named(tmp_path: Path) -> None:
    assert start(tmp_path)[0][0] == WHOLE
    before = (tmp_path / "log").read_text()
    again, _ = start(tmp_path)
    assert again == [WHOLE, f"0 {5 + 4 + 30 + 35 + DATASETS}"]
    for what, said in {
        "input": "source 'a' has changed",
        "process": "the process or merge function of stage 'beside' has changed",
        "function": "the dataset function of stage 'second' has changed",
    }.items():
        assert f"Changed: {said}" in start(tmp_path, what=what)[1]
    assert (tmp_path / "log").read_text() == before


@pytest.mark.parametrize("engine", list(PROGRAMS))
def test_workers_find_a_dataset_too(engine: str, tmp_path: Path) -> None:
    needs_engine(engine)
    port, here = free_port(), os.getpid()

    def elsewhere(values: list[int]) -> list[Source]:
        assert os.getpid() != here
        return per_value(values)

    stages = [
        Stage("two words", elsewhere, payloads, added, after=["first"]),
        FIRST,
        Stage("stopped", refuses, count, total, after=["first"]),
    ]
    with Worker(PROGRAMS[engine], port, tmp_path), pytest.raises(ProcessFailed, match="'stopped': not begun") as found:
        shaper.run(stages, engine=engine, port=port, run_dir=tmp_path / "run", progress=False)
    assert found.value.partial["two words"] == {1: 1, 4: 4, 9: 9, 16: 16}
    assert sorted(found.value.partial["first"]) == [0, 1, 4, 9, 16]


def cost(task: Task, rng: Any) -> Usage:
    return Usage(wall_s=rng.uniform(0.5, 1.5) * task.work.elements, memory_mib=100.0, result_bytes=10)


def simulated(stages: list[Stage], **options: Any) -> tuple[Any, Simulated]:
    engine = Simulated([WorkerSpec(4, 4000, 2), WorkerSpec(4, 4000, 2, leaves_s=50.0)], cost, seed=3)
    return shaper.run(stages, engine=engine, **options), engine


def test_stages_in_the_simulator_are_the_same_to_the_byte(tmp_path: Path) -> None:
    stages = [
        Stage("last", {"z": 40}, after=["doubled", "beside"]),
        Stage("doubled", lambda n: {f"y{i}": n // 10 for i in range(20)}, after=["a"]),
        Stage("a", {"x": 100}),
        Stage("beside", {"w": 300}),
    ]
    runs = [simulated(stages, run_dir=tmp_path / name) for name in ("one", "two")]
    assert runs[0][0].value == {"last": 40, "doubled": 200, "a": 100, "beside": 300}
    journals = [(tmp_path / name / "records.jsonl").read_text().splitlines()[1:] for name in ("one", "two")]
    assert journals[0] == journals[1]
    tasks = [json.loads(line) for line in journals[0] if '"kind":"task"' in line]
    spans = {
        name: (
            min(t["started_s"] for t in tasks if t["stage"] == name and t["started_s"] is not None),
            max(t["finished_s"] for t in tasks if t["stage"] == name),
        )
        for name in runs[0][0].value
    }
    assert spans["beside"][0] < spans["a"][1], "several at once"
    assert spans["doubled"][0] >= spans["a"][1]
    assert spans["last"][0] >= max(spans["doubled"][1], spans["beside"][1])


def test_a_stage_named_like_the_merges_of_another_learns_by_itself() -> None:
    found, _ = simulated([Stage("x", {"a": 20}), Stage("x_merge", lambda values: {"b": 30}, after=["x"])])
    assert set(found.beliefs.categories) == {"x", "x_merge", "merges of x", "merges of x_merge"}


def test_a_recorded_run_is_replayed_with_what_waits_for_what(tmp_path: Path) -> None:
    last = Stage("last", lambda by: {"all": sum(by.values())}, count, total, after=["lengths"])
    run([FIRST, LENGTHS, last], tmp_path)
    case = replay(tmp_path / "run")
    assert {name: stage.after for name, stage in case.stages.items()} == {
        "first": (),
        "lengths": ("first",),
        "last": ("lengths",),
    }
    assert simulate(case, shaper.policy.Adaptive()).elements == 5 + 30 + 30
    rest = replay(tmp_path / "run", {"first": 0, "lengths": 30, "last": 30})
    assert {name: stage.after for name, stage in rest.stages.items()} == {"lengths": (), "last": ("lengths",)}


def test_a_dataset_function_that_raises_in_the_simulator_stops_what_depends_on_it_alone() -> None:
    stages = [Stage("a", {"x": 10}), Stage("b", refuses, after=["a"]), Stage("c", {"y": 5}, after=["b"])]
    with pytest.raises(
        Incomplete, match=r"stage 'b': not begun: .*LookupError: nothing in \(10,\); stage 'c'"
    ) as found:
        simulated(stages)
    assert found.value.partial == {"a": 10, "b": None, "c": None}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([FIRST, FIRST], "two stages are named 'first'"),
        ([Stage("x", {"a": 1}, count, total, after=["y"])], "stage 'x' waits for 'y', which is none of the stages x"),
        ([Stage("x", lambda: {"a": 1}, count, total)], "after is empty"),
        (
            [Stage("x", {"a": 1}, count, total, after=["x"])],
            "wait for each other, so none can begin: 'x' waits for 'x'",
        ),
        (
            [FIRST, *(Stage(a, {"a": 1}, count, total, after=[b]) for a, b in ("xy", "yz", "zx"))],
            "none can begin: '[xyz]' waits for '[xyz]' waits for '[xyz]' waits for '[xyz]'$",
        ),
        ([Stage("dataset of x", {"a": 1}, count, total)], "cannot begin with 'dataset of '"),
    ],
)
def test_stages_that_cannot_be_ordered_are_refused(stages: list[Stage], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        run(stages, tmp_path)


def test_other_stages_than_before_are_refused(tmp_path: Path) -> None:
    run([FIRST, LENGTHS], tmp_path)
    with pytest.raises(Changed, match=r"holds the stages first, lengths, not first:"):
        run([FIRST], tmp_path)
