"""What is shown of several stages: while they run, and in the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from shaper.ledger import StagePlan
from shaper.models.beliefs import Beliefs
from shaper.records import collect, read
from shaper.report.html import page
from shaper.report.progress import Progress
from shaper.report.stages import Stages, rows
from shaper.types import Accept, Backlog, Observation, Shape, Source, StageBacklog
from tests.unit.factories import capacity, chunk, seen, task
from tests.unit.records_factory import end_line, run_line, task_line

AFTER = {"first": (), "second": ("first",), "third": ("second",)}
FIRST = StagePlan("first", (Source("a", 1000),))


def backlog(*stages: str) -> Backlog:
    return Backlog((), [StageBacklog(name, f"{name}_merge", 0, 0, True) for name in stages])


def test_a_stage_is_told_when_it_begins_and_when_it_is_done() -> None:
    shown = Stages(AFTER, [FIRST])
    assert shown.news(backlog("first")) == ["stage 'first' begins: 1000 elements"]
    assert str(shown) == "first 0%, second waits, third waits"
    shown.settled("first", 400)
    assert shown.news(backlog("first")) == []
    assert str(shown) == "first 40%, second waits, third waits"
    assert shown.news(backlog("dataset of second")) == ["stage 'first' is done"]
    assert str(shown) == "first done, second counted, third waits"
    shown.added(StagePlan("second", (Source("b", 10),)), 0)
    shown.added(StagePlan("third", (Source("c", 1),)), 0)
    assert shown.news(backlog("second", "third")) == ["stage 'second' begins: 10 elements"]
    assert shown.news(backlog()) == ["stage 'second' is done", "stage 'third' is done"]


def test_what_waits_for_a_stage_that_failed_is_not_begun() -> None:
    shown = Stages(AFTER, [FIRST])
    shown.settled("first", 1000, failed=True)
    assert shown.news(backlog()) == [
        "stage 'first' has failed",
        "stage 'second' is not begun: what it waits for has failed",
        "stage 'third' is not begun: what it waits for has failed",
    ]


def test_a_dataset_that_cannot_be_found_fails_its_stage() -> None:
    shown = Stages(AFTER, [FIRST])
    shown.settled("dataset of second", 1, failed=True)
    shown.news(backlog())
    assert str(shown) == "first done, second failed, third not begun"


def accepted(stage: str, elements: int) -> tuple[Observation, Accept]:
    done = replace(task(chunk(elements, "a")), stage=stage)
    return seen(done), Accept()


def test_of_several_stages_each_is_told_and_no_share_of_elements_that_are_unlike() -> None:
    text = io.StringIO()
    progress = Progress(1000, 0, Console(file=text, force_terminal=False, width=100))
    progress.stages = Stages(AFTER, [FIRST])
    shapes = [Shape("first", "", None, 500, 2, "fits"), Shape("dataset of second", "", None, 1, 1, "a probe")]
    progress.decided(0.0, capacity(), backlog("first"), shapes)
    progress.settled(*accepted("first", 1000), Beliefs())
    progress.decided(1.0, capacity(), backlog("dataset of second"), shapes)
    assert text.getvalue().splitlines() == [
        "shaper: stage 'first' begins: 1000 elements",
        "shaper: chunks of first are now 500 elements: fits",
        "shaper: stage 'first' is done",
    ]
    live = Progress(1000, 0, Console(file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"}))
    live.stages = progress.stages
    out = Console(file=io.StringIO(), width=120)
    out.print(live._view())
    live.close()
    assert "first done, second counted, third waits" in out.file.getvalue()  # type: ignore[attr-defined]


def line(stage: str, at_s: float, **changes: object) -> dict[str, object]:
    return {**task_line(1, at_s, stage=stage, category=stage), **changes}


def test_the_report_shows_when_each_stage_ran_and_what_was_not_begun() -> None:
    run = run_line(elements=1000)
    run["stages"][0] |= {"name": "first", "category": "first"}
    run["graph"] = [{"name": name, "after": after} for name, after in AFTER.items()]
    missing = ["stage 'second': b[0:10]: ValueError", "stage 'third': not begun: stage 'second' has failed"]
    stage = {"kind": "stage", "at_s": 1.1, "name": "second", "category": "second", "elements": 10, "sources": 1}
    failed = line("second", 4.0, outcome="failed", verdict="give up", elements=10)
    lines = [run, line("first", 1.0), line("dataset of second", 2.0, elements=1), stage, failed]
    records = collect([*lines, end_line(5.0, "incomplete", missing=missing)])
    found = rows(records)
    assert [(row.name, row.status, row.first_s, row.last_s) for row in found] == [
        ("first", "done", 0.0, 1.0),
        ("second", "incomplete", 3.0, 4.0),
        ("third", "not begun", None, None),
    ]
    shown = page(records)
    assert shown.count("td class='when'") == 3
    assert "margin-left:60.0%;width:20.0%" in shown
    assert "<h2>Stages</h2>" not in page(collect([run_line(), task_line(), end_line()]))


def test_the_stages_of_earlier_sessions_are_known(tmp_path: Path) -> None:
    stage = {"kind": "stage", "at_s": 1.1, "name": "late", "category": "late", "elements": 10, "sources": 1}
    text = "".join(json.dumps(entry) + "\n" for entry in (run_line(), stage, run_line(2, 1.7e9 + 100)))
    (tmp_path / "records.jsonl").write_text(text)
    assert set(read(tmp_path).stages) == {"processing", "late"}
