"""The store, in a file and on a server: what is found again, what is let go, older schemas, many writers."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from shaper.history import schema, store
from shaper.history.place import Place, place
from shaper.history.store import Store, Unusable
from tests.conftest import needs
from tests.history.rows import entry, observation, stage_run, subject


def test_what_is_added_is_found_again_whole(where: Place) -> None:
    rows = [observation(size=float(n), at_unix_s=1000.0 + n, group_name="ttbar", cpu_s=None) for n in range(3)]
    Store(where).add("r1", [entry(documents={"beliefs": {"a": [1, 0.1]}, "other": {}}, observations=rows)], 1000.0)
    known = Store(where)
    (found,) = known.find([subject()])
    assert found is not None
    assert (found.exact, found.runs, found.documents) == (True, 1, {"beliefs": {"a": [1, 0.1]}, "other": {}})
    (row,) = known.subjects()
    assert (row["workflow"], row["versions"], row["last_unix_s"]) == ("run of a.py", {"python": "3.11"}, 1000.0)
    assert [{k: v for k, v in got.items() if k != "run"} for got in known.observations(row["id"])] == rows
    assert [{k: v for k, v in got.items() if k != "run"} for got in known.stage_runs(row["id"])] == [stage_run()]


def test_a_later_run_replaces_models_and_adds_rows(where: Place) -> None:
    for run in range(3):
        Store(where).add(f"r{run}", [entry(documents={"beliefs": {"run": run}})], 1000.0 + run)
    known = Store(where)
    (row,) = known.subjects()
    assert (row["runs"], row["first_unix_s"], row["last_unix_s"]) == (3, 1000.0, 1002.0)
    assert known.documents(row["id"]) == {"beliefs": {"run": 2}}
    assert [got["run"] for got in known.stage_runs(row["id"])] == ["r0", "r1", "r2"]


def test_the_same_code_is_preferred_then_the_same_workflow_and_neither_counts_as_the_same(where: Place) -> None:
    def add(name: str, at_s: float, **about: object) -> None:
        Store(where).add("r", [entry(subject(**about), documents={"beliefs": name})], at_s)

    known = Store(where)
    add("another workflow", 5000.0, workflow="run of b.py", code="0ther")
    assert known.find([subject()]) == [None]
    add("older code", 1000.0, code="0ld")
    add("newer code", 2000.0, code="newer")
    add("another category", 6000.0, category="accumulating")
    (found,) = known.find([subject()])
    assert found is not None
    assert (found.exact, found.documents) == (False, {"beliefs": "newer code"})
    add("same code elsewhere", 500.0, worker="workqueue")
    (found,) = known.find([subject()])
    assert found is not None
    assert (found.exact, found.documents) == (False, {"beliefs": "same code elsewhere"})
    add("the very same in a copy", 400.0, workflow="run of copy/a.py")
    (found,) = known.find([subject()])
    assert found is not None
    assert (found.exact, found.documents) == (True, {"beliefs": "the very same in a copy"})


def test_without_functions_only_the_same_workflow_counts(where: Place) -> None:
    Store(where).add("r", [entry(subject(code="", workflow="run of b.py"))])
    assert Store(where).find([subject(code="")]) == [None]


def test_it_stays_within_its_window(where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "OBSERVATIONS_KEPT", 30)
    many = [observation(at_unix_s=float(n)) for n in range(20)]
    known = Store(where)
    for run in range(store.WINDOW + 5):
        known.add(f"r{run}", [entry(observations=many, stage_runs=[stage_run(at_unix_s=float(run))])], float(run))
    (row,) = known.subjects()
    runs = [got["run"] for got in known.stage_runs(row["id"])]
    assert runs == [f"r{run}" for run in range(5, store.WINDOW + 5)]
    assert len(known.observations(row["id"])) == 30
    assert row["runs"] == store.WINDOW + 5


def test_old_codes_and_old_workflows_are_let_go_with_all_that_is_theirs(
    where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Store(where)
    for n in range(store.FINGERPRINTS_KEPT + 3):
        known.add("r", [entry(subject(code=f"c{n}"))], float(n))
    codes = [row["code"] for row in known.subjects()]
    assert codes == [f"c{n}" for n in range(store.FINGERPRINTS_KEPT + 2, 2, -1)]
    monkeypatch.setattr(store, "SUBJECTS_KEPT", 4)
    known.add("r", [entry(subject(workflow="run of b.py"))], 100.0)
    left = known.subjects()
    assert [row["workflow"] for row in left] == ["run of b.py"] + 3 * ["run of a.py"]
    with known._reading() as connection:
        for table in (schema.OBSERVATIONS, schema.STAGE_RUNS, schema.DOCUMENTS):
            owners = {row.subject for row in connection.execute(table.select())}
            assert owners == {row["id"] for row in left}


def test_a_sqlite_file_does_not_grow_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WINDOW", 5)
    path = tmp_path / "h.sqlite"
    known, sizes = Store(Place(path)), []
    for run in range(25):
        many = [observation(at_unix_s=1000.0 * run + n) for n in range(200)]
        known.add(f"r{run}", [entry(documents={"beliefs": {"x": "y" * 5000}}, observations=many)], float(run))
        sizes.append(path.stat().st_size)
    assert max(sizes[10:]) <= 1.1 * max(sizes[:10])
    assert sizes[-1] < 300_000


def test_what_is_forgotten_is_gone(where: Place) -> None:
    known = Store(where)
    known.add("r", [entry(), entry(subject(category="accumulating"))])
    first, second = (row["id"] for row in known.subjects())
    known.forget([first])
    assert [row["id"] for row in known.subjects()] == [second]
    assert known.observations(first) == known.stage_runs(first) == []
    assert known.documents(first) == {}


def test_an_entry_that_cannot_be_written_leaves_nothing_of_its_run(where: Place) -> None:
    known = Store(where)
    with pytest.raises(Unusable):
        known.add("r", [entry(subject(category="a")), entry(subject(category="b"), stage_runs=[{"stage": None}])])
    assert known.subjects() == []


def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_holds(where: Place) -> None:
    older = Store(where, schema.STEPS[:1])
    with older._writing() as connection:
        assert schema.number(connection) == 1
        row = {"workflow": "run of a.py", "category": "processing", "fingerprint": subject().fingerprint}
        row |= {"code": "c0de", "worker": "local, x", "versions": "{}", "first_unix_s": 1.0, "last_unix_s": 1.0}
        connection.execute(schema.SUBJECTS.insert().values(**row, runs=7))
        connection.execute(
            schema.DOCUMENTS.insert().values(subject=1, kind="beliefs", body='{"old": 1}', updated_unix_s=1.0)
        )
    known = Store(where)
    (found,) = known.find([subject()])
    assert found is not None
    assert (found.runs, found.documents) == (7, {"beliefs": {"old": 1}})
    known.add("r2", [entry()])
    assert [row["runs"] for row in known.subjects()] == [8]
    assert len(known.stage_runs(1)) == 1


def test_a_newer_schema_is_left_alone_and_says_so(where: Place) -> None:
    Store(where, (*schema.STEPS, lambda connection: None)).add("r", [entry()])
    for use in (lambda: Store(where).find([subject()]), lambda: Store(where).add("r", [entry()])):
        with pytest.raises(Unusable, match=r"newer version of shaper \(schema 3\): update this one"):
            use()


def _write(where: Place, name: str, runs: int, begin: object) -> None:
    begin.wait()  # type: ignore[attr-defined]
    for run in range(runs):
        # The next run of the same analysis, and one of its own.
        Store(where).add(f"{name}.{run}", [entry(), entry(subject(workflow=name))])
        assert Store(where).find([subject()]) != [None]


def test_several_processes_write_at_once_into_a_store_that_none_has_made(where: Place) -> None:
    context = multiprocessing.get_context("spawn")
    writers, runs = 4, 6
    begin = context.Barrier(writers)
    started = [context.Process(target=_write, args=(where, f"w{n}", runs, begin)) for n in range(writers)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * writers
    rows = {row["workflow"]: row for row in Store(where).subjects()}
    assert rows["run of a.py"]["runs"] == writers * runs
    assert [rows[f"w{n}"]["runs"] for n in range(writers)] == [runs] * writers
    kept = Store(where).stage_runs(rows["run of a.py"]["id"])
    assert len(kept) == min(store.WINDOW, writers * runs)
    assert len({row["run"] for row in kept}) == len(kept)


def test_a_connection_that_is_lost_in_the_middle_leaves_nothing_of_its_run(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    found = place(database)
    assert found is not None
    known, prune = Store(found), store._prune_subjects
    known.add("r1", [entry()])

    def cut(connection: Connection) -> None:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(database, autocommit=True) as other:
            assert other.execute("SELECT pg_terminate_backend(%s, 5000)", (own,)).fetchone() == (True,)
        prune(connection)

    monkeypatch.setattr(store, "_prune_subjects", cut)
    with pytest.raises(Unusable, match="cannot be used: ") as raised:
        known.add("r2", [entry(), entry(subject(category="accumulating"))])
    assert "\n" not in str(raised.value)
    monkeypatch.undo()
    assert [row["runs"] for row in known.subjects()] == [1]
    known.add("r3", [entry()])
    assert [got["run"] for got in known.stage_runs(known.subjects()[0]["id"])] == ["r1", "r3"]


def _read_as_nobody(where: Place, said: Any) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        said.put([row["workflow"] for row in Store(where).subjects()])
        Store(where).add("r", [entry()])
    except Unusable as error:
        said.put(str(error))


def test_a_file_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    needs(os.geteuid() == 0, "becoming somebody else needs root")
    folder = tmp_path / "h"
    where = Place(folder / "h.sqlite")
    Store(where).add("r", [entry()])
    for above in (folder, *folder.parents):
        above.chmod(above.stat().st_mode | 0o055)
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    process = context.Process(target=_read_as_nobody, args=(where, said))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert said.get() == ["run of a.py"]
    assert "it is read-only; give another with SHAPER_HISTORY" in said.get()
    assert [each.name for each in folder.iterdir()] == ["h.sqlite"]


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@127.0.0.1:1/x", "postgresql://me@127.0.0.1:1/x?password=secret"]
)
def test_a_password_is_never_shown(url: str) -> None:
    found = place(url)
    assert found is not None
    assert "secret" not in Store(found).name
    with pytest.raises(Unusable) as raised:
        Store(found).add("r", [entry()])
    assert "127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(Unusable, match=r"h\.sqlite cannot be used: file is not a database \(move it away"):
        Store(Place(path)).find([subject()])
