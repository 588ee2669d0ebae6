"""The engines, all on this machine: calls per second, what starting costs, and coffea's own executors beside ours.

    python -m benchmarks.engines [--quick] [--only workqueue,taskvine,executors]
    scripts/debian13 python -m benchmarks.engines

What is not installed is left out, and its targets do not hold: TaskVine is there in the second form.
`benchmarks/calls.py` says how calls are counted, `benchmarks/executors.py` how executors are compared; each engine, and
each run of an analysis, is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks import executors
from benchmarks.calls import ENGINES
from benchmarks.common import Target, emit

CALLS_PER_S = {"workqueue": 60.0, "taskvine": 40.0}
STRETCH_PER_S = 150.0
BEYOND_DISPATCH_MS = 50.0


def part(module: str, *words: str) -> Any:
    """Run a part in a process of its own; its progress is ours."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(said.splitlines()[-1])


def targets(figures: dict[str, Any], parts: list[str]) -> list[Target]:
    """Those of the issue, for the parts that were asked for."""
    found = []
    for name, bound in CALLS_PER_S.items():
        if name not in parts:
            continue
        own = figures.get(name) or {}
        rate = own.get("warm_per_s", {}).get("median")
        found.append(Target(f"{name}_warm_calls_per_s", rate, bound, at_least=True))
        found.append(Target(f"{name}_call_beyond_dispatch_ms", own.get("beyond_dispatch_ms"), BEYOND_DISPATCH_MS))
    if "executors" in parts:
        compared = figures["executors"]
        found.append(Target("topeft_over_taskvine_executor_best", executors.target(compared), 1.0))
        cap = compared.get("cap", {})
        finishes = float(cap["ours_too_large"]["s"] is not None) if cap else None
        found.append(Target("topeft_finishes_under_a_cap_from_100_times_too_large", finishes, 1.0, at_least=True))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small version of everything")
    parser.add_argument("--only", default=",".join([*ENGINES, "executors"]), help="names of parts, with commas")
    given = parser.parse_args()
    quick = ["--quick"] if given.quick else []
    parts = given.only.split(",")
    figures: dict[str, Any] = {"quick": given.quick, "stretch_warm_calls_per_s": STRETCH_PER_S}
    for name in parts:
        figures[name] = part("executors", *quick) if name == "executors" else part("calls", name, *quick)
    emit("engines", figures, targets(figures, parts))


if __name__ == "__main__":
    main()
