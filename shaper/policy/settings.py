"""What a user may set on the adaptive policy, and need not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shaper.errors import BadInput
from shaper.units import parse_mib, parse_seconds

Objective = Literal["throughput", "waste", "retries"]
Goal = Literal["makespan", "cost"]

# Probability that a task exceeds its memory, by what the allocation is to optimise.
_RISK: dict[str, float] = {"throughput": 0.02, "waste": 0.10, "retries": 0.002}


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings, in the units of the core; None means: decide."""

    first_guess: int | None
    min_chunksize: int
    target_memory_mib: int | None
    target_wall_s: float | None
    cap_mib: int | None
    objective: Objective
    goal: Goal
    risk: float
    retries: int
    fan_in: int | None
    cores: int


def whole_number(name: str, value: object, least: int) -> None:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, got {value!r}")


def checked(
    *,
    first_guess: int | None,
    min_chunksize: int,
    target_memory: str | int | None,
    target_wall: str | float | None,
    cap: str | int | None,
    objective: Objective,
    goal: Goal,
    risk: float | None,
    retries: int,
    fan_in: int | None,
    cores: int,
) -> Settings:
    """Return the settings in the core's units.

    Raises:
        BadInput: one of them makes no sense; the message names it and says what would.
    """
    for name, value, least in (
        ("first_guess", first_guess, 1),
        ("min_chunksize", min_chunksize, 1),
        ("retries", retries, 0),
        ("fan_in", fan_in, 2),
        ("cores", cores, 1),
    ):
        if value is not None:
            whole_number(name, value, least)
    if objective not in _RISK:
        raise BadInput(f"objective is 'throughput', 'waste' or 'retries', got {objective!r}")
    if goal not in ("makespan", "cost"):
        raise BadInput(f"goal is 'makespan' or 'cost', got {goal!r}")
    if risk is not None and not 1e-6 <= risk <= 0.5:
        raise BadInput(f"risk is a probability between 1e-6 and 0.5, got {risk!r}")
    return Settings(
        first_guess,
        min_chunksize,
        None if target_memory is None else parse_mib(target_memory, "target_memory"),
        None if target_wall is None else parse_seconds(target_wall, "target_wall"),
        None if cap is None else parse_mib(cap, "cap"),
        objective,
        goal,
        risk if risk is not None else _RISK[objective],
        retries,
        fan_in,
        cores,
    )
