"""Records and what is made of them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import shaper
from shaper import records
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput, Damaged
from shaper.models import Beliefs
from shaper.report.html import costs_core_s, make_report, page
from shaper.report.progress import Progress
from shaper.types import Accept, Backlog, Merge, Outcome, Shape, Source, Split, Task, Usage
from shaper.work import split
from tests.unit.factories import capacity, chunk, seen, task


def cost(task: Task, rng: Any) -> Usage:
    if isinstance(task.work, Merge):
        return Usage(wall_s=0.1, memory_mib=100, result_bytes=10**6)
    n = task.work.elements
    heavy = 6.0 if task.group == "heavy <b>" else 1.0
    return Usage(
        wall_s=float((5 + 1e-3 * n) * rng.lognormal(0, 0.1)),
        memory_mib=float((200 + 0.02 * heavy * n) * rng.lognormal(0, 0.1)),
        result_bytes=10**6,
        overhead_s=0.2,
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    sources = [Source(f"s{n}", 200_000, group="light" if n % 2 else "heavy <b>") for n in range(20)]
    engine = Simulated([WorkerSpec(4, 8000, 5)], cost, loss_rate=0.02)
    shaper.run(sources, engine=engine, run_dir=tmp_path / "run", name="a <run>")
    return tmp_path / "run"


def test_what_is_written_is_read(run_dir: Path) -> None:
    found = records.read(run_dir)
    assert found.status == "done"
    assert sum(t["elements"] for t in found.tasks if t["verdict"] == "accept" and t["work"] == "process") == 4_000_000
    assert {t["verdict"] for t in found.tasks} >= {"accept", "retry"}
    assert all(t["reason"] and t["verdict_reason"] for t in found.tasks)
    assert found.beliefs[-1]["memory"]["risk_factor"] > 1
    assert found.capacities[0]["kinds"] == [{"name": "4x8000", "cores": 4, "memory_mib": 8000, "count": 5}]


def test_costs_add_up_to_what_was_offered(run_dir: Path) -> None:
    found = records.read(run_dir)
    costs = costs_core_s(found)
    last = max(t["finished_s"] for t in found.tasks)
    assert sum(costs.values()) == pytest.approx(20 * last, rel=0.02)
    assert costs["lost or taken back"] > 0
    assert costs["overhead"] > 0


def test_the_page_is_self_contained_and_escapes_names(run_dir: Path) -> None:
    text = make_report(run_dir).read_text()
    assert "a &lt;run&gt;" in text
    assert "heavy &lt;b&gt;" in text
    for forbidden in ("http://", "https://", 'src="', "url("):
        assert forbidden not in text
    for title in ("Chunksize over time", "Memory against size", "Time against size", "Tasks running", "Decisions"):
        assert title in text
    trace = json.loads((run_dir / "timeline.json").read_text())
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X", "C"}


def test_a_cut_last_line_is_left_out_with_a_warning(run_dir: Path) -> None:
    path = run_dir / records.NAME
    whole = len(records.read(run_dir).tasks)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-2][:40])
    with pytest.warns(UserWarning, match="cut off"):
        found = records.read(run_dir)
    assert (found.status, len(found.tasks)) == ("not finished", whole)
    with pytest.warns(UserWarning, match="cut off"):
        assert "not finished" in page(records.read(run_dir))
    path.write_bytes(b"".join([*lines[:3], b"{broken\n", *lines[3:]]))
    with pytest.raises(Damaged, match="line 4 cannot be read"):
        records.read(run_dir)


def test_a_second_session_comes_after_the_first(run_dir: Path) -> None:
    lines = (run_dir / records.NAME).read_text().splitlines()
    first = json.loads(lines[0])
    entries = [json.loads(line) for line in lines]
    later = [{**first, "session": 2, "started_unix_s": first["started_unix_s"] + 1000}, *entries[1:]]
    found = records.collect([*entries, *later])
    assert [session.offset_s for session in found.sessions] == [0, 1000]
    assert max(t["started_s"] or 0.0 for t in found.tasks) > 1000
    assert "2 sessions" in page(found)


def test_pages_of_runs_without_tasks_and_with_very_many(run_dir: Path) -> None:
    found = records.read(run_dir)
    assert "No task has ended yet" in page(dataclasses.replace(found, tasks=()))
    many = dataclasses.replace(found, tasks=list(found.tasks) * (30_000 // len(found.tasks)))
    assert len(page(many)) < 6_000_000
    assert "Plots show at most 3000" in page(many)


def test_a_directory_without_records_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no records.jsonl"):
        make_report(tmp_path)


def shape(elements: int, reason: str = "memory: x") -> list[Shape]:
    return [Shape("processing", "", None, elements, 1, reason)]


def test_progress_away_from_a_terminal_is_one_line_per_change() -> None:
    out = io.StringIO()
    shown = Progress(4000, console=Console(file=out, width=200))
    for size in (1000, 1010, 990, 4000, 4000):
        shown.decided(1.0, capacity(), Backlog(), shape(size))
    for number in range(4):
        ran = task(chunk(1000), number=number)
        shown.submitted(ran, Beliefs())
        shown.settled(seen(ran), Accept(), Beliefs())
    big = task(chunk(1000), number=9)
    shown.settled(seen(big, Outcome.OUT_OF_MEMORY), Split(split(chunk(1000), 500), "too large"), Beliefs())
    shown.close()
    lines = out.getvalue().splitlines()
    assert [line.split(":")[1][:14] for line in lines[:2]] == [" chunks are no", " chunks are no"]
    assert [line for line in lines if "% done" in line] == [
        f"shaper: {percent} % done after 1.0 s, {1000 * n} elements/s" for n, percent in enumerate((25, 50, 75, 100), 1)
    ]
    assert lines[-1] == "shaper: split a[0:1000]: too large"
    assert len(lines) == 7


def test_progress_on_a_terminal_shows_size_reason_memory_and_trouble() -> None:
    out = io.StringIO()
    shown = Progress(4000, console=Console(file=out, width=150, force_terminal=True))
    shown.decided(1.0, capacity(), Backlog(), shape(1000, "memory: 4 tasks of 1 GiB"))
    ran = task(chunk(1000), memory_mib=1234)
    shown.submitted(ran, Beliefs())
    shown.settled(seen(ran, memory_mib=900.0), Accept(), Beliefs())
    shown.close()
    for word in ("1000 of 4000 elements", "memory: 4 tasks of 1 GiB", "given 1.2 GiB", "last used 900 MiB", "0 split"):
        assert word in out.getvalue()
