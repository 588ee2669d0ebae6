"""What a policy is: four decisions, each a function of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from shaper.models.beliefs import Beliefs
from shaper.types import Backlog, Cancel, Capacity, Observation, Resources, Shape, Task, TaskId, Verdict, Work


class Policy(Protocol):
    """Decides sizes, allocations and what to do about each outcome; every decision carries its reason."""

    @property
    def name(self) -> str:
        """For reports: `adaptive`, `published`, ..."""

    def shapes(self, beliefs: Beliefs, capacity: Capacity, backlog: Backlog) -> Sequence[Shape]:
        """Return what should be in flight, merges first; called once per turn of the loop."""

    def allocate(self, work: Work, beliefs: Beliefs, capacity: Capacity) -> Resources:
        """Return what this very piece of work is given."""

    def revise(
        self, beliefs: Beliefs, capacity: Capacity, in_flight: Mapping[TaskId, Task], now_s: float
    ) -> Sequence[Cancel]:
        """Return the submitted tasks to take back."""

    def judge(self, seen: Observation, beliefs: Beliefs, capacity: Capacity) -> Verdict:
        """Return what to do about an observation; `beliefs` have learnt from it already."""
