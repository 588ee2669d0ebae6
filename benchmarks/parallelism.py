"""The models of parallelism on made-up stages and on published measurements.

    python -m benchmarks.parallelism [--quick] [--first N]

Every model plays 60 runs of every world (benchmarks/worlds.py): it chooses s, is told the noisy time, learns. At run 30
the work takes twice as long. Regret is what the chosen s costs, T sqrt(s), over the best there is, without noise; with
the makespan as the objective, T alone.

    before    runs 2 to 29: all that are neither baseline nor probe; pooled over worlds
    after     runs 30 to 59
    mape_pct  error of the prediction for the s that was run, against what was measured; mean per world, runs 2 to 29
    recovery  runs from 30 on until the regret stays within 5 % for five runs; 30 is never

Targets are about the family `usual`, but where their names say otherwise; `second` and everything else is in the
figures. The models were tuned on worlds from number 1000 on, so `--first` with another number below is as fair as 0.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Target, emit, say
from benchmarks.worlds import FAMILIES, RUNS, World, world
from shaper.models import AmdahlGP, Choice, Estimate, Objective, ParallelismModel, Run

TABLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "genome_tables.json"
WORLDS, DRIFT_RUN, FIRST, WINDOW = 24, 30, 2, 50
BASELINES: dict[str, Callable[[], Any]] = {
    "as written, guarded": lambda: AmdahlGP(as_written=True),
    "repaired": AmdahlGP,
    "default": ParallelismModel,
}


@dataclass(frozen=True)
class Fixed:
    """Always the same s."""

    s: int

    def updated(self, run: Run) -> Fixed:
        """Learn nothing."""
        return self

    def predict(self, s: int, gamma: float, load: float) -> Estimate:
        """Know nothing."""
        return Estimate(None, None, 0)

    def choose(
        self, gamma: float, load: float, s_max: int, urgency: float = 1.0, objective: Objective = "cost"
    ) -> Choice:
        """The same."""
        return Choice(min(self.s, s_max), None, "fixed")


@dataclass(frozen=True)
class Played:
    """What came of one model in one world, per run."""

    regret_pct: np.ndarray[Any, Any]
    error_pct: np.ndarray[Any, Any]  # nan where nothing was predicted
    decision_ms: np.ndarray[Any, Any]


def play(model: Any, given: World, slower: float = 2.0, objective: Objective = "cost") -> Played:
    """Let a model run a world; the work takes `slower` times as long from run 30 on."""
    regrets, errors, decisions = [], [], []
    for run in range(RUNS):
        times_s = given.times_s(run, slower if run >= DRIFT_RUN else 1.0)
        costs = times_s * np.sqrt(np.arange(1, given.s_max + 1)) if objective == "cost" else times_s
        gamma, load = given.gammas[run], given.loads[run]
        start = time.perf_counter()
        s = model.choose(gamma, load, given.s_max, objective=objective).s
        chosen_s = time.perf_counter() - start
        predicted_s = model.predict(s, gamma, load).mean
        wall_s = float(times_s[s - 1] * given.noise[run])
        start = time.perf_counter()
        model = model.updated(Run(s, gamma, load, wall_s))
        decisions.append(1e3 * (time.perf_counter() - start + chosen_s))
        regrets.append(100.0 * (costs[s - 1] / costs.min() - 1.0))
        errors.append(math.nan if predicted_s is None else 100.0 * abs(predicted_s / wall_s - 1.0))
    return Played(np.array(regrets), np.array(errors), np.array(decisions))


def summary(played: Sequence[Played]) -> dict[str, Any]:
    """The figures of one model on one family."""
    before = np.concatenate([one.regret_pct[FIRST:DRIFT_RUN] for one in played])
    after = np.concatenate([one.regret_pct[DRIFT_RUN:] for one in played])
    errors = [float(np.mean(one.error_pct[FIRST:DRIFT_RUN])) for one in played]
    recovery = [recovered(one.regret_pct[DRIFT_RUN:]) for one in played]
    return {
        "before_pct": spread(before),
        "after_pct": spread(after),
        "mape_pct": None if math.isnan(errors[0]) else spread(np.array(errors)),
        "recovery_runs": {"median": float(np.median(recovery)), "p90": float(np.percentile(recovery, 90))},
    }


def recovered(regret_pct: np.ndarray[Any, Any]) -> int:
    """Runs until the regret stays within 5 % for five runs."""
    calm = [n for n in range(len(regret_pct) - 4) if regret_pct[n : n + 5].max() <= 5.0]
    return calm[0] if calm else len(regret_pct)


def spread(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """Median, mean and 90th percentile."""
    found = {"median": np.median(values), "mean": np.mean(values), "p90": np.percentile(values, 90)}
    return {name: round(float(value), 3) for name, value in found.items()}


def family(name: str, make: Callable[[], Any], numbers: range, same_size: bool = False, **given: Any) -> list[Played]:
    """A model on every world of a family."""
    return [play(make(), world(name, number, same_size), **given) for number in numbers]


def left_out(make: Callable[[], Any]) -> dict[str, float] | None:
    """Mean absolute error, in seconds, of predictions of each published measurement from the others."""
    if not TABLES.exists():
        return None
    tables = json.loads(TABLES.read_text())
    pairs = tables["table6"]
    series = {
        "all": [Run(row["s_all"], 1.0, row["L_for_all"], row["T_all"]) for row in pairs],
        "afr": [Run(row["s_afr"], 1.0, row["L_for_afr"], row["T_afr"]) for row in pairs],
        "individuals": [Run(row["s"], 1.0, 0.0, row["T_actual"]) for row in tables["table3"]],
    }
    return {name: round(_left_out(make, runs), 3) for name, runs in series.items()}


def _left_out(make: Callable[[], Any], runs: Sequence[Run]) -> float:
    errors = []
    for out in range(1, len(runs)):  # the baseline always stays
        model = make()
        for number, run in enumerate(runs):
            model = model if number == out else model.updated(run)
        errors.append(abs(model.predict(runs[out].s, runs[out].gamma, runs[out].load).mean - runs[out].wall_s))
    return float(np.mean(errors))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight worlds of each family")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first world")
    given = parser.parse_args(argv)
    numbers = range(given.first, given.first + (8 if given.quick else WORLDS))
    figures: dict[str, Any] = {"worlds_per_family": len(numbers), "first": given.first, "runs": RUNS}
    models = BASELINES | {f"s = {s}": partial(Fixed, s) for s in (2, 3, 4, 6, 8)}
    decision_ms: list[float] = []

    def measure(title: str, name: str, some: Mapping[str, Callable[[], Any]], **how: Any) -> None:
        figures[title] = {}
        for label, make in some.items():
            played = family(name, make, numbers, **how)
            figures[title][label] = summary(played)
            say(f"{title}, {label}: {figures[title][label]}")
            if label == "default":
                decision_ms.extend(ms for one in played for ms in one.decision_ms[WINDOW + 1 :])

    for name in FAMILIES:
        measure(name, name, models)
    default = {"default": ParallelismModel}
    measure("usual, 1.3 times from run 30", "usual", default, slower=1.3)
    measure("usual, gamma 1, no drift", "usual", {"repaired": AmdahlGP}, slower=1.0, same_size=True)
    for name in FAMILIES:
        most = {"as many as there is room for": lambda: Fixed(10**6)}
        measure(f"{name}, makespan", name, {**default, **most}, objective="makespan")
    figures["left_out_s"] = {label: left_out(make) for label, make in BASELINES.items()}
    figures["decision_ms"] = spread(np.array(decision_ms))
    say(f"left out: {figures['left_out_s']}; decision: {figures['decision_ms']}")
    emit("parallelism", figures, targets(figures))


def targets(figures: dict[str, Any]) -> list[Target]:
    """The bounds of the issue."""
    usual, odd = figures["usual"]["default"], figures["misspecified"]["default"]
    milder = figures["usual, 1.3 times from run 30"]["default"]["recovery_runs"]
    published = figures["usual, gamma 1, no drift"]["repaired"]
    left = figures["left_out_s"]["default"] or dict.fromkeys(("all", "afr", "individuals"))
    return [
        Target("regret_median_pct", usual["before_pct"]["median"], 0.1),
        Target("regret_mean_pct", usual["before_pct"]["mean"], 0.6),
        Target("regret_p90_pct", usual["before_pct"]["p90"], 2.0),
        Target("mape_median_pct", usual["mape_pct"]["median"], 4.5),
        Target("mape_p90_pct", usual["mape_pct"]["p90"], 6.0),
        Target("drift_regret_p90_pct", usual["after_pct"]["p90"], 2.5),
        Target("recovery_median_runs", usual["recovery_runs"]["median"], 2.0),
        Target("recovery_p90_runs", usual["recovery_runs"]["p90"], 4.0),
        Target("recovery_small_median_runs", milder["median"], 3.0),
        Target("recovery_small_p90_runs", milder["p90"], 10.0),
        Target("misspecified_regret_median_pct", odd["before_pct"]["median"], 1.2),
        Target("misspecified_regret_mean_pct", odd["before_pct"]["mean"], 2.8),
        Target("misspecified_regret_p90_pct", odd["before_pct"]["p90"], 7.0),
        Target("loo_all_s", left["all"], 5.0),
        Target("loo_afr_s", left["afr"], 6.0),
        Target("loo_individuals_s", left["individuals"], 2.3),
        Target("decision_ms", figures["decision_ms"]["median"], 100.0),
        Target("published_regret_median_pct", published["before_pct"]["median"], 0.5),
        Target("published_regret_mean_pct", published["before_pct"]["mean"], 2.0),
        Target("published_regret_p90_pct", published["before_pct"]["p90"], 5.0),
        Target("published_mape_pct", published["mape_pct"]["median"], 6.0),
    ]


if __name__ == "__main__":
    main()
