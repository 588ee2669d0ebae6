"""Page and timeline of any run: none, one or very many tasks, several sessions, cut short, hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.records import collect, read
from shaper.report.figures import closed, costs_core_s, lanes, offered_core_s, summary
from shaper.report.html import make_report, page
from shaper.report.plots import POINTS, thinned
from shaper.report.svg import Axis, axis
from tests.unit.records_factory import capacity_line, end_line, run_line, simulated, task_line, write

VOID = {"meta", "link", "input", "br"}


class Nesting(HTMLParser):
    """Fails where an element is not closed, or closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def checked(text: str) -> Nesting:
    parser = Nesting()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text, flags=re.S).split("<script>")[0]
    return parser


def tasks(count: int, **changes: Any) -> list[Mapping[str, Any]]:
    def one(n: int) -> Mapping[str, Any]:
        worker, at_s = f"w/{n % 4}", 1.0 + n // 4
        return task_line(
            n, at_s, worker=worker, elements=100 + n % 900, used={"memory_mib": 100.0 + n % 300}, **changes
        )

    return [one(n) for n in range(count)]


# -- the page ----------------------------------------------------------------------------------------------------


def test_a_run_that_has_only_begun_has_a_page() -> None:
    text = page(collect([run_line()]))
    checked(text)
    assert "not finished" in text
    assert "No task has ended yet" in text
    assert "0 of 10.0k" in text or "0 of 10000" in text


def test_no_lines_at_all_make_a_page() -> None:
    checked(page(collect([])))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_few_tasks_make_every_plot(count: int) -> None:
    text = page(collect([run_line(), capacity_line(), *tasks(count), end_line(60.0)]))
    assert checked(text).seen.count("circle") >= 3 * count
    for title in ("Chunksize over time", "Tasks running", "Memory against size", "Time against size", "Timeline"):
        assert f"<h2>{title}" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"used": {"wall_s": None, "memory_mib": None, "overhead_s": None}},
        {"used": {"wall_s": 0.0, "memory_mib": 0.0}, "started_s": 1.0, "submitted_s": 1.0},
        {"outcome": "lost", "verdict": "retry", "started_s": None},
        {"work": "merge", "category": "accumulating", "what": "8 results", "input_bytes": None},
        {"elements": 1},
        {"worker": ""},
    ],
    ids=["nothing measured", "no time at all", "never started", "merge of unknown size", "one element", "no worker"],
)
def test_what_was_not_measured_is_no_trouble(changes: dict[str, Any], tmp_path: Path) -> None:
    lines = [run_line(), capacity_line(), task_line(1, 1.0, **changes)]
    without_usage = [run_line(), capacity_line(), {**task_line(1, 1.0, **changes), "used": None}]
    for number, case in enumerate((lines, without_usage)):
        checked(make_report(write(tmp_path / str(number), case)).read_text())


def test_very_many_tasks_in_many_groups_keep_the_page_bounded_and_say_so() -> None:
    count = 30_000
    many = [{**line, "group": f"g{n % 500}"} for n, line in enumerate(tasks(count))]
    text = page(collect([run_line(), capacity_line(), *many, end_line(8000.0)]))
    assert f"Plots show at most {POINTS} of {count} tasks" in text
    assert "494 others" in text
    assert checked(text).seen.count("circle") < 5 * POINTS + 100
    assert len(text) < 10_000_000


def test_many_decisions_and_failures_are_cut_and_counted() -> None:
    bad = tasks(
        1000, outcome="failed", verdict="give up", verdict_reason="bad file", detail="Traceback\n  x\nValueError: 1"
    )
    text = page(collect([run_line(), *bad]))
    assert "What went wrong: 1,000 attempts" in text
    assert "900 more are in the records" in text
    assert "600 from the middle of the run" in text
    assert "<summary>ValueError: 1</summary>" in text


