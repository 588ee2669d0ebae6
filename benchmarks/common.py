"""What the benchmarks share: interleaved repetitions, paired ratios, and the one JSON object they end with."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A named figure with its bound; `holds` is computed, never given.

    Args:
        at_least: the bound is a least value, not a largest.
    """

    name: str
    value: float | None
    bound: float
    at_least: bool = False

    def as_json(self) -> dict[str, Any]:
        """A figure that could not be measured does not hold."""
        value = self.value
        holds = value is not None and (value >= self.bound if self.at_least else value <= self.bound)
        return {**asdict(self), "holds": holds}


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    memory = {}
    with Path("/proc/meminfo").open() as lines:
        for line in lines:
            name, value = line.split(":")
            memory[name] = int(value.split()[0]) // 1024
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory["MemTotal"],
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def emit(name: str, figures: Mapping[str, Any], targets: Sequence[Target]) -> None:
    """Print the one JSON object, last on standard output."""
    rows = [target.as_json() for target in targets]
    for row in rows:
        sign = ">=" if row["at_least"] else "<="
        value = "not measured" if row["value"] is None else f"{row['value']:.4g}"
        say(f"{'holds' if row['holds'] else 'DOES NOT HOLD'}: {row['name']} = {value} ({sign} {row['bound']})")
    print(json.dumps({"benchmark": name, "machine": machine(), "figures": figures, "targets": rows}))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "n": len(values),
    }


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Spread of the ratios of values measured one after the other in the same round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])
