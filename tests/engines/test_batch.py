"""What only engines with real, remote workers have: warm servers, versions, workers that come, go and differ."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import shaper
from shaper.engines import TaskVine, WorkQueue
from shaper.engines.batch import Batch
from shaper.errors import BadInput, Damaged, ProcessFailed, SiteError
from shaper.policy import Fixed
from shaper.types import Cancel, Chunk, Code, Observation, Outcome, Resources, Source, Span, Task
from tests.engines.batch_chaos import servers
from tests.engines.chaos import descendants
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until

MAKERS: dict[str, type[Batch]] = {"workqueue": WorkQueue, "taskvine": TaskVine}


def behave(chunk: Chunk) -> Any:
    action = chunk.spans[0].source.payload
    return action() if callable(action) else chunk.elements


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(params=list(MAKERS))
def name(request: pytest.FixtureRequest) -> str:
    needs_engine(request.param)
    return str(request.param)


@pytest.fixture
def engine(name: str, tmp_path: Path) -> Iterator[Batch]:
    opened = made(name, tmp_path / "run", free_port())
    yield opened
    opened.close()


@pytest.fixture
def worker(engine: Batch, tmp_path: Path) -> Iterator[Worker]:
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path) as started:
        connected(engine)
        yield started


def connected(engine: Batch) -> None:
    until(lambda: engine.wait(0.1) == [] and engine.capacity().kinds)


def task(number: int, action: Any = None, memory_mib: int = 500) -> Task:
    work = Chunk((Span(Source(f"source-{number}", 10, payload=action), 0, 10),))
    return Task(f"1.{number}", "s", "", "c", work, Resources(1, memory_mib))


def seen(engine: Batch, count: int) -> list[Observation]:
    found: list[Observation] = []

    def enough() -> bool:
        found.extend(one for one in engine.wait(0.5) if isinstance(one, Observation))
        return len(found) >= count

    until(enough)
    return found


def test_a_worker_keeps_one_server_and_takes_all_with_it(engine: Batch, worker: Worker) -> None:
    for number in range(6):
        engine.submit(task(number, os.getppid))
    for one in seen(engine, 6):
        assert one.outcome is Outcome.DONE, one.detail
    assert len(servers(worker.folder)) == 1
    below = descendants(servers(worker.folder)[0])
    assert below
    worker.end()
    until(lambda: not servers(worker.folder) and not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_what_a_task_prints_is_kept(engine: Batch, worker: Worker) -> None:
    def say() -> int:
        print("heard")
        raise ValueError("of the user")

    engine.submit(task(1, say))
    (one,) = seen(engine, 1)
    assert one.outcome is Outcome.FAILED
    assert "ValueError: of the user" in one.detail
    assert engine.run_dir is not None
    assert (engine.run_dir / "logs" / "1.1.out").read_text() == "heard\n"


def test_a_task_that_prints_without_end_brings_back_the_beginning_and_the_end(engine: Batch, worker: Worker) -> None:
    def say() -> None:
        for number in range(10**5):
            print("line", number)

    engine.submit(task(1, say))
    assert seen(engine, 1)[0].outcome is Outcome.DONE
    assert engine.run_dir is not None
    kept = (engine.run_dir / "logs" / "1.1.out").read_text()
    assert kept.startswith("line 0\n")
    assert kept.endswith("line 99999\n")
    assert " bytes are left out ..." in kept
    assert len(kept) <= 2**16


def test_other_versions_on_a_worker_are_named_before_anything_runs(engine: Batch, worker: Worker) -> None:
    path, stage, needed = engine._shipping._codes["s"]
    engine._shipping._codes["s"] = path, stage, {**needed, "numpy": "0.0.1", "no-such-thing": "1"}
    engine.submit(task(1))
    with pytest.raises(SiteError, match=r"has numpy [\d.]+ \(wanted: 0\.0\.1\), no no-such-thing \(wanted: 1\)"):
        until(lambda: engine.wait(0.5))


def test_an_interpreter_that_lacks_what_is_needed_is_named(engine: Batch, worker: Worker, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", empty], check=True)
    engine._shipping._delivery = replace(engine._shipping._delivery, python=str(empty / "bin" / "python"))
    engine.submit(task(1))
    with pytest.raises(SiteError, match=r"cannot run Python functions: .*/python: ModuleNotFoundError"):
        until(lambda: engine.wait(0.5))


def test_a_server_that_was_killed_loses_its_calls_and_the_next_starts_another(engine: Batch, worker: Worker) -> None:
    def wait_for_the_end() -> None:
        signal.pause()

    engine.submit(task(1, wait_for_the_end))
    until(lambda: engine.wait(0.1) == [] and servers(worker.folder) and _children(worker))
    os.kill(servers(worker.folder)[0], signal.SIGKILL)
    (one,) = seen(engine, 1)
    assert (one.outcome, one.detail) == (Outcome.LOST, "its warm server was killed")
    engine.submit(task(2))
    assert seen(engine, 1)[0].outcome is Outcome.DONE


def _children(worker: Worker) -> list[int]:
    """Processes of running calls: below the supervisors, which are below the warm parent."""
    return [pid for server in servers(worker.folder) for pid in descendants(server) if len(descendants(pid)) == 0]


def test_a_worker_that_goes_away_loses_its_tasks_once(engine: Batch, worker: Worker, tmp_path: Path) -> None:
    def wait_for_the_end() -> None:
        signal.pause()

    for number in range(2):
        engine.submit(task(number, wait_for_the_end))
    until(lambda: engine.wait(0.1) == [] and _children(worker))
    worker.end()
    found = seen(engine, 2)
    assert {one.task.id for one in found} == {"1.0", "1.1"}
    assert {one.outcome for one in found} == {Outcome.LOST}
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path):
        engine.submit(task(3))
        assert [one.task.id for one in seen(engine, 1)] == ["1.3"]


def test_workers_of_several_sizes_are_told_apart(engine: Batch, worker: Worker, tmp_path: Path) -> None:
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path, cores=1, memory_mib=6000):
        until(lambda: engine.wait(0.1) == [] and len(engine.capacity().kinds) == 2)
        capacity = engine.capacity()
        small, large = sorted(capacity.kinds, key=lambda kind: kind.memory_mib)
        assert (small.cores, small.count, large.cores, large.count) == (2, 1, 1, 1)
        assert 0.9 * 3000 <= small.memory_mib <= 3000  # Work Queue rounds down, but for the largest
        assert capacity.largest is not None
        assert capacity.largest.memory_mib == 6000
        engine.submit(task(1, memory_mib=5000))
        assert seen(engine, 1)[0].outcome is Outcome.DONE


def test_a_lost_result_is_said_when_it_is_merged(engine: Batch, worker: Worker) -> None:
    from shaper.types import Merge, ResultLost

    engine.submit(task(1))
    engine.submit(task(2))
    seen(engine, 2)
    assert engine.run_dir is not None
    (engine.run_dir / "results" / "1.1.pkl").unlink()
    engine.submit(replace(task(3), work=Merge(("1.1", "1.2"), 20, 100)))
    found: list[object] = []

    def both() -> bool:
        found.extend(engine.wait(0.5))
        return len(found) >= 2

    until(both)
    assert ResultLost(("1.1",)) in found
    assert [one.outcome for one in found if isinstance(one, Observation)] == [Outcome.LOST]


def test_a_password_that_others_can_read_is_refused(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    secret.chmod(0o644)
    with pytest.raises(BadInput, match="can be read by others: chmod 600"):
        MAKERS[name](password_file=secret)


@pytest.mark.parametrize("option", ["grace_s", "silent_s"])
@pytest.mark.parametrize("given", [-1, float("nan"), float("inf"), "60", None, True])
def test_a_time_that_cannot_be_is_refused(given: Any, option: str, name: str) -> None:
    with pytest.raises(BadInput, match=f"^{option} must be a number of seconds from [02] to .*, got {given!r}$"):
        MAKERS[name](**{option: given})


def test_a_worker_has_at_least_two_seconds_to_answer(name: str) -> None:
    with pytest.raises(BadInput, match="silent_s must be"):
        MAKERS[name](silent_s=1.9)
    assert MAKERS[name](silent_s=2, grace_s=0).silent_s == 2.0


@pytest.mark.parametrize("is_file", [True, False])
def test_a_password_that_is_empty_is_refused(is_file: bool, name: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600) if is_file else secret.mkdir(0o700)
    with pytest.raises(BadInput, match="is empty or no file"):
        MAKERS[name](password_file=secret)


@pytest.mark.parametrize("taken", ["log.out", "reply.pkl.part", "call.txt", "für_2018.json"])
def test_files_whose_names_would_not_arrive_are_refused(taken: str, name: str, tmp_path: Path) -> None:
    (tmp_path / taken).touch()
    with pytest.raises(BadInput, match=r"extra_input_files: the name .* (is taken|does not travel)"):
        MAKERS[name](extra_input_files=[tmp_path / taken])


def test_a_worker_without_the_password_gets_nothing(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("of this test alone")
    secret.chmod(0o600)
    engine = MAKERS[name](port=free_port(), password_file=secret)
    engine.run_dir = tmp_path
    engine.open("s", Code("s", cloudpickle.dumps((behave, add)), "f"))
    try:
        with Worker(PROGRAMS[name], engine.system.port, tmp_path) as worker:
            until(lambda: engine.wait(0.1) == [] and "auth: peer did not" in worker.log_text())
            assert not engine.capacity().kinds
    finally:
        engine.close()


def made(name: str, folder: Path, port: int) -> Batch:
    engine = MAKERS[name](port=port)
    engine.run_dir = folder
    engine.run_dir.mkdir()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine.open("s", Code("s", cloudpickle.dumps((behave, add)), "f"))
    return engine


def test_a_worker_serves_the_next_manager_where_that_one_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    found = []
    with Worker(PROGRAMS[name], port, tmp_path, more=()):
        for number in (1, 2):
            here = tmp_path / f"here-{number}"
            here.mkdir()
            monkeypatch.chdir(here)
            engine = made(name, tmp_path / f"run-{number}", port)
            try:
                connected(engine)
                engine.submit(task(number, os.getcwd))
                assert seen(engine, 1)[0].outcome is Outcome.DONE
                found.append(engine.fetch(f"1.{number}"))
            finally:
                engine.close()
    assert found == [str(tmp_path / "here-1"), str(tmp_path / "here-2")]


def test_a_worker_serves_the_next_manager_where_nothing_is_shared(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that functions find themselves in then is the worker's own, which it clears away in between."""
    port = free_port()
    here, away = tmp_path / "here", tmp_path / "away"
    here.mkdir()
    monkeypatch.chdir(here)
    with Worker(PROGRAMS[name], port, tmp_path, more=()):
        for number in (1, 2):
            engine = made(name, tmp_path / f"run-{number}", port)
            here.rename(away)
            try:
                connected(engine)
                engine.submit(task(number, os.getcwd))
                one = seen(engine, 1)[0]
                assert one.outcome is Outcome.DONE, one.detail
            finally:
                engine.close()
                away.rename(here)