def test_names_and_messages_cannot_break_the_page() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \" ' \udcff"
    lines = [
        {**run_line(), "name": evil},
        task_line(1, 1.0, group=evil, what=evil, worker=evil, category=evil, reason=evil, outcome="failed", detail=evil,
                  verdict="give up", verdict_reason=evil),
        task_line(2, 2.0, group=evil, category=evil),
        end_line(2.0, "failed", message=evil, missing=[evil], skipped=[evil]),
    ]  # fmt: skip
    seen = checked(page(collect(lines))).seen
    assert "img" not in seen
    assert seen.count("script") == 1


def test_undecodable_names_can_be_written(tmp_path: Path) -> None:
    path = make_report(write(tmp_path, [run_line(), task_line(1, 1.0, what="caf\udce9.root[0:10]")]))
    assert b"caf?.root" in path.read_bytes()


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    simulated(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)=['"](?!data:,)|url\(|@import|fetch\(|https?://""", text)


def test_an_incomplete_run_names_what_is_missing_and_skipped() -> None:
    end = end_line(
        2.0, "incomplete", message="no result for 1 part", missing=["b.root[0:5]: too big"], skipped=["c[0:9]"]
    )
    text = page(collect([run_line(), task_line(), end]))
    for expected in ("incomplete", "no result for 1 part", "b.root[0:5]: too big", "c[0:9]", "1000 of 10.0k"):
        assert expected in text.replace("10000", "10.0k")


def test_of_an_unfinished_run_the_tasks_tell_what_was_skipped() -> None:
    found = collect([run_line(), task_line(1, 1.0, skipped=["c.root[10:19]"], skipped_elements=9)])
    assert "c.root[10:19]" in page(found)
    assert summary(found).elements == 1000 - 9


def test_a_task_that_was_taken_back_did_nothing_wrong() -> None:
    found = collect([run_line(), task_line(1, 1.0, outcome="cancelled", verdict="split")])
    assert "What went wrong" not in page(found)


def test_rows_that_are_left_out_are_of_every_kind() -> None:
    alternating = [n % 10 for n in range(100_000)]
    shown = thinned(alternating)
    assert len(shown) <= POINTS
    assert set(shown) == set(range(10))


# -- sessions ----------------------------------------------------------------------------------------------------


def two_sessions(pause_s: float) -> Any:
    first = [run_line(1, 1000.0), capacity_line(0.0), task_line(1, 1.0), task_line(2, 4.0)]
    second = [run_line(2, 1004.0 + pause_s), capacity_line(0.0), task_line(3, 1.0), end_line(2.0)]
    return collect([*first, *second])


def test_a_pause_between_sessions_is_neither_plotted_nor_counted() -> None:
    found = two_sessions(pause_s=50_000.0)
    assert [t["finished_s"] for t in found.tasks] == [1.0, 4.0, 50_005.0]
    assert [t["finished_s"] for t in closed(found).tasks] == [1.0, 4.0, 5.0]
    assert summary(found).makespan_s == pytest.approx(6.0)
    assert offered_core_s(found) == pytest.approx(4 * 6.0)
    text = page(found)
    assert "2 sessions" in text
    assert ">session 2</text>" in text


@given(pause_s=st.floats(0, 1e6))
def test_closing_pauses_changes_no_figure(pause_s: float) -> None:
    found = two_sessions(pause_s)
    assert costs_core_s(closed(found)) == pytest.approx(costs_core_s(found), abs=1e-6)
    assert [t["id"] for t in closed(found).tasks] == ["1.1", "1.2", "1.3"]


# -- figures -----------------------------------------------------------------------------------------------------


def test_the_records_add_up_to_what_the_run_reported(tmp_path: Path) -> None:
    told = simulated(tmp_path).report
    found = read(tmp_path)
    mine = summary(found)
    assert told.retries + told.splits + told.losses > 0  # or this proves little
    for name in ("elements", "tasks", "splits", "retries", "losses", "failures"):
        assert getattr(mine, name) == getattr(told, name), name
    for name in ("makespan_s", "busy_core_s", "lost_core_s", "idle_core_s", "offered_core_s", "peak_memory_mib"):
        assert getattr(mine, name) == pytest.approx(getattr(told, name), rel=1e-4), name
    assert mine.by_category["processing"]["elements"] == told.by_category["processing"]["elements"]
    assert sum(costs_core_s(found).values()) == pytest.approx(told.offered_core_s, rel=1e-4)


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [
        ("done", "useful"),
        ("out of memory", "over a limit"),
        ("out of time", "over a limit"),
        ("failed", "failed"),
        ("lost", "lost or taken back"),
        ("cancelled", "lost or taken back"),
    ],
)
def test_core_time_goes_where_its_outcome_says(outcome: str, cost: str) -> None:
    found = collect([run_line(), capacity_line(cores=4), task_line(1, 2.0, started_s=0.0, cores=2, outcome=outcome)])
    costs = costs_core_s(found)
    overhead = 0.2 if outcome == "done" else 0.0
    assert costs[cost] == pytest.approx(4.0 - overhead)
    assert costs["overhead"] == pytest.approx(overhead)
    assert costs["idle"] == pytest.approx(4.0)


