"""Which workers to start: advice from the records of runs."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shaper
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput
from shaper.simulation.advise import Option
from shaper.simulation.offer import Offer, Shape, about
from shaper.simulation.offers import advise, recommended
from shaper.simulation.replay import replay
from shaper.simulation.simulate import Figures
from shaper.types import Merge, Task, Usage
from shaper.units import show_count
from tests.unit.records_factory import end_line, run_line, task_line, write


def recorded(folder: Path, *, workers: int, sources: int, bandwidth: float | None = None) -> Path:
    """A run of equal sources: 2 s for each task, 1 ms for each element, 100 bytes of it read."""

    def cost(task: Task, rng: Any) -> Usage:
        if isinstance(task.work, Merge):
            return Usage(wall_s=0.5, memory_mib=300.0, result_bytes=2**20)
        size = task.work.elements
        cpu_s = 1e-3 * size * float(rng.lognormal(0, 0.05))
        return Usage(2.0 + cpu_s, cpu_s, memory_mib=300 + 0.02 * size, read_bytes=100 * size, result_bytes=2**20)

    engine = Simulated([WorkerSpec(4, 8000, workers)], cost, 0, bandwidth=bandwidth)
    shaper.run({f"s{n}": 100_000 for n in range(sources)}, engine=engine, run_dir=folder)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("recorded") / "ttH", workers=4, sources=20)


@pytest.fixture(scope="module")
def saturated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its source gives 20,000 elements per second, enough for about 20 of its 40 cores."""
    folder = tmp_path_factory.mktemp("saturated") / "run"
    return recorded(folder, workers=10, sources=80, bandwidth=100 * 20_000.0)


def rows(lines: list[str]) -> list[list[str]]:
    """The cells of the table."""
    first = next(at for at, line in enumerate(lines) if line.lstrip().startswith("workers"))
    table = lines[first + 1 : lines.index("", first)]
    return [re.split(r"\s{2,}", line.replace("->", "  ").strip()) for line in table]


def test_a_table_a_recommendation_what_more_would_bring_and_a_command(run_dir: Path) -> None:
    lines = advise(run_dir, rest=False)
    table = rows(lines)
    assert 4 <= len(table) <= 8
    (chosen,) = (line for line in lines if line.startswith("->"))
    count, cores, memory, done, hours, _ = re.split(r"\s{2,}", chosen[2:].strip())
    said = lines[lines.index("", 2) + 1]
    time = done.split(" (")[0]
    assert said.startswith(f"{count} workers of {cores} cores and {memory}: about {time}")
    assert said.endswith(f", {hours} core-hours")
    assert any(re.match(r"  \d+ instead: .* sooner, .* core-hours more$", line) for line in lines)
    assert any(re.match(r"  \d+ instead: .* later, .* core-hours (less|more)$", line) for line in lines)
    command = f"shaper workers start --max {count} --cores {cores} --memory {memory.replace(' ', '')}"
    assert lines[-1] == f"to start them: {command}"
    assert "Played again on all workers that it had" in "\n".join(lines)


def test_what_is_given_of_a_worker_is_kept(run_dir: Path) -> None:
    table = rows(advise(run_dir, rest=False, cores=2, memory="6GB"))
    assert {(row[1], row[2]) for row in table} == {("2", "6 GB")}
    assert len({row[0] for row in table}) == len(table)
    table = rows(advise(run_dir, rest=False, cores=2))
    assert {row[1] for row in table} == {"2"}
    assert {row[2] for row in table} >= {"2 GB", "4 GB", "8 GB"}


def test_workers_that_hold_no_element_are_not_advised(run_dir: Path) -> None:
    with pytest.raises(BadInput, match="finishes on none of these workers"):
        advise(run_dir, rest=False, memory="200MB")


def test_of_a_run_that_goes_on_only_the_rest_counts(run_dir: Path, tmp_path: Path) -> None:
    lines = (run_dir / "records.jsonl").read_bytes().splitlines(keepends=True)
    half = tmp_path / "half"
    half.mkdir()
    (half / "records.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    rest, whole = advise(half, rest=True), advise(half, rest=False)
    left = 2_000_000 - sum(
        entry["elements"]
        for entry in map(json.loads, lines[: len(lines) // 2])
        if entry["kind"] == "task" and entry["work"] == "process" and entry["verdict"] == "accept"
    )
    assert 0 < left < 2_000_000
    told = f"{show_count(left)} of 2.0M elements are left"
    assert rest[0].startswith(f"half: {told}; simulated with what ")
    assert whole[0] == rest[0].replace(told, "all of it, again")
    hours = [float(rows(found)[0][4]) for found in (rest, whole)]
    assert hours[0] / hours[1] == pytest.approx(left / 2_000_000, rel=0.5)


def test_stages_that_have_not_begun_are_named(tmp_path: Path) -> None:
    run = run_line(elements=100_000)
    run["stages"].append({"name": "fits", "category": "fits", "elements": 50, "sources": 50})
    tasks = [task_line(n, float(n), elements=1000 * n, used={"wall_s": 0.5 * n}) for n in range(1, 8)]
    capacity = {"kind": "capacity", "at_s": 0.0, "kinds": [{"name": "w", "cores": 2, "memory_mib": 4000, "count": 1}]}
    lines = advise(write(tmp_path / "run", [run, capacity, *tasks]), rest=True)
    assert "Nothing has finished of fits: not counted." in lines


def test_what_gives_no_advice_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no records\.jsonl"):
        advise(tmp_path, rest=False)
    with pytest.raises(BadInput, match=r"no task of .* has finished"):
        advise(write(tmp_path / "begun", [run_line()]), rest=True)
    done = [run_line(elements=1000), task_line(elements=1000), end_line()]
    with pytest.raises(BadInput, match="hardly anything is left"):
        advise(write(tmp_path / "done", done), rest=True)


def test_a_data_source_that_was_waited_for_limits_what_more_workers_bring(saturated: Path) -> None:
    case = replay(saturated)
    assert case.bandwidth is not None
    read_s = sum(stage.read_bytes for stage in case.stages.values()) / case.bandwidth
    assert read_s == pytest.approx(8_000_000 / 20_000, rel=0.35)
    lines = advise(saturated, rest=False)
    assert any("the data source needs" in line for line in lines)
    assert int(next(line for line in lines if line.startswith("->")).split()[1]) <= 10
    assert "Tasks were seen to wait for the data source" in "\n".join(lines)


def offer(count: int, core_hours: float) -> Offer:
    class Took(Figures):
        def __init__(self, makespan_s: float) -> None:
            object.__setattr__(self, "makespan_s", makespan_s)

    shape = Shape(1, "1GB")
    return Offer(shape, count, (Option(WorkerSpec(1, 953, count), Took(core_hours * 3600 / count), None),))


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=8))
def test_the_count_is_doubled_as_long_as_that_costs_little(hours: list[float]) -> None:
    found = [offer(2**at, cost) for at, cost in enumerate(hours)]
    chosen = recommended(found)
    steps = [b.core_hours / a.core_hours for a, b in pairwise(found)]
    assert all(step <= 1.25 for step in steps[:chosen])
    assert chosen == len(found) - 1 or steps[chosen] > 1.25


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(42.4, "42 s"), (150, "2.5 min"), (1320, "22 min"), (7300, "2.0 h"), (40000, "11 h")],
)
def test_times_are_shown_as_precisely_as_they_are_known(seconds: float, shown: str) -> None:
    assert about(seconds) == shown
