"""The common interface of all engines. Engines translate; they decide nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from shaper.types import Cancel, Capacity, Code, Observation, ResultLost, ResultRef, Task, TaskId


class Engine(Protocol):
    """What runs tasks.

    Every submitted task yields exactly one Observation from `wait`. Tasks start in the order of submission as far as
    they fit. Results are the engine's bytes: the core carries ids only.

    Attributes:
        name: `local`, `simulated`, ...
        run_dir: where results and sandboxes lie; set before the first `open`, None for engines that need none.
    """

    name: str
    run_dir: Path | None

    @property
    def now_s(self) -> float:
        """Seconds on the engine's clock since it was made; virtual for the simulated engine."""

    def open(self, stage: str, code: Code | None) -> None:
        """Ship the functions of a stage; may be called while running.

        Raises:
            UserError: the functions cannot be loaded where tasks run.
        """

    def capacity(self) -> Capacity:
        """Return the connected workers by kind; called once per turn of the loop, so it must be cheap."""

    def submit(self, task: Task) -> None:
        """Take a task over; returns at once."""

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        """Return everything that is ready, waiting up to `timeout_s` for the first.

        Raises:
            Stalled: nothing that was submitted can ever finish.
        """

    def cancel(self, actions: Sequence[Cancel]) -> None:
        """Take tasks back: each yields one observation, CANCELLED or the one that raced it."""

    def fetch(self, task_id: TaskId) -> object:
        """Return the unpickled result of a task that is DONE or adopted.

        Raises:
            Damaged: the result is missing, or its checksum does not match.
        """

    def adopt(self, results: Mapping[TaskId, ResultRef], run: str = "") -> Collection[TaskId]:
        """Re-attach results of an earlier session; return the ids of those that are missing or damaged.

        What else lies there is removed; where runs share the engine, only what is of this one.
        """

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Forget these results: nobody will ask for them again."""

    def close(self) -> None:
        """End everything that was started, within 2 s; may be called twice."""


class Lasting(Engine, Protocol):
    """An engine that can stay open from one run to the next: workers stay connected, functions loaded.

    Attributes:
        lasting: then `close` ends a run only, if nothing of it is left running; without, it ends everything.
    """

    lasting: bool


@runtime_checkable
class SeesHoles(Protocol):
    """An engine that knows what each of its workers has free."""

    def holes(self) -> Sequence[tuple[int, int]]:
        """Return for each connected worker its cores, and how many of them no task holds now."""
