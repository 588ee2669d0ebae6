"""Workers through a real Slurm: started, counted, cancelled in the middle, lost with their node, ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import shaper
from shaper.engines import password
from shaper.policy import Fixed
from shaper.types import Chunk, Resources
from shaper.workers import Plan, Pool, Site
from tests.engines.slurm import Slurm
from tests.engines.workers import free_port, needs_engine, until


def process(chunk: Chunk) -> int:
    import time

    time.sleep(0.3)
    return chunk.elements


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    needs_engine("workqueue")
    with Slurm(tmp_path_factory.mktemp("slurm") / "here") as started:
        before = dict(os.environ)
        os.environ.update(SLURM_CONF=str(started.conf), PATH=started.environment["PATH"])
        yield started
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("fault", ["none", "cancelled", "node down"])
def test_a_run_on_slurm_is_whole(slurm: Slurm, tmp_path: Path, fault: str) -> None:
    port = free_port()
    pool = Pool(f"127.0.0.1:{port}", folder=tmp_path / "pool")
    site = Site(queue="long", log_directory=str(tmp_path), local_directory=str(tmp_path))
    plan = Plan("workqueue", f"127.0.0.1:{port}", "slurm", 2, 1500, 500, password.of(), idle_s=60, site=site)
    happened: list[str] = []

    def disturb() -> None:
        journal = tmp_path / "run" / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_text().count('"done"') >= 4)
        if fault == "cancelled":
            slurm.run("scancel", "--signal=KILL", "--full", slurm.jobs()[0])
        else:
            node = slurm.run("squeue", "--noheader", "--states=RUNNING", "--format=%N").split()[0]
            slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
            until(lambda: node in slurm.run("sinfo", "--noheader", "--states=down", "--format=%N"))
            slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
        happened.append(fault)

    started = pool.start(plan, 3)
    assert len({one.job for one in started}) == 3
    until(lambda: len(slurm.jobs()) == 3)
    assert len(pool.alive()) == 3
    disturber = threading.Thread(target=disturb)
    if fault != "none":
        disturber.start()
    result = shaper.run(
        {"a": 3000, "b": 2000},
        process=process,
        merge=add,
        engine="workqueue",
        port=port,
        policy=Fixed(100, Resources(1, 300)),
        run_dir=tmp_path / "run",
        progress=False,
    )
    if fault != "none":
        disturber.join()
        assert happened == [fault]
        assert result.report.losses > 0
    assert result.value == 5000
    assert pool.stop() >= 2
    until(lambda: not slurm.jobs())
    assert pool.alive() == []


def test_slurm_starts_workers_inside_an_environment(slurm: Slurm, packed: Path, tmp_path: Path) -> None:
    port = free_port()
    pool = Pool(f"127.0.0.1:{port}", folder=tmp_path / "pool")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    site = Site(queue="long", log_directory=str(tmp_path), local_directory=str(scratch))
    plan = Plan(
        "workqueue", f"127.0.0.1:{port}", "slurm", 2, 1500, 500, password.of(), idle_s=60, site=site, environment=packed
    )
    pool.start(plan, 2)

    def process(chunk: Chunk) -> int:
        import only_there

        return int(only_there.VALUE) * chunk.elements

    result = shaper.run(
        {"a": 1000},
        process=process,
        merge=lambda a, b: a + b,
        engine="workqueue",
        port=port,
        delivery="factory",
        policy=Fixed(100, Resources(1, 300)),
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert result.value == 42000
    assert pool.stop() == 2
    until(lambda: not slurm.jobs())
    until(lambda: not list(scratch.glob("shaper-environment-*")))
