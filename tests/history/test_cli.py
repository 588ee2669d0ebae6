"""`shaper history`: list, show, forget, export, plot."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shaper.cli import main
from shaper.history.place import Place
from shaper.history.store import Store
from shaper.models import Beliefs
from shaper.models.as_json import to_json
from tests.history.rows import entry, observation, stage_run, subject
from tests.unit.factories import chunk, seen, task


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A history of two categories of one workflow and one of another."""
    path = tmp_path / "h.sqlite"
    monkeypatch.setenv("SHAPER_HISTORY", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    beliefs = Beliefs()
    for size in (1000, 2000, 4000):
        beliefs = beliefs.updated(seen(task(chunk(size)), wall_s=size / 100, memory_mib=50 + size / 20))
    known = Store(Place(path))
    rows = [observation(size=float(n)) for n in (1000, 2000)] + [observation(outcome="out of memory", size=9000.0)]
    about = {"beliefs": to_json(beliefs.remembered())}
    known.add("r1", [entry(documents=about, observations=rows)], time.time() - 100 * 86400)
    known.add("r2", [entry(subject(workflow="run of b.py")), entry(subject(category="accumulating"))])
    return known


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line; return its exit code and what it printed."""
    before = sys.argv
    sys.argv = ["shaper", "history", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def numbers(store: Store) -> dict[tuple[str, str], int]:
    return {(row["workflow"], row["category"]): row["id"] for row in store.subjects()}


def test_list_names_every_category_with_its_last_chunksize(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4
    assert "run of a.py" in lines[-1]
    assert lines[-1].split()[-1] == "1000"
    _, out, _ = call(capsys, "list", "--json")
    assert [row["category"] for row in json.loads(out)].count("processing") == 2


def test_show_says_what_the_next_run_begins_with(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    number = numbers(store)["run of a.py", "processing"]
    _, out, _ = call(capsys, "show", number)
    assert out.startswith("processing of run of a.py\n")
    assert "memory at size 4000: 2" in out
    assert "time at size 4000: " in out
    assert "100.0k elements in 100 tasks of about 1000 with 200 MiB, 4 at once, 1 min 00 s (local, done)" in out
    _, out, _ = call(capsys, "show", number, "--json")
    assert json.loads(out)["documents"]["beliefs"]["version"] == 1


def test_forget_takes_numbers_workflows_age_or_all(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "forget", numbers(store)["run of a.py", "accumulating"])[1] == "forgot 1 of 3\n"
    assert call(capsys, "forget", "--older-than", 30)[1] == "forgot 1 of 2\n"
    assert list(numbers(store)) == [("run of b.py", "processing")]
    assert call(capsys, "forget", "--older-than", 30)[1] == "forgot 0 of 1\n"
    assert call(capsys, "forget", "--workflow", "run of b.py")[1] == "forgot 1 of 1\n"
    assert call(capsys, "forget", "--all")[1] == "forgot 0 of 0\n"


def test_export_writes_everything_and_nothing_that_can_be_executed(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call(capsys, "export", "-o", tmp_path / "all.json")
    everything: Any = json.loads((tmp_path / "all.json").read_text())
    assert len(everything["subjects"]) == 3
    number = numbers(store)["run of a.py", "processing"]
    _, out, _ = call(capsys, "export", number)
    (one,) = json.loads(out)["subjects"]
    assert one in everything["subjects"]
    assert len(one["observations"]) == 3
    assert {key: one["stage_runs"][0][key] for key in stage_run()} == stage_run()


def test_plot_draws_a_page_of_its_own(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    assert call(capsys, "plot", numbers(store)["run of a.py", "processing"], "-o", page)[:2] == (0, f"{page}\n")
    text = page.read_text()
    assert text.count("<svg viewBox='0 0 620") + text.count('<svg viewBox="0 0 620') == 4
    assert "99 of 100 stay below" in text
    assert "exceeded a limit" in text
    # Nothing is believed about this one: points alone.
    call(capsys, "plot", numbers(store)["run of b.py", "processing"], "-o", page)
    assert "99 of 100" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", 99), "there is no number 99 in the history: see `shaper history list`"),
        (("forget", 99), "there is no number 99 in the history: see `shaper history list`"),
        (("forget",), "nothing to forget: give numbers or a workflow of `shaper history list`, or --all"),
        (
            ("forget", "--workflow", "x"),
            "nothing to forget: give numbers or a workflow of `shaper history list`, or --all",
        ),
        (
            ("list", "--history", "mysql://x"),
            "history: mysql://... is not known; give a file, or postgresql://USER@HOST/DATABASE",
        ),
        (("plot", 1, "-o", "/nowhere/x.html"), "/nowhere/x.html cannot be written: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    assert call(capsys, *arguments) == (2, "", f"shaper: {message}\n")


def test_an_empty_history_and_a_damaged_one_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.sqlite"
    assert call(capsys, "list", "--history", path)[1] == f"nothing is known yet in {path}\n"
    assert not path.exists()
    path.write_bytes(b"no database " * 100)
    code, _, err = call(capsys, "list", "--history", path)
    assert code == 2
    assert err.startswith(f"shaper: history: {path} cannot be used: file is not a database")
    assert err.count("\n") == 1
