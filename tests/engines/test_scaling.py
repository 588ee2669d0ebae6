"""`shaper workers start --min --max` with real managers and workers: grows, shrinks, loses no task, ends workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.engines.slurm import Slurm
from tests.engines.workers import free_port, needs_engine, until

# Many tasks of two seconds, of none once the test is in a hurry, and a last one that ends when the test says so.
SCRIPT = """
import sys
import shaper
from shaper.policy import Fixed
from shaper.types import Resources

gate, hurry = sys.argv[3] + "/gate", sys.argv[3] + "/hurry"

def process(chunk):
    import os, time
    end_s = time.monotonic() + 2
    while not os.path.exists(hurry) and time.monotonic() < end_s:
        time.sleep(0.05)
    while chunk.spans[0].source.id == "last" and not os.path.exists(gate):
        time.sleep(0.05)
    return chunk.elements

result = shaper.run({"a": int(sys.argv[4]), "last": 1}, process=process, merge=lambda a, b: a + b, engine=sys.argv[1],
                    port=int(sys.argv[2]), policy=Fixed(1, Resources(1, 100)), run_dir="run", progress=False)
print("value", result.value, "losses", result.report.losses)
"""


class Bench:
    """A home of its own, a run, and a scaler whose lines are read as they come; all ended by their own handles."""

    def __init__(self, folder: Path, engine: str) -> None:
        needs_engine(engine)
        self.folder, self.engine, self.port = folder, engine, free_port()
        self.environment = {**os.environ, "SHAPER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "script.py").write_text(SCRIPT)

    def _begin(self, said: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / said).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, *words], env=self.environment, cwd=self.folder, stdout=file, stderr=file
            )
        self.processes.append(process)
        return process

    def run(self, elements: int) -> subprocess.Popen[bytes]:
        process = self._begin("run.out", "script.py", self.engine, str(self.port), str(self.folder), str(elements))
        until(lambda: list((self.folder / "home").glob("managers/*.wanted")) or process.poll() is not None)
        assert process.poll() is None, self.said("run.out")
        return process

    def scale(self, *options: str) -> subprocess.Popen[bytes]:
        return self._begin("scaler.out", "-m", "shaper", "workers", "start", *options)

    def workers(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shaper", "workers", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def said(self, name: str = "scaler.out") -> str:
        return (self.folder / name).read_text()

    def counts(self, kind: str) -> list[int]:
        return [int(found) for found in re.findall(rf"{kind} (\d+)", self.said())]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.workers("stop")


@contextmanager
def bench(folder: Path, engine: str = "workqueue") -> Iterator[Bench]:
    made = Bench(folder, engine)
    try:
        yield made
    finally:
        made.end()


SMALL = ("--cores", "1", "--memory", "500MiB", "--disk", "1GB")


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_workers_grow_with_the_backlog_and_go_with_it_and_no_task_is_lost(tmp_path: Path, engine: str) -> None:
    with bench(tmp_path, engine) as here:
        run = here.run(80)
        scaler = here.scale("--min", "1", "--max", "4", *SMALL, "--hold", "3s", "--patience", "2s")
        until(lambda: 4 in here.counts("running") or scaler.poll() is not None)
        (tmp_path / "hurry").touch()
        # Only the last task runs: of the idle workers none is kept, the busy one is.
        until(lambda: here.counts("running")[-1] == 1 or scaler.poll() is not None)
        assert "letting " in here.said()
        assert run.poll() is None
        assert ": 1 x 1 cores 500 MiB (local); process " in here.workers("status").stdout
        (tmp_path / "gate").touch()
        assert run.wait(60) == 0
        assert here.said("run.out").splitlines()[-1] == "value 81 losses 0"
        assert scaler.wait(60) == 0
        assert max(here.counts("running")) == 4
        assert re.search(r"the manager has ended; waiting 2.0 s for one at .*\n.*  ended 1 worker\n$", here.said())
        assert here.workers("status").stderr == "no managers and no workers\n"


def test_a_run_that_is_resumed_finds_the_same_workers(tmp_path: Path) -> None:
    with bench(tmp_path) as here:
        run = here.run(10)
        scaler = here.scale("--min", "2", "--max", "2", *SMALL, "--patience", "60s")
        journal = tmp_path / "run" / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_text().count('"done"') >= 3)
        run.kill()
        run.wait()
        until(lambda: "the manager has ended; waiting 1 min 00 s" in here.said())
        (tmp_path / "hurry").touch()
        (tmp_path / "gate").touch()
        again = here.run(10)
        assert again.wait(90) == 0
        assert here.said("run.out").splitlines()[-1] == "value 11 losses 0"
        assert "the manager is back" in here.said()
        assert [line for line in here.said().splitlines() if "starting" in line][1:] == []
        scaler.terminate()
        assert scaler.wait(30) == 130
        assert here.said().endswith("ended 2 workers\n")


def test_what_a_killed_scaler_leaves_is_ended_by_stop(tmp_path: Path) -> None:
    with bench(tmp_path) as here:
        here.run(10)
        scaler = here.scale("--min", "2", "--max", "2", *SMALL)
        until(lambda: 2 in here.counts("running"))
        scaler.send_signal(signal.SIGKILL)
        scaler.wait()
        assert "workers: 2 x 1 cores 500 MiB (local)\n" in here.workers("status").stdout
        assert here.workers("stop").stderr == "ended 2 workers\n"
        assert "workers: none\n" in here.workers("status").stdout


def test_stop_ends_what_would_start_the_workers_again(tmp_path: Path) -> None:
    with bench(tmp_path) as here:
        here.run(10)
        scaler = here.scale("--min", "2", "--max", "2", *SMALL)
        until(lambda: 2 in here.counts("running"))
        assert here.workers("stop").stderr == "ended 2 workers\n"
        assert scaler.wait(30) == 130
        assert "workers: none\n" in here.workers("status").stdout


def test_workers_that_end_at_once_are_not_started_again_and_again(tmp_path: Path) -> None:
    with bench(tmp_path) as here:
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "work_queue_worker").write_text("#!/bin/sh\nexit 1\n")
        (programs / "work_queue_worker").chmod(0o755)
        here.run(10)
        here.environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        here.scale("--max", "2", *SMALL)
        until(lambda: "workers ended as soon as they began, the next are tried in" in here.said())
        assert here.said().count("starting") == 1


def test_advice_for_the_run_that_goes_on_starts_nothing(tmp_path: Path) -> None:
    with bench(tmp_path) as here:
        nothing = here.workers("start", "--advise")
        assert (
            nothing.stderr == "shaper: no manager runs on this account: start the analysis first, or give --run DIR\n"
        )
        run = here.run(200)
        assert here.workers("start", "--count", "1", *SMALL).returncode == 0
        journal = tmp_path / "run" / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_text().count('"done"') >= 5)
        found = here.workers("start", "--advise", "--cores", "1")
        assert found.returncode == 0, found.stderr
        first, *_, last = found.stdout.splitlines()
        assert re.match(r"run: \d+ of 201 elements are left; simulated with what \d+ tasks have shown", first)
        assert re.match(r"to start them: shaper workers start --max \d+ --cores 1 --memory \d+GB", last)
        assert ": 1 x 1 cores 500 MiB (local)\n" in here.workers("status").stdout
        run.kill()
        run.wait()
        again = here.workers("start", "--advise", "--run", str(tmp_path / "run"))
        assert "run: all of it, again; simulated with what " in again.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max", "2"], "no manager runs on this account: start the analysis first, or give --manager HOST:PORT"),
        (["--min", "1"], "--min needs --max"),
        (["--max", "2", "--count", "1"], "either --count, or --min and --max"),
        (["--advise", "--max", "2"], "--advise is a question and starts nothing: leave --count, --min and --max out"),
        (["--run", "here"], "--run is for --advise"),
        (
            ["--max", "2", "--manager", "head:9123", "--engine", "workqueue"],
            (
                "no manager at head:9123 is written down on this account: --min and --max need one that says what it "
                "wants; start the analysis first"
            ),
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, words: Sequence[str], said: str) -> None:
    with bench(tmp_path) as here:
        found = here.workers("start", *words)
        assert (found.returncode, found.stdout, found.stderr) == (2, "", f"shaper: {said}\n")


def test_workers_of_slurm_grow_wait_in_the_queue_and_go(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs_engine("workqueue")
    with Slurm(tmp_path_factory.mktemp("slurm") / "here") as slurm, bench(tmp_path) as here:
        here.environment |= {"SLURM_CONF": str(slurm.conf), "PATH": slurm.environment["PATH"]}
        run = here.run(250)
        options = ("--batch", "slurm", "--queue", "long", "--cores", "2", "--memory", "1500MiB", "--disk", "500MB")
        folders = ("--local-directory", str(tmp_path), "--log-directory", str(tmp_path))
        scaler = here.scale("--min", "1", "--max", "6", *options, *folders, "--hold", "3s", "--patience", "2s")
        # Four nodes hold one each: two wait, count as coming, and no more are handed in.
        until(lambda: "running 4, queued 2" in here.said() or scaler.poll() is not None)
        assert len(slurm.jobs()) == 4
        (tmp_path / "hurry").touch()
        until(lambda: "taking 2 back from the queue" in here.said() or scaler.poll() is not None)
        until(lambda: here.counts("running")[-1] == 1 or scaler.poll() is not None, 120)
        assert sum(map(int, re.findall(r"starting (\d+)", here.said()))) == 6
        until(lambda: len(slurm.jobs()) == 1)
        assert run.poll() is None
        (tmp_path / "gate").touch()
        assert run.wait(60) == 0
        assert here.said("run.out").splitlines()[-1] == "value 251 losses 0"
        assert scaler.wait(60) == 0
        until(lambda: not slurm.jobs())
