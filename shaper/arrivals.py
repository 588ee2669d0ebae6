"""Stages that wait for others: a small graph, and what becomes of it while it runs.

A dataset may be a function of the values of the stages before it. The function runs as a task like any other, of a
stage of its own with one element; the sources that it returns are then handed to the ledger. Of what depends on a stage
that failed, nothing is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from shaper.dataset import as_sources, counted, counting
from shaper.errors import BadInput
from shaper.ledger import Ledger, StagePlan
from shaper.types import Chunk, Source, Stage, TaskId


@dataclass(frozen=True, slots=True)
class Counting:
    """The process function of a stage that finds a dataset: from the values of its parents to sources."""

    dataset: Callable[..., Any]

    def __call__(self, chunk: Chunk) -> tuple[Source, ...]:
        return as_sources(self.dataset(*chunk.spans[0].source.payload), found=True)


def unmerged(first: Any, second: Any) -> Any:
    """The merge function of a stage with a single element."""
    raise AssertionError("a stage of one element has nothing to merge")


def counted_later(stage: Stage) -> bool:
    """Whether the dataset of a stage is a function of its parents' values."""
    return callable(stage.dataset) and not isinstance(stage.dataset, Iterable)


def ordered(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages, each after those that it waits for.

    Raises:
        BadInput: two have one name, one waits for what is no stage, some wait for each other, or a function has no
            values to work on.
    """
    known: dict[str, Stage] = {}
    for stage in stages:
        if stage.name in known:
            raise BadInput(f"two stages are named {stage.name!r}: name each stage once")
        if counted(stage.name) is not None:
            raise BadInput(f"a stage's name cannot begin with {counting('')!r}, got {stage.name!r}")
        if counted_later(stage) and not stage.after:
            raise BadInput(
                f"stage {stage.name!r}: its dataset is a function of the values of the stages in after, but after is "
                "empty"
            )
        known[stage.name] = stage
    for stage in stages:
        for name in stage.after:
            if name not in known:
                raise BadInput(
                    f"stage {stage.name!r} waits for {name!r}, which is none of the stages {', '.join(known)}"
                )
    try:
        return [known[name] for name in TopologicalSorter({s.name: s.after for s in stages}).static_order()]
    except CycleError as error:
        circle = " waits for ".join(map(repr, reversed(error.args[1])))
        raise BadInput(f"stages wait for each other, so none can begin: {circle}") from None


class Arrivals:
    """The loop's inbox: hands stages in when what they wait for is done.

    Args:
        stages: all of them, each after those that it waits for.
        ledger: that they go to; it has those whose sources are known already.
        fetch: returns a result.
        plan: makes a stage with sources ready for the ledger.
        here: dataset functions are called in this process, where tasks run no functions.
    """

    def __init__(
        self,
        stages: Iterable[Stage],
        ledger: Ledger,
        fetch: Callable[[TaskId], Any],
        plan: Callable[[Stage, tuple[Source, ...]], StagePlan],
        *,
        here: bool,
    ) -> None:
        self._waiting = {stage.name: stage for stage in stages if stage.after}
        self._counting: dict[str, Stage] = {}
        self._ledger, self._fetch, self._plan, self._here = ledger, fetch, plan, here

    def take(self) -> Sequence[StagePlan]:
        """The stages that can be added now; what can never begin is blocked."""
        found: list[StagePlan] = []
        for name, stage in list(self._counting.items()):
            state = self._ledger.state(counting(name))
            if state == "open":
                continue
            del self._counting[name]
            if state == "done":
                found.append(self._plan(stage, self._value(counting(name))))
            else:
                self._ledger.block(name, "not begun: the function that finds its dataset failed")
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
            return ()  # the ledger has it
        values = tuple(self._value(parent) for parent in stage.after)
        if not self._here:
            self._counting[stage.name] = stage
            finding = Stage(counting(stage.name), None, Counting(stage.dataset), unmerged)
            return (self._plan(finding, (Source(f"{len(values)} values", 1, payload=values),)),)
        try:
            sources = as_sources(stage.dataset(*values), found=True)
        except Exception as error:  # the function is the user's
            said = f"{type(error).__name__}: {error}"
            self._ledger.block(stage.name, f"not begun: the function that finds its dataset failed: {said}")
            return ()
        return (self._plan(stage, sources),)

    def _value(self, stage: str) -> Any:
        root = self._ledger.roots()[stage]
        return None if root is None else self._fetch(root)