def test_a_lasting_engine_begins_its_next_run_with_the_same_workers(
    engine: Batch, worker: Worker, tmp_path: Path
) -> None:
    """This worker ends when it is left; names of tasks come again, and what was taken back must not answer for them."""
    engine.lasting = True
    for number in (1, 2):
        engine.submit(task(number, lambda: "of the first run"))
    seen(engine, 2)
    engine.submit(task(3, lambda: time.sleep(600)))
    until(lambda: engine.wait(0.1) == [] and not engine.capacity().waiting)
    engine.cancel([Cancel("1.3", "for this test")])
    before_s = engine.now_s
    engine.close()
    engine.run_dir = tmp_path / "next"
    engine.run_dir.mkdir()
    engine.open("s", Code("s", cloudpickle.dumps((behave, add)), "f"))
    assert engine.now_s < before_s
    for number in (2, 3):
        engine.submit(task(number, lambda: "of the next run"))
    assert {one.task.id for one in seen(engine, 2)} == {"1.2", "1.3"}
    assert {engine.fetch(f"1.{number}") for number in (2, 3)} == {"of the next run"}
    with pytest.raises(Damaged):
        engine.fetch("1.1")


def test_a_lasting_engine_leaves_its_workers_where_something_runs(
    engine: Batch, worker: Worker, tmp_path: Path
) -> None:
    engine.lasting, begun = True, tmp_path / "begun"
    engine.submit(task(1, lambda: (begun.touch(), time.sleep(600))))
    until(lambda: engine.wait(0.1) == [] and begun.exists())
    port = engine.system.port
    engine.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("localhost", port)) != 0, "it still listens for workers"


