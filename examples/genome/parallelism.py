"""What the figures want to know of a model of parallelism, and the one of shaper where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


class Estimate(Protocol):
    """How long a stage is expected to take; 95 of 100 runs stay below `upper`."""

    @property
    def mean(self) -> float | None: ...

    @property
    def upper(self) -> float | None: ...


class Choice(Protocol):
    """A parallelism, and why it was chosen."""

    @property
    def s(self) -> int: ...

    @property
    def reason(self) -> str: ...


class Model(Protocol):
    """Learns from runs how long a stage takes with parallelism s, for an input of size gamma, beside a load."""

    def updated(self, run: Any) -> Model: ...

    def predict(self, s: int, gamma: float, load: float) -> Estimate: ...

    def choose(self, gamma: float, load: float, s_max: int, urgency: float = 1.0) -> Choice: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a stage.

    Args:
        stage: its name.
        s: tasks it was cut into.
        load: tasks of another stage at the same time.
        wall_s: from the start of its first task to the end of its last.
    """

    stage: str
    s: int
    load: int
    wall_s: float


def learnt(runs: Iterable[Measured]) -> Model | None:
    """Return shaper's model of one stage's runs; None in a version of shaper that has none."""
    try:
        from shaper.models import ParallelismModel, Run
    except ImportError:
        return None
    model: Model = ParallelismModel()
    for run in runs:
        model = model.updated(Run(run.s, 1.0, float(run.load), run.wall_s))
    return model
