"""What the jobs of a manager remember: as of a run, in one store for all of them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from shaper import Manager
from shaper.engines import Simulated, WorkerSpec
from shaper.errors import BadInput
from shaper.history import memory
from shaper.history.place import Place
from shaper.history.store import Store, Unusable
from shaper.policy import Adaptive
from shaper.types import Task, Usage
from tests.history.test_memory import add, first, process, run

DATASET = {"a": 10_000, "b": 10_000}
JOB: dict[str, Any] = {"process": process, "merge": add}
COLD, WARM = "a probe: nothing is known yet", "small until some finish: this is what another run showed"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_said", set())
    monkeypatch.setenv("SHAPER_RUNS", str(tmp_path / "runs"))


def local(**options: Any) -> Manager:
    return Manager(cores=1, memory="1GB", **options)


def cost(task: Task, rng: Any) -> Usage:
    return Usage(wall_s=1.0, cpu_s=1.0, memory_mib=100.0)


def simulated(**options: Any) -> Manager:
    return Manager(Simulated(workers=[WorkerSpec(4, 8000, 2)], cost=cost, seed=1), **options)


def test_a_job_begins_with_what_a_job_of_another_manager_has_shown(tmp_path: Path) -> None:
    for reason in (COLD, WARM):
        with local(history=tmp_path / "h.sqlite") as manager:
            assert first(manager.submit(DATASET, name="one", **JOB).result(300))[1] == reason
    # Under the same key as a run: its name and the code of its functions.
    (row, *_) = Store(Place(tmp_path / "h.sqlite")).subjects()
    assert row["runs"] == 2
    assert row["workflow"].startswith("one of ")
    assert first(run(tmp_path, dataset=DATASET))[1] == WARM


def test_the_history_of_the_surroundings_is_used_unless_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPER_HISTORY", str(tmp_path / "h.sqlite"))
    for history, there in ((False, False), (None, True)):
        with local(history=history) as manager:
            manager.submit(DATASET, **JOB).result(300)
        assert (tmp_path / "h.sqlite").exists() == there
    with pytest.raises(BadInput, match="is a folder"):
        local(history=tmp_path)


def test_a_simulation_and_a_policy_on_trial_remember_where_they_are_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPER_HISTORY", str(tmp_path / "h.sqlite"))
    with simulated() as manager:
        manager.submit(DATASET).result(60)
    with local(policy=lambda: Adaptive(without=["probes"])) as manager:
        manager.submit(DATASET, **JOB).result(300)
    assert not (tmp_path / "h.sqlite").exists()
    with simulated(history=True) as manager:
        manager.submit(DATASET).result(60)
    assert (tmp_path / "h.sqlite").exists()


def test_a_store_that_cannot_be_used_is_tried_by_one_job_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def find(self: Store, subjects: object) -> list[None]:
        tried.append(subjects)
        raise Unusable("the server is gone")

    monkeypatch.setattr(Store, "find", find)
    with simulated(history=tmp_path / "h.sqlite") as manager:
        jobs = [manager.submit(DATASET) for _ in range(3)]
        assert [job.result(60).value for job in jobs] == [20_000] * 3
    assert len(tried) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "history" in line]
    assert said == ["shaper: history: the server is gone; this run goes on without it"]


def test_a_store_that_does_not_answer_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, never = [], threading.Event()

    def find(self: Store, subjects: object) -> list[None]:
        tried.append(subjects)
        never.wait()
        return []

    monkeypatch.setattr(Store, "find", find)
    monkeypatch.setattr(memory, "BOUND_S", 0.05)
    with simulated(history=tmp_path / "h.sqlite") as manager:
        jobs = [manager.submit(DATASET) for _ in range(3)]
        assert [job.result(60).value for job in jobs] == [20_000] * 3
    never.set()
    assert len(tried) == 1
    assert "does not answer within" in capsys.readouterr().err


def test_without_the_extra_it_is_said_once_that_nothing_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "shaper.history.store", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with simulated(history=tmp_path / "h.sqlite") as manager:
        jobs = [manager.submit(DATASET) for _ in range(2)]
        assert [job.result(60).value for job in jobs] == [20_000] * 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["shaper: nothing is remembered for the next run: pip install 'shaper[history]'"]