# -- timeline ----------------------------------------------------------------------------------------------------

spans = st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50), st.sampled_from("ab")), max_size=40)


@given(spans)
def test_tasks_of_one_lane_never_overlap_and_lanes_are_as_few_as_can_be(drawn: list[tuple[float, float, str]]) -> None:
    lines = [task_line(n, s + d, started_s=s, worker=w) for n, (s, d, w) in enumerate(drawn)]
    placed = lanes(lines)
    assert len(placed) == len(lines)
    by_lane: dict[str, list[Mapping[str, Any]]] = {}
    for task, lane in placed:
        by_lane.setdefault(lane, []).append(task)
    for mine in by_lane.values():
        assert len({t["worker"] for t in mine}) == 1
        for before, after in pairwise(mine):
            assert after["started_s"] >= before["finished_s"] - 1e-3
    most = sum(
        max((sum(s <= at < s + d for s, d, w in drawn if w == worker) for at, _, x in drawn if x == worker), default=0)
        for worker in "ab"
    )
    assert len(by_lane) <= most


def test_the_timeline_has_a_row_per_lane_and_counters(tmp_path: Path) -> None:
    overlapping = [task_line(n, 5.0 + n, started_s=float(n), worker="w") for n in range(3)]
    lost = task_line(9, 20.0, started_s=None, outcome="lost", verdict="retry")
    make_report(write(tmp_path, [run_line(), *overlapping, lost]))
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    bars = [e for e in events if e["ph"] == "X"]
    assert [(names[e["tid"]], e["ts"], e["dur"]) for e in bars] == [
        ("w #1", 0, 5_000_000),
        ("w #2", 1_000_000, 5_000_000),
        ("w #3", 2_000_000, 5_000_000),
    ]
    assert [e["args"]["tasks"] for e in events if e["name"] == "tasks running"] == [1, 2, 3, 2, 1, 0]
    assert [e["args"]["elements"] for e in events if e["name"] == "chunksize"] == [1000] * 3


def test_a_timeline_of_nothing_is_still_one(tmp_path: Path) -> None:
    make_report(write(tmp_path, [run_line()]))
    assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"] == []


# -- axes --------------------------------------------------------------------------------------------------------


@given(
    low=st.floats(1e-6, 1e12),
    factor=st.floats(1.5, 1e9),
    log=st.booleans(),
    unit=st.sampled_from([1.0, 60.0, 1024.0, 3600.0]),
)
def test_ticks_lie_within_the_axis_and_are_neither_none_nor_many(
    low: float, factor: float, log: bool, unit: float
) -> None:
    scale = Axis(low if log else 0.0, low * factor, "x", log, unit=unit)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 14
    assert ticks == sorted(ticks)
    assert all(-1e-6 <= scale.at(tick) <= 1 + 1e-6 for tick in ticks)


def test_counts_have_whole_ticks_and_minutes_round_ones() -> None:
    assert Axis(0.0, 2.1, "tasks", whole=True).ticks() == [0, 1, 2]
    assert Axis(0.0, 1260.0, "time", unit=60.0).ticks() == [0, 300, 600, 900, 1200]


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [0.0, 0.0]])
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_of_hardly_anything_is_one(values: list[float], log: bool) -> None:
    scale = axis(values, "x", log=log)
    assert scale.low < scale.high
    assert scale.ticks()
