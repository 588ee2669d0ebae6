"""Who gets in: workers with the password, and with encryption where the manager wants it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shaper.engines import TaskVine
from tests.conftest import ROOT
from tests.engines.batch_chaos import servers
from tests.engines.chaos_script import SOURCES
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, needs_taskvine, until

WHOLE = [str(sum(sum(range(count)) for count in SOURCES.values())), str(sum(SOURCES.values()))]
SCRIPT = """
import sys
import shaper
from shaper.engines import {engine}
from tests.engines.chaos_script import SOURCES, merge, process

engine = {engine}(port={port}, **{options})
found = shaper.run(SOURCES, process=process, merge=merge, engine=engine, run_dir=sys.argv[1])
print(found.value["sum"], found.value["count"])
"""


class Run:
    """A manager in a process of its own."""

    def __init__(self, engine: str, port: int, folder: Path, options: str = "{}") -> None:
        self._out, self._err = folder / "out", folder / "err"
        name = {"workqueue": "WorkQueue", "taskvine": "TaskVine"}[engine]
        code = SCRIPT.format(engine=name, port=port, options=options)
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(folder / "run")], cwd=ROOT, stdout=out, stderr=err
            )

    def said(self) -> str:
        """On standard error, so far."""
        return self._err.read_text()

    def value(self) -> list[str]:
        """What it printed in the end; Work Queue 7 prints a warning of its own before."""
        assert self.process.wait(60.0) == 0, self.said()
        return self._out.read_text().splitlines()[-1].split()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def shaper_workers(*words: str) -> str:
    """What `shaper workers` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "shaper", "workers", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(engine: str, port: int, folder: Path, options: str = "{}") -> Iterator[Run]:
    run = Run(engine, port, folder, options)
    try:
        yield run
    finally:
        run.close()


@pytest.mark.parametrize("engine", PROGRAMS)
def test_a_worker_with_another_password_gets_nothing_and_the_run_says_that_it_is_alone(
    engine: str, tmp_path: Path
) -> None:
    needs_engine(engine)
    wrong, port = tmp_path / "wrong", free_port()
    wrong.write_text("not that of the tests")
    wrong.chmod(0o600)
    with (
        running(engine, port, tmp_path) as run,
        Worker(PROGRAMS[engine], port, tmp_path, secret=wrong, more=()) as outside,
    ):
        until(lambda: "auth: peer did not" in outside.log_text())
        until(lambda: "no workers for" in run.said())
        assert f"workers connect to port {port}" in run.said()
        assert not servers(outside.folder)
        with Worker(PROGRAMS[engine], port, tmp_path, more=()):
            assert run.value() == WHOLE
        assert "workers: 1 x 2 cores" in run.said()
        assert not servers(outside.folder)


def test_with_ssl_a_worker_without_it_gets_nothing(tmp_path: Path) -> None:
    needs_taskvine()
    port = free_port()
    with (
        running("taskvine", port, tmp_path, "{'ssl': True}") as run,
        Worker("vine_worker", port, tmp_path, more=()) as outside,
    ):
        until(lambda: "no workers for" in run.said())
        until(lambda: "disconnected" in outside.log_text() or "could not connect" in outside.log_text().lower())
        assert not servers(outside.folder)
        with Worker("vine_worker", port, tmp_path, more=("--ssl",)) as inside:
            assert run.value() == WHOLE
            assert inside.process.poll() is None
        assert not servers(outside.folder)


def test_workers_are_started_with_ssl_where_the_manager_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_taskvine()
    monkeypatch.setenv("SHAPER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SHAPER_PASSWORD_FILE")
    port = free_port()
    with running("taskvine", port, tmp_path, "{'ssl': True}") as run:
        until(lambda: "no workers for" in run.said())
        asked = shaper_workers("start", "--cores", "2", "--memory", "3GB", "--print-script")
        assert " --ssl " in asked.replace("\n", " ")
        try:
            shaper_workers("start", "--count", "1", "--cores", "2", "--memory", "3GB")
            assert run.value() == WHOLE
        finally:
            shaper_workers("stop")


def test_a_key_and_a_certificate_of_the_user(tmp_path: Path) -> None:
    needs_taskvine()
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    assert TaskVine(ssl=(str(key), str(certificate))).ssl
    port = free_port()
    options = repr({"ssl": (str(key), str(certificate))})
    with running("taskvine", port, tmp_path, options) as run, Worker("vine_worker", port, tmp_path, more=("--ssl",)):
        assert run.value() == WHOLE
