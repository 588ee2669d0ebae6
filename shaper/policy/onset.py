"""How a stage begins whose parallelism nobody has seen: what single tasks say about any number of them.

What it costs to find out counts as well as what is found. So one small task is the baseline; a wave at moderate s, of
tasks that may be larger, is the probe, where it is a small part of the work; and from then on the line through the
tasks says what s of them would take:

    T(s) = a + b n / s,     cost T^u sqrt(s), least at s = (2 u - 1) b n / a                                     (1)

symbol     meaning
a, b       seconds of any task, and seconds per element
n          elements that are left
u          urgency

Of tasks of one size nobody knows which part of their time is fixed. Any part is taken to be as likely as any other: as
(1) is linear in a and b for u = 1, the least expected cost is then that of equal parts.

(1) takes tasks to run as fast side by side as alone. Where they were seen not to, a model of the stage's runs has to
say what s is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from shaper.models.group import GroupBeliefs
from shaper.models.runs import Run

# The probe: at most so many tasks, each at least so many times as large as what has finished, with at most this part
# of what is left, and no more than makes the whole dearer by this part.
PROBE, _GROWN, _MOST, _DEARER = 5, 2.0, 0.25, 0.04
# Tasks side by side get less done than this part of what as many alone would: they are in each other's way.
_HINDERED = 0.6


class Law(NamedTuple):
    """Equation (1): seconds of any task, and seconds per element."""

    fixed_s: float
    element_s: float

    def wall_s(self, s: int, elements: int) -> float:
        """How long a stage of so many elements takes when it is cut into s tasks."""
        return self.fixed_s + self.element_s * math.ceil(elements / s)

    def cheapest(self, elements: int, s_max: int, urgency: float) -> int:
        """The parallelism of the least cost, of equal ones the smallest."""
        every_s = range(1, max(1, min(s_max, elements)) + 1)
        return min(every_s, key=lambda s: urgency * math.log(self.wall_s(s, elements)) + 0.5 * math.log(s))


def law(about: GroupBeliefs) -> Law | None:
    """What the tasks of a category have shown; None before the first has finished."""
    line, size = about.wall.line, about.largest_done
    if line is None or size <= 0:
        return None
    wall_s = line.median(size)
    fixed_s = line.intercept if line.identified else 0.5 * wall_s
    fixed_s = min(max(fixed_s, 0.0), wall_s)
    return Law(fixed_s, (wall_s - fixed_s) / size)


def probe(about: GroupBeliefs, left: int, most: int, s: int) -> tuple[int, int] | None:
    """How many tasks of how many elements the probe makes; None where it would cost too much, or show nothing new.

    Args:
        left: elements to be processed.
        most: elements that a task may have now.
        s: parallelism that the law asks for.
    """
    tasks, elements = _small(left, s)
    elements = min(most, elements)
    return (tasks, elements) if tasks > 1 and elements >= _GROWN * about.largest_done else None


def at_first(left: int, s_max: int) -> int | None:
    """How many tasks a stage of few elements begins with: one for each, as far as there is room; None: they are many.

    One of few tells nothing about larger tasks, nor would a probe be small; by (1) with equal parts such a stage is
    worth as many tasks as it has elements.
    """
    s = min(left, s_max)
    return s if _small(left, s)[1] < _GROWN else None


def _small(left: int, s: int) -> tuple[int, int]:
    """Tasks of a probe and the most elements of each: work costs sqrt(s / tasks) times as much as in s tasks."""
    tasks = max(1, min(PROBE, s))
    dearer = math.sqrt(s / tasks) - 1.0
    part = min(_MOST, _DEARER / dearer) if dearer > 0 else _MOST
    return tasks, int(part * left / tasks)


def hindered(runs: Iterable[Run]) -> bool:
    """Whether more tasks at once were seen to be in each other's way: by the largest run of more than one task."""
    alone = max((run.gamma / run.wall_s for run in runs if run.s == 1), default=None)
    beside = max((run for run in runs if run.s > 1), key=lambda run: (run.gamma / run.s, run.s), default=None)
    if alone is None or beside is None:
        return False
    return beside.gamma / beside.wall_s < _HINDERED * beside.s * alone
