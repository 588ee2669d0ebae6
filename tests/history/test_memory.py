"""Runs that remember: where the next one begins, what comes before the history, and what is wrong with a store."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper.errors import Incomplete
from shaper.history import connect, memory
from shaper.history.memory import BELIEFS, PARALLELISM, Memory
from shaper.history.place import Place
from shaper.history.store import Store
from shaper.models import Beliefs
from shaper.models.as_json import to_json
from tests.conftest import ROOT, needs
from tests.history.postgres import programs, server
from tests.history.rows import entry, subject
from tests.unit.factories import seen, task

OPTIONS: dict[str, Any] = {"cores": 1, "memory": "1GB", "progress": False}
DATASET = {"a": 40_000, "b": 40_000}


def process(chunk: shaper.Chunk) -> int:
    total = 0
    for n in range(20 * chunk.elements):
        total ^= n
    return chunk.elements


def other(chunk: shaper.Chunk) -> int:
    return process(chunk) + 0


def add(a: int, b: int) -> int:
    return a + b


def run(folder: Path, **options: Any) -> shaper.Result:
    """A run with its history in a folder."""
    options = {"process": process, "history": folder / "h.sqlite", **OPTIONS, **options}
    return shaper.run(options.pop("dataset", DATASET), merge=add, **options)


def first(result: shaper.Result) -> tuple[int, str]:
    """Size and reason of the first task that was submitted."""
    rows = [row for row in result.report.timeline if row["work"] == "process"]
    row = min(rows, key=lambda row: (row["submitted_s"], row["id"]))
    return row["elements"], row["reason"]


def cold_beliefs() -> Beliefs:
    """What one attempt has shown."""
    return Beliefs().updated(seen(task()))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_said", set())
    monkeypatch.setenv("SHAPER_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def recalled(monkeypatch: pytest.MonkeyPatch) -> list[Beliefs | None]:
    """What runs have asked the history for."""
    asked: list[Beliefs | None] = []
    ask = Memory.recall

    def recall(self: Memory) -> Beliefs | None:
        asked.append(ask(self))
        return asked[-1]

    monkeypatch.setattr(Memory, "recall", recall)
    return asked


# -- where the next run begins --


def test_the_second_run_begins_with_the_size_and_the_allocation_that_the_first_has_learnt(tmp_path: Path) -> None:
    cold = run(tmp_path)
    size, reason = first(cold)
    assert reason == "a probe: nothing is known yet"
    warm = run(tmp_path)
    # As with the first as its warm start, which is a quarter of what is best until some have finished.
    told = run(tmp_path, history=False, warm_start=cold)
    assert first(warm)[1] == first(told)[1] == "small until some finish: this is what another run showed"
    assert first(warm)[0] == first(told)[0] > 4 * size
    given = [result.report.timeline[0]["memory_mib"] for result in (warm, told)]
    assert given[0] == given[1]
    assert warm.value == cold.value == 80_000


def test_changed_code_is_trusted_less(tmp_path: Path) -> None:
    run(tmp_path)
    size, reason = first(run(tmp_path, process=other))
    same, _ = first(run(tmp_path))
    assert reason == "small until some finish: another run showed this of other code"
    assert 1 <= size < same / 2
    # What it has shown itself is then trusted.
    assert first(run(tmp_path, process=other))[1] == "small until some finish: this is what another run showed"


def test_another_workflow_begins_with_a_probe(tmp_path: Path) -> None:
    run(tmp_path, name="one")
    assert first(run(tmp_path, name="two", process=other))[1] == "a probe: nothing is known yet"


def test_a_warm_start_and_records_of_the_run_itself_come_before_the_history(
    tmp_path: Path, recalled: list[Beliefs | None]
) -> None:
    run(tmp_path)
    assert recalled == [None]
    assert first(run(tmp_path, warm_start=Beliefs()))[1] == "a probe: nothing is known yet"
    assert len(recalled) == 1
    bad = tmp_path / "bad"
    bad.touch()

    def fails(chunk: shaper.Chunk) -> int:
        if bad.exists() and any(span.source == "b" for span in chunk.spans):
            raise ValueError("not now")
        return chunk.elements

    with pytest.raises(Incomplete):
        run(tmp_path, process=fails, run_dir=tmp_path / "r")
    assert len(recalled) == 2
    bad.unlink()
    assert run(tmp_path, process=fails, run_dir=tmp_path / "r").value == 80_000
    assert len(recalled) == 2


def test_a_run_that_goes_on_but_has_seen_nothing_asks_the_history(
    tmp_path: Path, recalled: list[Beliefs | None]
) -> None:
    run(tmp_path, run_dir=tmp_path / "r")
    records = tmp_path / "r" / "records.jsonl"
    records.write_text(records.read_text().splitlines()[0] + "\n")
    run(tmp_path, run_dir=tmp_path / "r")
    assert len(recalled) == 2
    assert recalled[-1] is not None


def test_groups_that_a_run_did_not_see_are_kept_for_the_next(tmp_path: Path) -> None:
    def sources(*groups: str) -> list[shaper.Source]:
        return [shaper.Source(name, 2000, group=name) for name in groups]

    run(tmp_path, dataset=sources("x", "y"))
    run(tmp_path, dataset=sources("y", "z"))
    assert kept_groups(tmp_path) == {"x", "y", "z"}


def kept_groups(folder: Path) -> set[str]:
    known = Store(Place(folder / "h.sqlite"))
    (number,) = (row["id"] for row in known.subjects() if row["category"] == "processing")
    body: Any = known.documents(number)[BELIEFS]
    return set(body["categories"]["processing"]["groups"])


def test_a_run_that_failed_leaves_what_it_has_seen_but_no_belief_of_which_nothing_finished(tmp_path: Path) -> None:
    def fails(chunk: shaper.Chunk) -> int:
        raise ValueError("always")

    run(tmp_path)
    with pytest.raises(Incomplete):
        run(tmp_path, process=fails, dataset={"a": 100})
    known = Store(Place(tmp_path / "h.sqlite"))
    assert len([row for row in known.subjects() if row["category"] == "processing"]) == 1


def test_stage_runs_and_a_sample_of_the_attempts_are_kept(tmp_path: Path) -> None:
    result = run(tmp_path)
    known = Store(Place(tmp_path / "h.sqlite"))
    (number,) = (row["id"] for row in known.subjects() if row["category"] == "processing")
    (stage_run,) = known.stage_runs(number)
    assert (stage_run["stage"], stage_run["mode"], stage_run["s"], stage_run["load"]) == ("processing", "split", 1, 0)
    assert (stage_run["elements"], stage_run["engine"], stage_run["status"]) == (80_000, "local", "done")
    assert 0 < stage_run["wall_s"] <= result.report.makespan_s
    assert stage_run["tasks"] == sum(row["work"] == "process" for row in result.report.timeline)
    assert 0 < len(known.observations(number)) <= stage_run["tasks"]


def test_models_of_other_kinds_have_their_place(tmp_path: Path) -> None:
    known = Store(Place(tmp_path / "h.sqlite"))
    one = Memory(known, {"processing": subject()}, {}, "local")
    one.keep("processing", "parallelism", {"version": 1, "p": 0.9})
    one.end("done")
    two = Memory(known, {"processing": subject()}, {}, "local")
    assert two.recall() is None
    assert two.documents == {("processing", "parallelism"): {"version": 1, "p": 0.9}}


def test_what_runs_have_shown_about_parallelism_is_handed_on_to_the_same_code(
    tmp_path: Path, recalled: list[Beliefs | None]
) -> None:
    policy = shaper.policy.Adaptive
    cold = run(tmp_path, policy=policy(goal="cost"))
    shown = cold.beliefs.parallelism["processing", "split"]
    assert shown.model.runs
    run(tmp_path, policy=policy(goal="cost"))
    found = recalled[-1]
    assert found is not None
    assert found.parallelism["processing", "split"].base_elements == shown.base_elements == 80_000
    assert found.parallelism["processing", "split"].model == shown.model
    run(tmp_path, process=other, policy=policy(goal="cost"))
    found = recalled[-1]
    assert found is not None
    assert found.categories
    assert not found.parallelism


def test_what_cores_of_a_task_are_worth_is_known_apart_from_what_tasks_side_by_side_are(
    tmp_path: Path, recalled: list[Beliefs | None]
) -> None:
    for mode in ("split", "threads", "split"):
        stage = shaper.Stage("one", DATASET, process, add, mode=mode)
        shaper.run([stage], history=tmp_path / "h.sqlite", policy=shaper.policy.Adaptive(goal="cost"), **OPTIONS)
    *_, found = recalled
    assert found is not None
    assert set(found.parallelism) == {("one", "split"), ("one", "threads")}
    assert found.parallelism["one", "split"].model != found.parallelism["one", "threads"].model


def test_a_model_that_makes_no_sense_is_ignored_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Store(Place(tmp_path / "h.sqlite"))
    kept = Memory(known, {"processing": subject()}, {}, "local")
    kept.keep("processing", PARALLELISM["split"], {"version": 1, "base_elements": 0, "model": {}})
    kept.keep("processing", BELIEFS, to_json(cold_beliefs()))
    kept.end("done")
    found = Memory(known, {"processing": subject()}, {}, "local").recall()
    assert found is not None
    assert not found.parallelism
    assert "the parallelism, split, of 'processing' is ignored: a baseline of 0 elements" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [{"watch": {"slower": "x"}}, {"seen": float("inf")}, {"changes": [1e999]}])
def test_a_damaged_model_does_not_end_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any]
) -> None:
    policy = shaper.policy.Adaptive(goal="cost")
    run(tmp_path, policy=policy)
    with sqlite3.connect(tmp_path / "h.sqlite") as connection:
        (body,) = connection.execute("SELECT body FROM documents WHERE kind = ?", (PARALLELISM["split"],)).fetchone()
        document = json.loads(body)
        document["model"] |= damage
        connection.execute("UPDATE documents SET body = ? WHERE kind = ?", (json.dumps(document), PARALLELISM["split"]))
    connection.close()
    assert run(tmp_path, policy=policy).value == 80_000
    (line,) = said(capsys)
    assert "the parallelism, split, of 'processing' is ignored: not a kept model of parallelism" in line


def test_whatever_reading_a_document_raises_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    monkeypatch.setattr(memory, "from_json", lambda document: 1 / 0)
    assert first(run(tmp_path))[1] == "a probe: nothing is known yet"
    assert "what it holds about 'processing' is ignored: division by zero" in str(said(capsys))


# -- when it is used --


def test_it_is_on_for_real_engines_and_off_where_a_policy_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "shaper" / "history.sqlite"
    monkeypatch.setenv("SHAPER_HISTORY", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    simulated = shaper.engines.Simulated([shaper.engines.WorkerSpec(4, 8000, 1)], lambda task, rng: cost(), seed=0)
    shaper.run({"a": 1000}, engine=simulated)
    run(tmp_path, history=False)
    run(tmp_path, history=None, policy=shaper.policy.Adaptive(without=["bends"]))
    run(tmp_path, history=None, policy=shaper.policy.Published(first_guess=1000))
    monkeypatch.setenv("SHAPER_HISTORY", "off")
    run(tmp_path, history=None)
    assert not path.exists()
    monkeypatch.setenv("SHAPER_HISTORY", "")
    run(tmp_path, history=None)
    assert path.exists()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def cost() -> Any:
    from shaper.types import Usage

    return Usage(wall_s=1.0, memory_mib=100.0)


# -- what is wrong with it --


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "history" in line]


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 100)


def newer(path: Path) -> None:
    from shaper.history import schema

    Store(Place(path), (*schema.STEPS, lambda connection: None)).add("r", [entry()])


def cut(path: Path) -> None:
    Store(Place(path)).add("r", [entry()])
    os.truncate(path, 5000)


def of_something_else(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE subjects (id INTEGER, name TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (damaged, "cannot be used: file is not a database (move it away, and the next run begins a new one)"),
        (newer, "was made by a newer version of shaper (schema 3): update this one"),
        (cut, "cannot be used: database disk image is malformed (move it away"),
        (of_something_else, "cannot be used: no such column: subjects."),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: Callable[[Path], None], message: str
) -> None:
    wrong(tmp_path / "h.sqlite")
    assert run(tmp_path).value == 80_000
    (line,) = said(capsys)
    assert line.startswith(f"shaper: history: {tmp_path / 'h.sqlite'} {message}")
    assert line.endswith("; this run goes on without it")


def test_beliefs_that_make_no_sense_are_ignored_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    with sqlite3.connect(tmp_path / "h.sqlite") as connection:
        bodies = [row[0] for row in connection.execute("SELECT body FROM documents WHERE kind = ?", (BELIEFS,))]
        for body in bodies:
            later = json.dumps({**json.loads(body), "version": 99})
            connection.execute("UPDATE documents SET body = ? WHERE body = ?", (later, body))
    connection.close()
    assert first(run(tmp_path))[1] == "a probe: nothing is known yet"
    lines = said(capsys)
    assert "what it holds about 'processing' is ignored: beliefs of version 99 are not known here, only 1" in str(lines)
    assert len(lines) == len(bodies)
    # The next has what that one has left.
    assert first(run(tmp_path))[1] == "small until some finish: this is what another run showed"


def test_a_store_that_others_hold_does_not_hold_up_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "BUSY_S", 0.2)
    run(tmp_path)
    holder = sqlite3.connect(tmp_path / "h.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        # What is in the write-ahead log can be read all the same.
        assert first(run(tmp_path))[1] == "small until some finish: this is what another run showed"
    finally:
        holder.close()
    (line,) = said(capsys)
    assert "cannot be used: database is locked (others have held it for 0 s)" in line


def test_a_bad_url_is_one_line_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, history="postgresql://u:secret@db.host:port/x").value == 80_000
    (line,) = said(capsys)
    assert line.startswith("shaper: history: that is no URL of PostgreSQL")
    assert line.endswith("; this run goes on without it")
    assert "secret" not in line


def test_a_server_that_goes_away_while_a_run_goes_on_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(programs(), "PostgreSQL (apt-get install postgresql)")
    with ExitStack() as stack:
        url = stack.enter_context(server())
        run(tmp_path, history=url)
        end = Memory.end
        monkeypatch.setattr(Memory, "end", lambda self, status: (stack.close(), end(self, status)))
        warm = run(tmp_path, history=url)
    assert warm.value == 80_000
    assert first(warm)[1] == "small until some finish: this is what another run showed"
    (line,) = said(capsys)
    assert "cannot be used: connection " in line
    assert line.endswith("; this run goes on without it")


def test_a_read_only_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs(os.geteuid() == 0, "mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        run(small)
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        again = run(small, run_dir=tmp_path / "r")
        assert again.value == 80_000
        assert first(again)[1] == "small until some finish: this is what another run showed"
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    (line,) = said(capsys)
    assert line.endswith("; this run goes on without it")


def test_a_server_that_is_not_there_or_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BOUND_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert run(tmp_path, history=f"postgresql://me:secret@127.0.0.1:{port}/x").value == 80_000
    (line,) = said(capsys)
    assert line == (
        f"shaper: history: postgresql://me:***@127.0.0.1:{port}/x does not answer within 1 s; "
        "this run goes on without it"
    )
    assert run(tmp_path, history=f"postgresql://me:secret@127.0.0.1:{port}/x").value == 80_000
    (line,) = said(capsys)
    assert "Connection refused" in line
    assert "secret" not in line


def test_a_network_file_system_is_warned_of_once_and_has_no_write_ahead_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (memory, connect):
        monkeypatch.setattr(module, "network_file_system", lambda path: "nfs4")
    run(tmp_path)
    assert first(run(tmp_path))[1] == "small until some finish: this is what another run showed"
    (line,) = said(capsys)
    assert "h.sqlite lies on a network file system (nfs4), where several managers may damage it" in line
    with sqlite3.connect(tmp_path / "h.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_without_the_extra_a_process_says_once_that_nothing_is_remembered(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nsys.modules['sqlalchemy'] = None\nimport shaper\n"
        "def process(chunk):\n    return chunk.elements\n"
        "for n in range(2):\n"
        "    found = shaper.run({'a': 100}, process=process, merge=lambda a, b: a + b, cores=1, memory='500MB')\n"
        "print(found.value)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHAPER_HISTORY": str(tmp_path / "h.sqlite")}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["100"]
    lines = [line for line in done.stderr.splitlines() if "remembered" in line]
    assert lines == ["shaper: nothing is remembered for the next run: pip install 'shaper[history]'"]
    assert not (tmp_path / "h.sqlite").exists()


def test_a_run_on_a_server_is_remembered_as_one_in_a_file(database: str, tmp_path: Path) -> None:
    cold = run(tmp_path, history=database)
    warm = run(tmp_path, history=database)
    assert first(warm)[0] > 4 * first(cold)[0]
    assert first(warm)[1] == "small until some finish: this is what another run showed"
