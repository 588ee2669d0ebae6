"""What every scenario comes to at a tenth of its size; `python -m tests.simulated.goldens` writes it anew.

A change of these figures is a change of behaviour: read the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shaper.policy import Adaptive
from shaper.simulation import SCENARIOS, simulate

PATH = Path(__file__).with_suffix(".json")
SHARE = 0.1


def figures(name: str) -> dict[str, Any]:
    """The figures of one scenario under Adaptive."""
    found = simulate(SCENARIOS[name].scaled(SHARE), Adaptive())
    return {
        "makespan_s": round(found.makespan_s, 3),
        "tasks": found.tasks,
        "splits": found.splits,
        "retries": found.retries,
        "exhausted_fraction": round(found.exhausted_fraction, 5),
    }


def main() -> None:
    """Write all of them."""
    PATH.write_text(json.dumps({name: figures(name) for name in SCENARIOS}, indent=1) + "\n")


if __name__ == "__main__":
    main()
