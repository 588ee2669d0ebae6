"""Stages that begin when others have ended: their datasets may be functions of the values of those.

Such a function runs as a task like any other, of a stage of its own that users do not see; the sources that it returns
are then handed to the ledger. Of what depends on a stage that failed, nothing is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shaper.dataset import as_sources
from shaper.errors import BadInput
from shaper.ledger import Ledger, StagePlan
from shaper.types import Chunk, Source, Stage, TaskId

_COUNTING = ".dataset"


@dataclass(frozen=True, slots=True)
class Counting:
    """The process function of such a stage: from the values of its parents to sources."""

    dataset: Callable[..., Any]

    def __call__(self, chunk: Chunk) -> tuple[Source, ...]:
        return as_sources(self.dataset(*chunk.spans[0].source.payload))


def unmerged(first: Any, second: Any) -> Any:
    """The merge function of a stage with a single element."""
    raise AssertionError("a stage of one element has nothing to merge")


def counted_later(stage: Stage) -> bool:
    """Whether the dataset of a stage is a function of its parents' values."""
    return callable(stage.dataset) and not isinstance(stage.dataset, Iterable)


def counting(stage: Stage) -> Stage:
    """The stage whose one task finds the sources of another."""
    return Stage(stage.name + _COUNTING, None, Counting(stage.dataset), unmerged)


def is_counting(name: str) -> bool:
    """Whether a stage is one that users do not see."""
    return name.endswith(_COUNTING)


def check(stages: Sequence[Stage]) -> None:
    """Refuse stages that cannot be ordered.

    Raises:
        BadInput: two stages have one name, or one waits for what is not before it, or for nothing where it should.
    """
    before: set[str] = set()
    for stage in stages:
        if stage.name in before:
            raise BadInput(f"two stages are named {stage.name!r}: name each stage once")
        if is_counting(stage.name):
            raise BadInput(f"a stage's name cannot end in {_COUNTING!r}, got {stage.name!r}")
        if isinstance(stage.after, str):
            raise BadInput(f"stage {stage.name!r}: after is a sequence of names, write after=[{stage.after!r}]")
        missing = [name for name in stage.after if name not in before]
        if missing:
            raise BadInput(f"stage {stage.name!r} waits for {missing[0]!r}, which is not a stage before it")
        if counted_later(stage) and not stage.after:
            raise BadInput(
                f"stage {stage.name!r}: its dataset is a function, of the values of the stages in after; after is empty"
            )
        before.add(stage.name)


class Arrivals:
    """The loop's inbox: hands stages in when what they wait for is done.

    Args:
        waiting: the stages, in order.
        ledger: that they go to.
        fetch: returns a result.
        plan: makes a stage with counted sources ready for the ledger.
        here: dataset functions are called in this process, where tasks run no functions.
    """

    def __init__(
        self,
        waiting: Iterable[Stage],
        ledger: Ledger,
        fetch: Callable[[TaskId], Any],
        plan: Callable[[Stage, tuple[Source, ...]], StagePlan],
        *,
        here: bool,
    ) -> None:
        self._waiting = {stage.name: stage for stage in waiting}
        self._counting: dict[str, Stage] = {}
        self._ledger, self._fetch, self._plan, self._here = ledger, fetch, plan, here

    def take(self) -> Sequence[StagePlan]:
        """The stages that can begin now."""
        found: list[StagePlan] = []
        for name, stage in list(self._counting.items()):
            state = self._ledger.state(name + _COUNTING)
            if state == "done":
                del self._counting[name]
                found.append(self._plan(stage, self._value(name + _COUNTING)))
            elif state == "failed":
                del self._counting[name]
                self._ledger.block(name, "not begun: its dataset function failed")
        for name, stage in list(self._waiting.items()):
            states = {parent: self._ledger.state(parent) for parent in stage.after}
            failed = [parent for parent, state in states.items() if state == "failed"]
            if failed:
                del self._waiting[name]
                self._ledger.block(name, f"not begun: stage {failed[0]!r}, which it waits for, has failed")
            elif set(states.values()) == {"done"}:
                del self._waiting[name]
                found += self._begun(stage)
        return found

    def _begun(self, stage: Stage) -> Sequence[StagePlan]:
        if not counted_later(stage):
            return () if stage.name in self._ledger else (self._plan(stage, as_sources(stage.dataset)),)
        values = tuple(self._value(parent) for parent in stage.after)
        if self._here:
            return (self._plan(stage, as_sources(stage.dataset(*values))),)
        self._counting[stage.name] = stage
        return (self._plan(counting(stage), (Source(f"dataset of {stage.name}", 1, payload=values),)),)

    def _value(self, stage: str) -> Any:
        root = self._ledger.roots()[stage]
        return None if root is None else self._fetch(root)
