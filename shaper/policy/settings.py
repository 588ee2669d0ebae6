"""What a user may set on the adaptive policy, and need not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from shaper.errors import BadInput
from shaper.policy.outage import PATIENCE_S
from shaper.units import parse_mib, parse_seconds

Objective = Literal["throughput", "waste", "retries"]
Goal = Literal["makespan", "cost"]

# Probability that a task exceeds its memory, by what the allocation is to optimise.
_RISK: dict[str, float] = {"throughput": 0.01, "waste": 0.10, "retries": 0.002}

# What `without` switches off, so that its worth can be measured (`benchmarks/ablation.py`).
INGREDIENTS = {
    "probes": "a few small tasks of spread sizes before the machine is filled",
    "risk": "the allocation at a quantile; without it at the median",
    "censoring": "attempts that exceeded a limit as lower bounds; without it they teach nothing",
    "bends": "memory and time that bend with the size; without it straight lines",
    "surprise": "what was learnt fades after several attempts exceeded what was believed",
    "packing": "fewer tasks side by side where that processes more; without it always one per core",
    "enough": "the smallest size that is nearly as fast; without it the largest that fits",
    "tail": "smaller sizes as work runs out",
    "cross-source": "chunks that cross sources",
    "own-size": "each task the memory of its own size; without it the largest that its category has used",
    "spare": "memory that no other task could use",
    "curiosity": "larger tasks where only ignorance speaks against them",
    "eviction": "shorter tasks where workers live shortly",
    "dispatch": "larger tasks where the manager is the limit",
    "bandwidth": "smaller tasks where the data source is the limit",
    "recut": "taking back what waits when far larger or smaller sizes turn out to be better",
    "stragglers": "taking back what idle workers would finish earlier",
    "groups": "beliefs per group",
    "fan-in": "fewer results per merge at the end, where merging is slow",
    "parallelism": "what runs at other parallelisms have shown; without it all that fits runs at once",
}


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
    concurrency: int | None = None
    checkpoint_s: float = 0.0
    without: frozenset[str] = frozenset()
    patience_s: float = PATIENCE_S
    urgency: float = 1.0
    cores_given: bool = False


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
    objective: Objective | Goal,
    goal: Goal,
    risk: float | None,
    retries: int,
    fan_in: int | None,
    cores: int | None = None,
    concurrency: int | None = None,
    checkpoint_s: float = 0.0,
    without: Collection[str] = (),
    patience: str | float = PATIENCE_S,
    urgency: float = 1.0,
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
        ("concurrency", concurrency, 1),
    ):
        if value is not None:
            whole_number(name, value, least)
    if objective == "makespan" or objective == "cost":
        goal, objective = objective, "throughput"
    if objective not in _RISK:
        names = "'throughput', 'waste', 'retries', 'makespan' or 'cost'"
        raise BadInput(f"objective is {names}, got {objective!r}")
    if isinstance(urgency, bool) or not isinstance(urgency, int | float) or not urgency > 0:
        raise BadInput(f"urgency is a number above 0 (0.5: money, 1: the usual, more: time), got {urgency!r}")
    if goal not in ("makespan", "cost"):
        raise BadInput(f"goal is 'makespan' or 'cost', got {goal!r}")
    if isinstance(without, str) or not set(without) <= set(INGREDIENTS):
        raise BadInput(f"without is a collection of {', '.join(INGREDIENTS)}; got {without!r}")
    if isinstance(checkpoint_s, bool) or not isinstance(checkpoint_s, int | float) or not checkpoint_s >= 0:
        raise BadInput(f"checkpoint_s is a number of seconds, 0 for every result at once, got {checkpoint_s!r}")
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
        0.5 if "risk" in without else risk if risk is not None else _RISK[objective],
        retries,
        fan_in,
        cores or 1,
        concurrency,
        float(checkpoint_s),
        frozenset(without),
        parse_seconds(patience, "patience"),
        float(urgency),
        cores is not None,
    )
