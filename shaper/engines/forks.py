"""Forks of this process: what they inherit of batch systems they must neither use nor close, it is their parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Heirloom(Protocol):
    """What a fork inherits."""

    def abandon(self) -> None:
        """Touch nothing of the parent's any more."""


_known: WeakSet[Heirloom] = WeakSet()


def inherited(one: Heirloom) -> None:
    """Let a fork abandon this; without, its end would take leave of the parent's workers."""
    _known.add(one)


def _abandon() -> None:
    for one in list(_known):
        one.abandon()


os.register_at_fork(after_in_child=_abandon)
