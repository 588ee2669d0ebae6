"""What every scenario comes to at a tenth of its size; `python -m tests.simulated.goldens` writes it anew.

Under Adaptive, under the setting that the paper's experiment had, and for figure 8 under the published rule.

A change of these figures is a change of behaviour: read the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shaper.errors import Incomplete
from shaper.simulation import SCENARIOS, policy_named, simulate, worlds_apart

PATH = Path(__file__).with_suffix(".json")
SHARE = 0.1


def cases() -> list[tuple[str, str]]:
    """Names of scenarios, each with the name of a policy."""
    found = [(name, "adaptive") for name in worlds_apart()]
    found += [(name, "fixed") for name, case in SCENARIOS.items() if case.fixed is not None]
    found += [(name, policy) for name in ("fig8-a", "fig8-b", "fig8-c") for policy in ("published", "published-target")]
    return found


def figures(name: str, policy: str) -> dict[str, Any] | None:
    """The figures of one scenario under a policy; None where it cannot finish."""
    case = SCENARIOS[name].scaled(SHARE)
    try:
        found = simulate(case, policy_named(policy, case))
    except Incomplete:
        return None
    return {
        "makespan_s": round(found.makespan_s, 3),
        "tasks": found.tasks,
        "splits": found.splits,
        "retries": found.retries,
        "exhausted_fraction": round(found.exhausted_fraction, 5),
    }


def main() -> None:
    """Write all of them."""
    found = {f"{name} {policy}": figures(name, policy) for name, policy in cases()}
    PATH.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
