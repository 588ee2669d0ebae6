"""What a run says that it wants, in virtual time: with the backlog, and with what its data source feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import shaper
from shaper.engines import Simulated, WorkerSpec, managers
from shaper.policy.scaling import need
from shaper.types import Merge, Observation, ResultLost, Task, Usage
from shaper.workers import wants


class Announcing(Simulated):
    """A simulated engine whose manager is written down, as those of batch engines are."""

    announced = managers.Manager("workqueue", "elsewhere", 9123, 1)

    def __init__(self, keep_at_s: float | None = None, **options: Any) -> None:
        super().__init__([WorkerSpec(4, 8000, 10)], cost, 0, **options)
        self.keep_at_s = keep_at_s
        self.dismissed: list[int] = []
        self.said: list[tuple[float, Mapping[str, Any]]] = []

    def dismiss(self, count: int) -> int:
        self.dismissed.append(count)
        return count

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        said = managers.wanted(self.announced)
        if said is not None and (not self.said or said != self.said[-1][1]):
            self.said.append((self.now_s, said))
        if self.keep_at_s is not None and self.now_s >= self.keep_at_s:
            managers.say_keep(self.announced, 3, turn=1)
        return super().wait(timeout_s)


def cost(task: Task, rng: Any) -> Usage:
    """2 s for each task, 1 ms for each element, 100 bytes of it read."""
    if isinstance(task.work, Merge):
        return Usage(wall_s=0.5, memory_mib=300.0, result_bytes=2**20)
    size = task.work.elements
    cpu_s = 1e-3 * size * float(rng.lognormal(0, 0.05))
    return Usage(2.0 + cpu_s, cpu_s, memory_mib=300 + 0.02 * size, read_bytes=100 * size, result_bytes=2**20)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def workers_wanted(engine: Announcing, since_s: float, until_s: float) -> list[int]:
    """Of 4 cores each."""
    found = (wants.read(said)[0] for at_s, said in engine.said if since_s <= at_s < until_s)
    return [need(one, 4, 8000).workers for one in found]


def test_what_is_wanted_follows_the_backlog() -> None:
    engine = Announcing()
    result = shaper.run({f"s{n}": 100_000 for n in range(40)}, engine=engine)
    end_s = result.report.makespan_s
    # Said every two seconds or so, and seldom more often.
    assert end_s / 8 < len(engine.said) < end_s / 2 + 2
    assert workers_wanted(engine, 0.0, 2.0) == [1]
    assert min(workers_wanted(engine, 0.3 * end_s, 0.5 * end_s)) > 10
    assert max(workers_wanted(engine, end_s - 2.0, end_s)) <= 10
    assert [said["connected"] for _, said in engine.said] == [[[4, 8000, 10]]] * len(engine.said)
    assert [said["turn"] for _, said in engine.said] == sorted({said["turn"] for _, said in engine.said})


def test_no_more_is_wanted_than_a_data_source_feeds_that_is_seen_to_be_saturated() -> None:
    """20,000 elements per second are what some 22 of the 40 cores process."""
    engine = Announcing(bandwidth=100 * 20_000.0)
    result = shaper.run({f"s{n}": 100_000 for n in range(150)}, engine=engine)
    end_s = result.report.makespan_s
    later = sorted(workers_wanted(engine, 0.5 * end_s, 0.8 * end_s))
    assert 5 <= later[len(later) // 2] < 10
    assert any("the data source feeds no more" in said["reason"] for _, said in engine.said)
    free = Announcing()
    shaper.run({f"s{n}": 100_000 for n in range(150)}, engine=free)
    assert not any("the data source" in said["reason"] for _, said in free.said)


def test_idle_workers_are_told_to_go_once_for_each_request() -> None:
    managers.say_keep(Announcing.announced, 5, turn=0)  # of a scaler long ago
    engine = Announcing(keep_at_s=20.0)
    shaper.run({f"s{n}": 100_000 for n in range(40)}, engine=engine)
    assert engine.dismissed == [7]


def test_a_home_that_cannot_be_written_does_not_end_a_run(home: Path) -> None:
    home.write_text("not a folder")
    engine = Announcing()
    assert shaper.run({"a": 100_000}, engine=engine).value == 100_000
    assert engine.said == []
