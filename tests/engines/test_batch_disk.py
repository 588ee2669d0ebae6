"""A run directory on a disk that fills up: said in one line, nothing lost, and the same script goes on afterwards."""

from __future__ import annotations

import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper import journal as journals
from shaper.errors import ProcessFailed, SiteError
from shaper.policy import Fixed
from shaper.types import Chunk, Resources
from tests.engines.disks import Disk, small_disk
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until

ELEMENTS, EACH_BYTES = 10_000, 1000
WHOLE = set(range(ELEMENTS))


def process(chunk: Chunk) -> dict[int, bytes]:
    """A kB for each element, so that results grow as they are merged."""
    return {n: bytes(EACH_BYTES) for span in chunk.spans for n in range(span.start, span.stop)}


def merge(a: dict[int, bytes], b: dict[int, bytes]) -> dict[int, bytes]:
    """An element that comes twice is an error, not a number that is a little too high."""
    both = a | b
    if len(both) != len(a) + len(b):
        raise ValueError(f"counted twice: {sorted(a.keys() & b.keys())[:5]}")
    return both


@pytest.fixture(params=["workqueue", "taskvine"])
def engine(request: pytest.FixtureRequest) -> str:
    needs_engine(request.param)
    return str(request.param)


@pytest.fixture
def port(engine: str, tmp_path: Path) -> Iterator[int]:
    """Of a manager that has one worker, which stays from one session to the next."""
    found = free_port()
    with Worker(PROGRAMS[engine], found, tmp_path, more=()):
        yield found


def run(run_dir: Path, engine: str, port: int, chunksize: int = 400, function: Any = process) -> shaper.Result:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "little room is left|the report could not be made|.* is cut off")
        return shaper.run(
            {"a": ELEMENTS},
            process=function,
            merge=merge,
            engine=engine,
            port=port,
            policy=Fixed(chunksize, Resources(1, 300)),
            run_dir=run_dir,
            progress=False,
        )


def durable(run_dir: Path) -> int:
    """Elements whose results the journal holds, and that are there, whole."""
    past = journals.read(run_dir / journals.NAME)
    return sum(settled.result.elements for settled in past.results.values())


def test_results_that_no_longer_fit(engine: str, port: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        run_dir = disk.folder / "run"
        with pytest.raises(SiteError, match=r"MiB are too little for results of .* make room or give another run_dir"):
            run(run_dir, engine, port)
        kept = durable(run_dir)
        assert 0 < kept < ELEMENTS
        disk.grow("100m")
        result = run(run_dir, engine, port)
        assert result.value.keys() == WHOLE
        assert result.report.elements_before == kept
        done = [row["elements"] for row in result.report.timeline if row["work"] == "process"]
        assert sum(done) == ELEMENTS  # of both sessions: nothing was done twice that was durable


def test_one_result_that_would_fill_the_disk_is_not_sent(engine: str, port: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        run_dir = disk.folder / "run"
        with pytest.raises(SiteError, match=r"MiB are too little for results of 9\.\d MiB in .*: make room"):
            run(run_dir, engine, port, chunksize=ELEMENTS)
        disk.grow("100m")
        assert run(run_dir, engine, port, chunksize=ELEMENTS).value.keys() == WHOLE


def test_a_disk_that_others_fill(engine: str, port: int, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"

    def waiting(chunk: Chunk) -> dict[int, bytes]:
        while chunk.spans[0].start > 0 and not go_on.exists():
            time.sleep(0.05)
        return process(chunk)

    with small_disk(tmp_path / "disk", "50m") as disk:
        run_dir = disk.folder / "run"
        filling = threading.Thread(target=_fill_when_one_is_done, args=(disk, run_dir))
        filling.start()
        with pytest.raises(SiteError, match="make room"):
            run(run_dir, engine, port, function=waiting)
        filling.join()
        kept = durable(run_dir)
        assert 0 < kept < ELEMENTS
        with pytest.raises(SiteError, match="make room"):  # nor does it start on a full disk
            run(run_dir, engine, port, function=waiting)
        go_on.touch()
        disk.empty()
        result = run(run_dir, engine, port, function=waiting)
        assert result.value.keys() == WHOLE
        assert result.report.elements_before == kept


def _fill_when_one_is_done(disk: Disk, run_dir: Path) -> None:
    until(lambda: (run_dir / journals.NAME).exists() and durable(run_dir))
    disk.fill()


def test_a_journal_that_cannot_be_written(engine: str, port: int, tmp_path: Path) -> None:
    run_dir, fails = tmp_path / "run", tmp_path / "fails"
    fails.touch()

    def failing(chunk: Chunk) -> dict[int, bytes]:
        if fails.exists() and chunk.spans[0].start > 0:
            raise ValueError("not yet")
        return process(chunk)

    with pytest.raises(ProcessFailed):
        run(run_dir, engine, port, chunksize=2500, function=failing)
    fails.unlink()
    journal = run_dir / journals.NAME
    with small_disk(tmp_path / "disk", "8k") as disk:
        shutil.move(journal, disk.folder / journals.NAME)
        journal.symlink_to(disk.folder / journals.NAME)
        before = durable(run_dir)
        with pytest.raises(SiteError, match=r"No space left on device in .*: make room"):
            run(run_dir, engine, port, chunksize=100, function=failing)
        disk.grow("1m")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is cut off")
            kept = durable(run_dir)
        assert before < kept < ELEMENTS
        result = run(run_dir, engine, port, chunksize=100, function=failing)
        assert result.value.keys() == WHOLE
        assert result.report.elements_before == kept


def test_functions_that_cannot_be_written(engine: str, port: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300k") as disk:  # our own package alone is larger
        with pytest.raises(SiteError, match=r"No space left on device in .*: make room"):
            run(disk.folder / "run", engine, port)
        disk.grow("100m")
        assert run(disk.folder / "run", engine, port).value.keys() == WHOLE