def test_modules_that_are_not_installed_travel(name: str, tmp_path: Path) -> None:
    """The worker sees neither their folder nor the manager's: both are gone when it runs."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "of_the_user.py").write_text("def double(n):\n    return 2 * n\n")
    spec = importlib.util.spec_from_file_location("of_the_user", folder / "of_the_user.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["of_the_user"] = module
    spec.loader.exec_module(module)

    def process(chunk: Chunk) -> int:
        from of_the_user import double

        return int(double(chunk.elements))

    port = free_port()
    with Worker(PROGRAMS[name], port, tmp_path):
        result = shaper.run(
            {"a": 100}, process=process, merge=add, engine=name, port=port, run_dir=tmp_path / "run", progress=False
        )
    del sys.modules["of_the_user"]
    assert result.value == 200


def test_the_users_exception_arrives(name: str, tmp_path: Path) -> None:
    def process(chunk: Chunk) -> int:
        raise KeyError("no such branch")

    port = free_port()
    with Worker(PROGRAMS[name], port, tmp_path), pytest.raises(ProcessFailed, match="no such branch") as raised:
        shaper.run(
            {"a": 100},
            process=process,
            merge=add,
            engine=name,
            port=port,
            policy=Fixed(100, Resources(1, 300)),
            run_dir=tmp_path / "run",
            progress=False,
        )
    assert isinstance(raised.value.__cause__, KeyError)


def test_what_no_worker_can_hold_lets_others_pass_and_runs_when_a_larger_one_comes(
    engine: Batch, worker: Worker, tmp_path: Path
) -> None:
    with pytest.warns(
        UserWarning, match=r"no connected worker can hold task 1\.1 .*; the largest has 2 cores and 2\.9"
    ):
        engine.submit(task(1, memory_mib=worker.memory_mib + 1))
    for number in range(2, 6):
        engine.submit(task(number))
    assert {one.task.id for one in seen(engine, 4)} == {"1.2", "1.3", "1.4", "1.5"}
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path, memory_mib=worker.memory_mib + 500):
        (one,) = seen(engine, 1)
    assert (one.task.id, one.outcome) == ("1.1", Outcome.DONE)


def test_what_needs_more_disk_than_any_worker_has_is_said(engine: Batch, worker: Worker) -> None:
    large = replace(task(1), resources=Resources(1, 500, disk_mib=10**8))
    with pytest.warns(UserWarning, match=r"task 1\.1 .* of disk; the largest has .* of disk"):
        engine.submit(large)
    engine.submit(task(2))
    assert [one.task.id for one in seen(engine, 1)] == ["1.2"]
