"""Data behind an XRootD server that is slow, stops, or is killed and comes back, on every engine of functions."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uproot", reason="the files are made and read with uproot, of the coffea extra")

import numpy as np
import uproot

import shaper
from shaper import records
from shaper.policy import Adaptive, Fixed
from shaper.types import Chunk, Resources
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until
from tests.engines.xrootd import IMPATIENT, Server, needs_xrootd, serving

FILES, EVENTS = 4, 3000
WHOLE = (FILES * EVENTS, FILES * sum(range(EVENTS)))


@pytest.fixture(params=["local", "workqueue", "taskvine"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    needs_xrootd()
    if request.param != "local":
        needs_engine(request.param)
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    return str(request.param)


@pytest.fixture
def server(engine: str) -> Iterator[Server]:
    with serving() as found:
        for number in range(FILES):
            with uproot.recreate(found.folder / f"{number}.root") as file:
                file["Events"] = {"n": np.arange(EVENTS)}
        found.start()
        yield found


def process(chunk: Chunk) -> tuple[int, int]:
    """How many events there are, and the sum of their numbers."""
    time.sleep(0.3)
    total = 0
    for span in chunk.spans:
        with uproot.open(span.source.id) as file:
            total += int(file["Events"]["n"].array(entry_start=span.start, entry_stop=span.stop, library="np").sum())
    return chunk.elements, total


def merge(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


@contextmanager
def options(engine: str, folder: Path, cores: int = 2) -> Iterator[dict[str, Any]]:
    """Of a run on this engine, with its workers."""
    if engine == "local":
        yield {"engine": engine, "cores": cores, "memory": 1500 * cores}
        return
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(Worker(PROGRAMS[engine], port, folder, cores=cores, memory_mib=1500 * cores, more=()))
        yield {"engine": engine, "port": port}


def disturbed(server: Server, engine: str, folder: Path, disturb: Callable[[Callable[[], int]], None]) -> shaper.Result:
    """A run beside which `disturb(lines)` does its work; `lines` are those of the journal so far."""
    journal = folder / "run" / "journal.jsonl"
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            disturb(lambda: len(journal.read_bytes().splitlines()) if journal.exists() else 0)
        except BaseException as error:  # handed over
            errors.append(error)

    thread = threading.Thread(target=guarded)
    with options(engine, folder) as given:
        thread.start()
        result = shaper.run(
            {server.url(f"{number}.root"): EVENTS for number in range(FILES)},
            process=process,
            merge=merge,
            policy=Fixed(250, Resources(1, 600)),
            run_dir=folder / "run",
            progress=False,
            **given,
        )
        thread.join()
    assert not errors, errors
    return result


def test_a_server_that_is_killed_and_started_again(server: Server, engine: str, tmp_path: Path) -> None:
    def kill_and_start(lines: Callable[[], int]) -> None:
        until(lambda: lines() >= 6)
        server.kill()
        time.sleep(12.0)  # as long as its absence is to last
        server.start()

    result = disturbed(server, engine, tmp_path, kill_and_start)
    assert result.value == WHOLE
    failed = [row for row in result.report.timeline if row["outcome"] == "failed"]
    assert failed, "nobody noticed"
    assert all("OSError" in row["detail"] for row in failed)
    assert all(row["verdict"] == "retry" for row in failed)
    assert any("its source may be away: again in" in row["verdict_reason"] for row in failed)
    assert len(failed) < 60  # 12 s of two slots that fail within milliseconds


def test_a_server_that_is_stopped_and_goes_on(server: Server, engine: str, tmp_path: Path) -> None:
    """Its connections stay, and say nothing: attempts wait, or fail and are run again."""
    waited: list[bool] = []

    def stop_and_go_on(lines: Callable[[], int]) -> None:
        until(lambda: lines() >= 6)
        server.send(signal.SIGSTOP)
        try:
            time.sleep(1.0)
            before = lines()
            time.sleep(6.0)  # as long as its silence is to last
            waited.append(lines() <= before + 2)
        finally:
            server.send(signal.SIGCONT)

    result = disturbed(server, engine, tmp_path, stop_and_go_on)
    assert result.value == WHOLE
    assert waited == [True]


# -- bandwidth -------------------------------------------------------------------------------------------------------

# Reading takes most of the time, even alone: how busy this machine is matters little.
SLOTS, WIDE_EVENTS, LESSONS = 16, 24_000, 5
EVENT_BYTES, COMPUTE_S = 400, 1.5e-4
# Within a run, or from a few runs: that more at once do not help.
NOTICED = re.compile(rf"bandwidth: |parallelism: [1-{SLOTS // 2}] at once")


@pytest.fixture
def slow_server(engine: str) -> Iterator[Server]:
    """Gives 1 MB/s to all together."""
    with serving("1m") as found:
        rng = np.random.default_rng(1)
        with uproot.recreate(found.folder / "wide.root", compression=None) as file:
            tree = file.mktree("Events", {"x": ("f8", (EVENT_BYTES // 8,))})
            for _ in range(WIDE_EVENTS // 200):
                tree.extend({"x": rng.normal(size=(200, EVENT_BYTES // 8))})
        found.start()
        yield found


def wide(chunk: Chunk) -> tuple[int, int]:
    """Reads, and then does what leaves the processors alone: they are not what is tested."""
    count = 0
    for span in chunk.spans:
        with uproot.open(span.source.id) as file:
            count += len(file["Events"]["x"].array(entry_start=span.start, entry_stop=span.stop, library="np"))
    time.sleep(chunk.elements * COMPUTE_S)
    return count, 0


def side_by_side(result: shaper.Result, since_s: float) -> float:
    """How many tasks held a slot together, from a time on: so many or more for half of it."""
    rows = [row for row in result.report.timeline if row["work"] == "process" and row["started_s"] is not None]
    begin_s, end_s = max(since_s, min(row["started_s"] for row in rows)), max(row["finished_s"] for row in rows)
    instants_s = np.linspace(begin_s, end_s, 200)
    return float(np.median([sum(row["started_s"] <= at_s < row["finished_s"] for row in rows) for at_s in instants_s]))


@pytest.mark.parametrize("engine", ["workqueue", "taskvine"], indirect=True)
def test_no_more_tasks_wait_side_by_side_than_the_source_can_feed(
    slow_server: Server, engine: str, tmp_path: Path
) -> None:
    def run(name: str, policy: Any, events: int, known: shaper.Result | None = None) -> shaper.Result:
        result = shaper.run(
            {slow_server.url("wide.root"): events},
            process=wide,
            merge=merge,
            policy=policy,
            run_dir=tmp_path / name,
            warm_start=known,
            progress=False,
            **given,
        )
        assert result.value == (events, 0)
        return result

    with options(engine, tmp_path, SLOTS) as given:
        # A run that is over in seconds has no time to learn how tasks fare beside few others, and then beside many; a
        # busy machine needs more of them.
        paced = run("calm", Adaptive(concurrency=3), WIDE_EVENTS // 8)
        found = []
        for number in range(LESSONS):
            paced = run(f"paced-{number}", Adaptive(), WIDE_EVENTS, paced)
            shapes = records.read(tmp_path / f"paced-{number}").shapes
            noticed_s = [float(row["at_s"]) for row in shapes if NOTICED.match(row["reason"])]
            if noticed_s and noticed_s[0] < paced.report.makespan_s / 2:
                found.append(side_by_side(paced, noticed_s[0]))
                if found[-1] <= SLOTS / 2:
                    return
    pytest.fail(f"the slots are {SLOTS}, and of {LESSONS} runs those that noticed used {found}")
