"""Numbers that are given from outside, checked once: what cannot be used is told in one line."""

from __future__ import annotations

import math
import operator
from numbers import Real

from shaper.errors import BadInput

# Sums and areas of as many times as there may ever be stay finite below this.
ENDLESS_S = 1e290


def real(value: object) -> float:
    """A number as a float; NaN, which is in no range, for what is none or too large to be one."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.nan


def number(value: object, name: str) -> float:
    """A number that can be counted with, of either sign."""
    if not isinstance(value, Real):
        raise BadInput(f"{name} must be a number, got {short(value)}")
    if not abs(real(value)) < ENDLESS_S:
        raise BadInput(f"{name} must be finite and below {ENDLESS_S:g}, got {short(value)}")
    return real(value)


def positive(value: object, name: str) -> float:
    """A number above zero that can be counted with."""
    if not 0 < real(value) < ENDLESS_S:
        raise BadInput(f"{name} must be positive and below {ENDLESS_S:g}, got {short(value)}")
    return real(value)


def within(value: object, name: str, least: float, most: float = math.inf) -> float:
    """A finite number from `least` to `most`."""
    if not (least <= real(value) <= most and math.isfinite(real(value))):
        upper = f" to {most:g}" if most < math.inf else ""
        raise BadInput(f"{name} must be {'from' if upper else 'at least'} {least:g}{upper}, got {short(value)}")
    return real(value)


def whole(value: object, name: str) -> int:
    """A whole number of at least 1, of whatever type."""
    try:
        found = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = 0
    if found < 1:
        raise BadInput(f"{name} must be a whole number of at least 1, got {short(value)}")
    return found


def short(value: object) -> str:
    """A value in a message: on one line, however it is shown."""
    return " ".join(repr(value).split())[:60]
