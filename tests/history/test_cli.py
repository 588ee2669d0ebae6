"""`shaper history`: list, show, forget, export, plot."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shaper.cli import main
from shaper.history import schema
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
        (("forget", "--older-than", -1), "--older-than is -1: give a number of days, 0 or more"),
        (("forget", "--older-than", "nan"), "--older-than is nan: give a number of days, 0 or more"),
        (("forget", "--older-than", "inf"), "--older-than is inf: give a number of days, 0 or more"),
        (("plot", 1, "-o", "/nowhere/x.html"), "/nowhere/x.html cannot be written: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    before = store.subjects()
    assert call(capsys, *arguments) == (2, "", f"shaper: {message}\n")
    assert store.subjects() == before


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@db.host:port/x",
        "postgresql://u:x@s3cret:w0rd@host/db",
        "postgresql://u:x@s3cret@host/db",
        "postgresql://u:x/y@s3cret@host/db",
    ],
)
def test_a_bad_url_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("SHAPER_HISTORY", url)
    code, out, err = call(capsys, "list")
    assert (code, out) == (2, "")
    assert err.startswith("shaper: history: that is no URL of PostgreSQL: write postgresql://USER@HOST:PORT/DATABASE")
    assert err.count("\n") == 1
    assert "s3cret" not in err


WRONG: list[object] = ["x", b"\xff", 1e300, -1.0, 9e999, 10**17, 1e-320, 0]
HARMLESS = (1e-320, 0)


@pytest.mark.parametrize("wrong", WRONG)
def test_rows_that_make_no_sense_are_left_out_with_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path, wrong: object
) -> None:
    path, number = store.place.path, numbers(store)["run of a.py", "processing"]
    assert path is not None
    many = range(20)
    store.add("r", [entry(subject(workflow=f"w{n}")) for n in many])
    rows = {"observations": [observation() for _ in many], "stage_runs": [stage_run() for _ in many]}
    store.add("r", [entry(documents={f"k{n}": {} for n in many}, **rows)])
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("documents", "observations", "stage_runs", "subjects"):
            columns = [each.name for each in schema.METADATA.tables[table].c if each.name not in ("id", "subject")]
            about = f"workflow != 'run of a.py' AND {number}" if table == "subjects" else f"subject = {number}"
            for row, column in enumerate(columns):  # one of each wrong
                nth = f"SELECT rowid FROM {table} WHERE {about} ORDER BY rowid DESC LIMIT 1 OFFSET {row}"
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ({nth})", (wrong,))
    page = tmp_path / "p.html"
    for arguments in (("list",), ("show", number), ("plot", number, "-o", page), ("export", "-o", page)):
        code, _, err = call(capsys, *arguments)
        assert code == 0
        assert err.count("\n") <= 1
        assert ("make no sense and are left out" in err) or wrong in HARMLESS
    call(capsys, "forget", "--all")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM subjects").fetchone() == (0,)


def test_of_one_size_alone_a_line_is_drawn_along_the_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beliefs = Beliefs()
    for _ in range(5):
        beliefs = beliefs.updated(seen(task(chunk(1)), wall_s=2.0, memory_mib=100.0))
    known = Store(Place(tmp_path / "h.sqlite"))
    known.add("r", [entry(documents={"beliefs": to_json(beliefs)}, observations=[observation(size=1.0)])])
    page = tmp_path / "p.html"
    call(capsys, "plot", 1, "-o", page, "--history", tmp_path / "h.sqlite")
    lines = re.findall(r'<path d="(M[^Z"]*)" fill="none"', page.read_text())[:2]
    assert len(lines) == 2
    for line in lines:
        xs = [float(x) for x in re.findall(r"[ML](\S+) ", line)]
        assert max(xs) - min(xs) > 400


def test_an_empty_history_and_a_damaged_one_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.sqlite"
    assert call(capsys, "list", "--history", path)[1] == f"nothing is known yet in {path}\n"
    assert not path.exists()
    path.write_bytes(b"no database " * 100)
    code, _, err = call(capsys, "list", "--history", path)
    assert code == 2
    assert err.startswith(f"shaper: history: {path} cannot be used: file is not a database")
    assert err.count("\n") == 1
