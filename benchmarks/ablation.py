"""What each ingredient of Adaptive is worth: makespans with one of them switched off over those with all.

    python -m benchmarks.ablation [--quick] [--scenarios NAME,...] [--seeds 3]

Over 1: the ingredient helps. Negative results are printed like the others. All in virtual time.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
from typing import Any

from benchmarks.common import emit, say
from shaper.errors import Incomplete
from shaper.policy import Adaptive
from shaper.policy.settings import INGREDIENTS
from shaper.simulation import scenario, simulate

SCENARIOS = (
    "fig6-a",
    "fig6-warm",
    "fig8-a",
    "fig8-b",
    "fig8-c",
    "fig9",
    "heavy-tail",
    "drift",
    "drift-labelled",
    "heterogeneous",
    "churn",
    "bandwidth",
    "tiny-files",
    "straggler",
    "big-results",
    "mixed",
)
GUESSES = (None, 512 * 1024)


def one(item: tuple[str, str, int]) -> tuple[str, str, list[float]]:
    """Makespans of one scenario without one ingredient, by seed and first guess."""
    name, ingredient, seeds = item
    found = []
    for seed in range(seeds):
        for guess in GUESSES:
            policy = Adaptive(first_guess=guess, without=[ingredient] if ingredient else [])
            try:
                found.append(simulate(scenario(name), policy, seed).makespan_s)
            except Incomplete:
                found.append(math.inf)
    return name, ingredient, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--scenarios", help="names, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    given = parser.parse_args()
    names = given.scenarios.split(",") if given.scenarios else SCENARIOS
    seeds = 1 if given.quick else given.seeds
    work = [(name, ingredient, seeds) for name in names for ingredient in ("", *INGREDIENTS)]
    took: dict[tuple[str, str], list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for name, ingredient, found in pool.imap_unordered(one, work):
            took[name, ingredient] = found
            say(f"{name} without {ingredient or 'nothing'}: {statistics.median(found):.0f} s")
    table: dict[str, dict[str, float]] = {}
    for ingredient in INGREDIENTS:
        row = {}
        for name in names:
            ratios = [a / b for a, b in zip(took[name, ingredient], took[name, ""], strict=True)]
            row[name] = round(statistics.median(ratios), 3)
        table[ingredient] = row
    for line in markdown(table, names):
        say(line)
    emit("ablation", {"quick": given.quick, "seeds": seeds, "ratios": _finite(table)}, [])


def markdown(table: dict[str, dict[str, float]], names: Any) -> list[str]:
    """The table as docs/policies.md has it: median over the scenarios, and where an ingredient matters most."""
    lines = ["| without | median | worst | best |", "|---|---|---|---|"]
    for ingredient, row in sorted(table.items(), key=lambda item: -max(item[1].values())):
        worst, best = max(names, key=row.__getitem__), min(names, key=row.__getitem__)
        lines.append(
            f"| {ingredient} | {statistics.median(row.values()):.3f} | {row[worst]:.3f} {worst} | "
            f"{row[best]:.3f} {best} |"
        )
    return lines


def _finite(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    return {key: {k: v if math.isfinite(v) else None for k, v in row.items()} for key, row in table.items()}


if __name__ == "__main__":
    main()
