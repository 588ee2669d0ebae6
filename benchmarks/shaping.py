"""Adaptive against the best fixed setting in hindsight and the published rule, on every scenario, in virtual time.

    python -m benchmarks.shaping [--quick] [--only NAME,...] [--seeds 5] [--jobs 2]

The fixed settings are a grid over chunksize (1K to 1M) and allocation (every even share of a worker); a task over its
limit is retried with a whole worker and then halved. Settings that cannot beat the best one found so far, by their
number of tasks times the fixed cost alone, are not run. All figures are in virtual time and repeat to the byte.
`--drawn N` compares on N worlds drawn at random instead (`shaper/simulation/family.py`); policies were tuned with even
seeds in view, so both halves are printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from dataclasses import replace
from typing import Any

from benchmarks.common import Target, emit, say, spread
from shaper.errors import BadInput, Incomplete
from shaper.policy import Adaptive
from shaper.simulation import SCENARIOS, best_fixed, policy_named, scenario, simulate
from shaper.simulation.family import drawn

GUESSES = {"adaptive": None, "adaptive_1k": 1024, "adaptive_512k": 512 * 1024}
# Configurations of one fixed setting differ only in that setting: one of each family stands for all.
SAME = ("fig6-a-128k", "fig6-b", "fig6-c", "fig6-d", "fig6-e", "fig7-a", "fig7-b", "fig7-c")


def one(name_and_seed: tuple[str, int]) -> dict[str, Any]:
    """All policies on one scenario with one seed."""
    name, seed = name_and_seed
    case = scenario(name)
    fixed, figures = best_fixed(case, seed)
    given = fixed.resources
    assert given is not None
    row: dict[str, Any] = {
        "scenario": name,
        "seed": seed,
        "bound_s": figures.bound_s,
        "fixed": {"chunksize": fixed.chunksize, "cores": given.cores, "memory_mib": given.memory_mib},
        "fixed_s": figures.makespan_s,
    }
    for label, guess in GUESSES.items():
        found = simulate(case, Adaptive(first_guess=guess), seed)
        row[f"{label}_s"] = found.makespan_s
        row[f"{label}_lost"] = found.exhausted_fraction
        row[f"{label}_idle_end_core_s"] = found.idle_end_core_s
        row[f"{label}_tasks"] = found.tasks
    row["with_losses_s"] = simulate(replace(case, loss_rate=0.01), Adaptive(), seed).makespan_s
    for label in ("published", "published-target"):
        try:
            row[f"{label}_s"] = simulate(case, policy_named(label, case), seed).makespan_s
        except Incomplete:
            row[f"{label}_s"] = None
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--only", help="names of scenarios, with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--drawn", type=int, default=0, help="this many worlds drawn at random instead")
    given = parser.parse_args()
    if given.drawn:
        halves(given.drawn, given.jobs)
        return
    names = given.only.split(",") if given.only else [name for name in SCENARIOS if name not in SAME]
    seeds = 1 if given.quick else given.seeds
    work = [(name, seed) for name in names for seed in range(seeds)]
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for row in pool.imap(one, work):
            rows.append(row)
            say(line_of(row))
    report(rows, names, quick=given.quick)


def drawn_world(seed: int) -> tuple[int, float | None, float | None, float]:
    """Best fixed setting and Adaptive on one world drawn at random."""
    case = drawn(seed)
    found = simulate(case, Adaptive())
    try:
        _, figures = best_fixed(case)
    except BadInput:
        return seed, None, found.makespan_s, found.exhausted_fraction
    return seed, figures.makespan_s, found.makespan_s, found.exhausted_fraction


def halves(count: int, jobs: int) -> None:
    """Adaptive over the best fixed setting on worlds drawn at random, even and odd seeds apart."""
    ratios: dict[str, list[float]] = {"even": [], "odd": []}
    lost = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for seed, fixed_s, adaptive_s, exhausted in pool.imap(drawn_world, range(count)):
            lost.append(exhausted)
            ratio = adaptive_s / fixed_s if fixed_s and adaptive_s else None
            if ratio is not None:
                ratios["odd" if seed % 2 else "even"].append(ratio)
            shown = f"{ratio:.3f} of the best fixed setting" if ratio else "no fixed setting finishes"
            say(f"world {seed}: {shown}, lost {exhausted:.1%}")
    emit(
        "shaping-drawn",
        {name: spread(values) for name, values in ratios.items() if values},
        [
            Target("adaptive_over_fixed_worst_drawn", max(ratios["even"] + ratios["odd"], default=None), 1.10),
            Target("lost_worst_drawn", max(lost, default=None), 0.15),
        ],
    )


def line_of(row: dict[str, Any]) -> str:
    """One row of the table."""
    best_published = min(filter(None, (row["published_s"], row["published-target_s"])), default=None)
    ratios = " ".join(f"{row[f'{label}_s'] / row['fixed_s']:6.3f}" for label in GUESSES)
    worst_lost = max(row[f"{label}_lost"] for label in GUESSES)
    published = f"{best_published / row['fixed_s']:6.2f}" if best_published else "     -"
    fixed = f"{row['fixed']['chunksize'] // 1024}K/{row['fixed']['memory_mib']}"
    return (
        f"{row['scenario']:>16} {row['seed']}  bound {row['bound_s']:8.1f}  fixed {row['fixed_s']:8.1f} ({fixed:>10})  "
        f"adaptive/fixed {ratios}  published/fixed {published}  lost {worst_lost:6.2%}"
    )


def report(rows: list[dict[str, Any]], names: list[str], *, quick: bool) -> None:
    """Medians over the seeds, and the targets over the scenarios."""
    ratios: dict[str, float] = {}
    published: dict[str, float] = {}
    for name in names:
        own = [row for row in rows if row["scenario"] == name]
        for label in GUESSES:
            ratios[f"{name} {label}"] = statistics.median(row[f"{label}_s"] / row["fixed_s"] for row in own)
        faster = [min(filter(None, (row["published_s"], row["published-target_s"])), default=None) for row in own]
        over = [row["adaptive_s"] / s for row, s in zip(own, faster, strict=True) if s]
        if over:
            published[name] = statistics.median(over)
    lost = {
        name: max(row[f"{label}_lost"] for row in rows if row["scenario"] == name for label in GUESSES)
        for name in names
    }
    efficiency = {
        name: statistics.median(row["bound_s"] / row["adaptive_s"] for row in rows if row["scenario"] == name)
        for name in names
    }

    def less(name: str, value: float | None, bound: float) -> Target:
        return Target(name, value, bound)

    targets = [
        less("adaptive_over_fixed_median", statistics.median(ratios.values()), 0.96),
        less("adaptive_over_fixed_worst", max(ratios.values()), 1.03),
        less("adaptive_over_published_worst", max(published.values(), default=None), 1.0),
        less("lost_worst", max(lost.values()), 0.03),
    ]
    targets += [
        less(f"lost_{name[3:].replace('-', '')}", lost[name], 0.01) for name in ("fig8-b", "fig8-c") if name in lost
    ]
    for name, label, bound in (("fig6-a", "fig6", 0.82), ("fig8-b", "8b", 0.85), ("fig6-warm", "fig6_warm", 0.93)):
        if name in efficiency:
            # The bound is a least value: the inefficiency is compared.
            targets.append(less(f"inefficiency_{label}", 1.0 - efficiency[name], round(1.0 - bound, 4)))
    worst = sorted(ratios, key=lambda key: -ratios[key])[:10]
    say("worst: " + ", ".join(f"{key} {ratios[key]:.3f}" for key in worst))
    emit(
        "shaping",
        {
            "quick": quick,
            "ratios": {key: round(value, 4) for key, value in ratios.items()},
            "over_published": {key: round(value, 4) for key, value in published.items()},
            "lost": {key: round(value, 5) for key, value in lost.items()},
            "efficiency": {key: round(value, 4) for key, value in efficiency.items()},
            "spread": spread(list(ratios.values())),
            "rows": rows,
        },
        targets,
    )


if __name__ == "__main__":
    main()
