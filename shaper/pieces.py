"""What the account of a stage is made of: the stage as it was handed in, its groups, and pieces that wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from shaper.reduction import Result
from shaper.types import GroupBacklog, Mode, Pause, Resources, Source, Span, Work


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage as the ledger needs it: no functions, counted sources.

    Args:
        done: durable results of earlier sessions.
        skipped: what earlier sessions left out, and why.
    """

    name: str
    sources: tuple[Source, ...]
    after: tuple[str, ...] = ()
    category: str = "processing"
    mode: Mode = "split"
    ordered: bool = False
    done: tuple[Result, ...] = ()
    skipped: tuple[tuple[Span, str], ...] = ()

    @property
    def merge_category(self) -> str:
        """The category of its accumulating tasks: no name that a stage is likely to have, as beliefs go by category."""
        return "accumulating" if self.category == "processing" else f"merges of {self.category}"


class Waiting(NamedTuple):
    """A piece of work that was cut before and waits to be submitted again."""

    work: Work
    attempt: int
    resources: Resources | None
    reason: str
    losses: int = 0
    waits: bool = False
    pause: Pause | None = None


@dataclass(slots=True)
class Group:
    """A part of the dataset with beliefs of its own."""

    stage: str
    name: str
    category: str
    mode: Mode
    pending: deque[Span] = field(default_factory=deque)
    waiting: deque[Waiting] = field(default_factory=deque)
    pending_elements: int = 0
    in_flight: int = 0
    in_flight_elements: int = 0
    seen: GroupBacklog | None = None  # cache of the last backlog row, None when it changed

    @property
    def idle(self) -> bool:
        """Whether nothing of it runs or will run again by itself."""
        return not self.in_flight and not self.waiting

    def due(self, now_s: float) -> Waiting | None:
        """Take the first piece that waits and whose pause is over."""
        for _ in range(len(self.waiting)):
            again = self.waiting.popleft()
            if again.pause is None or again.pause.until_s <= now_s:
                return again
            self.waiting.append(again)
        return None

    def backlog(self) -> GroupBacklog:
        """What is left of it."""
        if self.seen is None:
            self.seen = GroupBacklog(
                self.stage,
                self.name,
                self.category,
                self.mode,
                self.pending_elements,
                len(self.waiting),
                self.in_flight,
                self.in_flight_elements,
            )
        return self.seen
