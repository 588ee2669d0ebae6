"""What a person sees while a run goes on: a view on a terminal, a line per change elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from shaper.models.beliefs import Beliefs
from shaper.report.progress import Progress
from shaper.report.summary import print_summary
from shaper.tally import Report
from shaper.types import (
    Accept,
    Backlog,
    Chunk,
    GiveUp,
    Merge,
    Observation,
    Outcome,
    Resources,
    Retry,
    Shape,
    Split,
    Verdict,
)
from tests.unit.factories import capacity, chunk, seen, task


def plain(elements: int = 1000, done: int = 0) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    return Progress(elements, done, Console(file=text, force_terminal=False, width=100)), text


def live(elements: int = 1000) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    return Progress(elements, 0, console), text


def decide(progress: Progress, at_s: float, *sizes: int, reason: str = "fits 2 to a worker", group: str = "") -> None:
    shapes = [Shape("processing", group, None, size, 4, reason) for size in sizes]
    progress.decided(at_s, capacity(), Backlog(), shapes)


def settle(progress: Progress, verdict: Verdict, elements: int = 100, at_s: float = 1.0, number: int = 1) -> None:
    attempt = task(chunk(elements, "a.root"), number=number)
    progress.submitted(attempt, Beliefs())
    outcome = Outcome.DONE if isinstance(verdict, Accept) else Outcome.OUT_OF_MEMORY
    progress.settled(seen(attempt, outcome, wall_s=at_s), verdict, Beliefs())


def lines(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines()


def test_a_chunksize_is_told_when_it_changed_much() -> None:
    progress, text = plain()
    for at_s, size in enumerate([100, 110, 95, 1000, 1100]):
        decide(progress, float(at_s), size)
    assert lines(text) == [
        "shaper: chunks are now 100 elements: fits 2 to a worker",
        "shaper: chunks are now 1000 elements: fits 2 to a worker",
    ]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Split((chunk(50), chunk(50)), "50 fit"), "shaper: split a.root[0:100]: 50 fit"),
        (Retry(Resources(1, 2000), "more memory"), "shaper: again a.root[0:100]: more memory"),
        (GiveUp("it never fits\nwith details"), "shaper: gave up a.root[0:100]: it never fits"),
    ],
)
def test_trouble_is_told_in_one_line(verdict: Verdict, expected: str) -> None:
    progress, text = plain()
    settle(progress, verdict)
    assert lines(text) == [expected]


def test_quarters_are_told_once_each_however_small_the_tasks() -> None:
    progress, text = plain(1000)
    for number in range(100):
        settle(progress, Accept(), elements=10, at_s=1.0 + number, number=number)
    assert [line.split(" %")[0] for line in lines(text)] == [f"shaper: {q}" for q in (25, 50, 75, 100)]


def test_a_flood_is_cut_short_but_not_the_milestones() -> None:
    progress, text = plain(1000)
    for number in range(1000):
        settle(progress, Retry(Resources(1, 2000), "again"), number=number)
    settle(progress, Accept(), elements=1000, at_s=9.0)
    told = lines(text)
    assert len(told) == 202
    assert "in the records" in told[-2]
    assert told[-1].startswith("shaper: 100 % done")


def test_a_resumed_run_says_what_is_done_and_rates_only_its_own_work() -> None:
    progress, text = plain(1000, done=500)
    settle(progress, Accept(), elements=250, at_s=10.0)
    assert lines(text) == [
        "shaper: resumed: 500 of 1000 elements are done already",
        "shaper: 75 % done after 10.0 s, 25 elements/s",
    ]


def test_nothing_is_ever_written_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(100)
    decide(progress, 0.0, 10)
    settle(progress, Accept(), elements=100)
    progress.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "chunks are now 10 elements" in captured.err


def test_the_live_view_shows_what_is_asked_of_it() -> None:
    progress, text = live()
    decide(progress, 0.0, 100, reason="a probe: nothing is known")
    settle(progress, Accept(), elements=400, at_s=4.0, number=1)
    settle(progress, Split((chunk(50), chunk(50)), "50 fit"), at_s=4.0, number=2)
    progress.submitted(task(chunk(100), number=3), Beliefs())
    progress.submitted(task(Merge(("1.1", "1.2"), 400), number=4), Beliefs())
    progress.close()
    shown = text.getvalue()
    for expected in (
        "400 of 1000 elements",
        "100/s",
        "about 6.0 s left",
        "100 elements: a probe: nothing is known",
        "1 and 1 merges in flight, 2 ended",
        "1 split, 0 run again, 0 given up",
        "given 1000 MiB",
        "last used 500 MiB",
    ):
        assert expected in shown


def test_what_is_given_up_is_not_waited_for() -> None:
    progress, text = live()
    settle(progress, Accept(), elements=500, at_s=5.0, number=1)
    settle(progress, GiveUp("no"), elements=400, at_s=5.0, number=2)
    progress.close()
    assert "about 1.0 s left" in text.getvalue()


def test_the_rate_is_that_of_late() -> None:
    progress, _ = plain(10**6)
    for second in range(1, 101):
        settle(progress, Accept(), elements=1, at_s=float(second))
    for second in range(101, 201):
        settle(progress, Accept(), elements=1000, at_s=float(second))
    rate = progress._rate()
    assert rate == pytest.approx(1000, rel=0.05)


def test_closing_gives_the_terminal_back_whatever_happened() -> None:
    out, err = sys.stdout, sys.stderr
    progress, text = live()
    progress.shape = Shape("processing", "", None, -1, 1, "")
    progress.elements = "broken"  # type: ignore[assignment]
    with pytest.raises((TypeError, ValueError)):
        progress.close()
    progress.close()
    assert text.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
    assert (sys.stdout, sys.stderr) == (out, err)


def test_a_script_whose_output_is_a_file_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    progress, text = live()
    print("the script's own line")
    progress.close()
    assert capsys.readouterr().out == "the script's own line\n"
    assert "own line" not in text.getvalue()


def test_redraws_do_not_follow_every_turn_of_the_loop() -> None:
    progress, text = live()
    before = len(text.getvalue())
    for turn in range(5000):
        decide(progress, turn * 1e-3, 100)
    drawn = text.getvalue()[before:].count("of 1000 elements")
    progress.close()
    assert drawn < 500


def report(**changes: object) -> Report:
    figures = {"makespan_s": 10.0, "elements": 12_500, "tasks": 7, "splits": 1, "retries": 2, "losses": 0}
    costs = {"failures": 0, "busy_core_s": 30.0, "lost_core_s": 3.0, "idle_core_s": 10.0, "offered_core_s": 40.0}
    return Report(**{**figures, **costs, **changes})  # type: ignore[arg-type]


def summary(of: Report, width: int = 100) -> Sequence[str]:
    text = io.StringIO()
    print_summary(of, Console(file=text, width=width))
    return text.getvalue().splitlines()


def test_the_summary_names_what_matters() -> None:
    told = "\n".join(summary(report(peak_memory_mib=2048.0, missing=("b.root[0:5]: over 8 GB\nmore",))))
    assert "12.5k in 10.0 s, 1250/s" in told
    assert "7: 1 split, 2 run again" in told
    assert "75% busy, 25% idle, 7.5% lost" in told
    assert "2.0 GiB at most" in told
    assert "1 piece, first b.root[0:5]: over 8 GB" in told


def test_the_path_of_the_report_is_on_one_line_however_narrow_the_terminal() -> None:
    path = Path("/a/folder/with/a/long/name/shaper-runs/genome-20261122-030246")
    assert summary(report(run_dir=path), width=40)[-1].split() == ["report", f"{path}/report.html"]


def test_the_summary_of_nothing_divides_by_nothing() -> None:
    told = summary(report(makespan_s=0.0, elements=0, tasks=0, busy_core_s=0.0, idle_core_s=0.0, offered_core_s=0.0))
    assert told[0].split() == ["elements", "0", "in", "0", "ms,", "0/s"]


def test_an_observation_without_usage_is_shown() -> None:
    progress, text = plain()
    attempt = task(Chunk(chunk(10, "a.root").spans))
    progress.settled(
        Observation(attempt, Outcome.LOST, None, 0.0, None, 1.0), Retry(Resources(1, 1), "lost"), Beliefs()
    )
    assert lines(text) == ["shaper: again a.root[0:10]: lost"]
