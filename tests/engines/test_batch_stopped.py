"""Workers that are stopped and do not say so: the run ends anyway, with every element counted once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper import journal as journals
from shaper import records
from shaper.engines import TaskVine, WorkQueue
from shaper.policy import Adaptive, Fixed
from shaper.types import Chunk, Resources
from tests.engines.batch_chaos import servers
from tests.engines.chaos import descendants
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until

SOURCES = {f"s{number}": 2000 for number in range(6)}
WHOLE = (sum(sum(range(count)) for count in SOURCES.values()), sum(SOURCES.values()))
POLICIES: dict[str, Callable[[], Any]] = {"fixed": lambda: Fixed(500, Resources(1, 300)), "adaptive": Adaptive}


def process(chunk: Chunk) -> tuple[int, int]:
    time.sleep(0.2 + chunk.elements * 1e-3)
    return sum(sum(range(span.start, span.stop)) for span in chunk.spans), chunk.elements


def merge(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


@pytest.fixture(params=["workqueue", "taskvine"])
def name(request: pytest.FixtureRequest) -> str:
    needs_engine(request.param)
    return str(request.param)


def both(folder: Path) -> None:
    """Go on when a task has been here on each of the two workers."""
    folder.mkdir(exist_ok=True)
    (folder / next(part for part in os.environ["SHAPER_SANDBOX"].split("/") if part.startswith("worker-"))).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)


def on_both(folder: Path) -> Callable[[Chunk], tuple[int, int]]:
    """Begins when both workers are there."""

    def begun(chunk: Chunk) -> tuple[int, int]:
        both(folder)
        return process(chunk)

    return begun


class Stopped:
    """A worker with all that it has started, its warm server too."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        own = servers(worker.folder)
        self.pids = [*own, *(pid for server in own for pid in descendants(server))]
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    @property
    def is_stopped(self) -> bool:
        """As the system sees it."""
        text = Path(f"/proc/{self.worker.process.pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0] == "T"

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.worker.send(number)
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def in_background(action: Callable[[], None]) -> Iterator[None]:
    """Runs beside what follows; its error is that of the test."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:  # handed over
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def run(
    name: str, port: int, policy: str, run_dir: Path, silent_s: float, function: Callable[[Chunk], Any]
) -> shaper.Result:
    engine = {"workqueue": WorkQueue, "taskvine": TaskVine}[name](port=port, silent_s=silent_s)
    return shaper.run(
        SOURCES,
        process=function,
        merge=merge,
        engine=engine,
        policy=POLICIES[policy](),
        run_dir=run_dir,
        progress=False,
    )


def lines(run_dir: Path) -> int:
    path = run_dir / journals.NAME
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def at_work(worker: Worker) -> bool:
    """Whether a call runs on it: a process below the supervisors, which are below the warm server's parent."""
    return any(not descendants(pid) for server in servers(worker.folder) for pid in descendants(server))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_worker_that_is_stopped_for_ever(name: str, policy: str, tmp_path: Path) -> None:
    port, run_dir = free_port(), tmp_path / "run"
    stopped: list[Stopped] = []
    with Worker(PROGRAMS[name], port, tmp_path) as worker, Worker(PROGRAMS[name], port, tmp_path):

        def stop() -> None:
            until(lambda: lines(run_dir) >= 6 and at_work(worker))
            stopped.append(Stopped(worker))

        try:
            with in_background(stop):
                result = run(name, port, policy, run_dir, 8.0, on_both(tmp_path / "begun"))
            assert stopped[0].is_stopped
        finally:
            for one in stopped:
                worker.end()
                one.go_on()  # its server sees that the worker is gone
    assert result.value == WHOLE
    back = [row for row in result.report.timeline if row["outcome"] in ("lost", "cancelled")]
    assert any("went away" in row["detail"] or "instead of" in row["detail"] for row in back), back


def test_a_worker_that_goes_on_after_it_was_given_up(name: str, tmp_path: Path) -> None:
    """What it still had is done elsewhere, and thrown away when it offers it; then it works again."""
    port, run_dir = free_port(), tmp_path / "run"

    def together(chunk: Chunk) -> tuple[int, int]:
        """The last source is worked on when both workers are there again."""
        both(tmp_path / ("ended" if chunk.spans[0].source.id == "s5" else "begun"))
        return process(chunk)

    with Worker(PROGRAMS[name], port, tmp_path, more=()) as worker, Worker(PROGRAMS[name], port, tmp_path, more=()):

        def stop_and_go_on() -> None:
            until(lambda: lines(run_dir) >= 4 and at_work(worker))
            stopped = Stopped(worker)
            try:
                until(lambda: '"outcome":"lost"' in (run_dir / records.NAME).read_text())
            finally:
                stopped.go_on()

        with in_background(stop_and_go_on):
            result = run(name, port, "fixed", run_dir, 2.0, together)
    assert result.value == WHOLE
    timeline = result.report.timeline
    lost_s = next(row["at_s"] for row in timeline if row["outcome"] == "lost")
    before = {row["worker"] for row in timeline if row["outcome"] == "done" and row["at_s"] < lost_s}
    after = {row["worker"] for row in timeline if row["outcome"] == "done" and row["at_s"] > lost_s}
    assert after - before, "it did not come back"  # a connection of its own


def test_a_worker_that_goes_on_before_anybody_noticed(name: str, tmp_path: Path) -> None:
    """It is stopped between two messages: for the rest of half a message a manager waits, and others with it."""
    port, run_dir, held, goes_on = free_port(), tmp_path / "run", tmp_path / "held", tmp_path / "goes on"
    held.mkdir()
    with Worker(PROGRAMS[name], port, tmp_path) as worker, Worker(PROGRAMS[name], port, tmp_path):
        own, slots = str(worker.folder), worker.cores

        def stop_and_go_on() -> None:
            until(lambda: len(list(held.iterdir())) == slots)
            stopped = Stopped(worker)
            try:
                noted = lines(run_dir)
                until(lambda: lines(run_dir) >= noted + 4)  # the other one works on
                assert stopped.is_stopped
            finally:
                goes_on.touch()
                stopped.go_on()

        def holding(chunk: Chunk) -> tuple[int, int]:
            """The first tasks of the one have nothing to say until it goes on; the other begins after them."""
            is_held = os.environ["SHAPER_SANDBOX"].startswith(own)
            if is_held and not goes_on.exists():
                (held / f"{chunk.spans[0].source.id}-{chunk.spans[0].start}").touch()
            while not goes_on.exists() and (is_held or len(list(held.iterdir())) < slots):
                time.sleep(0.05)
            return process(chunk)

        with in_background(stop_and_go_on):
            result = run(name, port, "fixed", run_dir, 60.0, holding)
    assert result.value == WHOLE
    assert result.report.losses == 0
    assert len({row["worker"] for row in result.report.timeline if row["outcome"] == "done"}) == 2
