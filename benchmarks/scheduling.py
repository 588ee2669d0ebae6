"""Methods for moldable jobs on the SDSC Paragon trace, and on sequence mapping at five loads; in virtual time.

    python -m benchmarks.scheduling [--quick] [--only trace,mapping,live] [--seeds 10] [--jobs 2] [--draw docs/figures]

The trace is that of the source slides (Parallel Workloads Archive; acknowledge Reagan Moore and Allen Downey). Each
seed draws Downey's curves of its first 5000 jobs anew; averages are over all jobs of all seeds, beside those of the
reference results. Targets are medians over seeds of what two methods make of the same jobs. Iterative at the two
highest loads of the mapping experiment, which are more than the machine can do, takes minutes a seed; there are two.
The live part (`benchmarks.scheduling_live`) shares 512 cores among 2000 jobs of three kinds, with predicted run times.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Target, emit, say, spread
from benchmarks.scheduling_live import live
from shaper.report.svg import standalone
from shaper.scheduling import DEFAULT_METHOD, MoldableJob, simulate, usual_cap
from shaper.scheduling.measures import DOWNEY_CLASSES_S, MAPPING_CLASSES_S, Fared, ranks_below, summary
from shaper.simulation.moldable import LOADS, PROCESSORS, RHOS, Rule, downey_jobs, figures, mapping_jobs
from shaper.simulation.schedule_plots import downey_curves, fared, mapping_steps, over_load
from shaper.simulation.swf import read

TRACE = Path("../shared/data/traces/SDSC-Par-1996-3.1-cln.swf.gz")
DEFAULT = Rule(DEFAULT_METHOD, 1.5, usual_cap(PROCESSORS))
ITERATIVE, IMPROVED, EQ_SPT = Rule("iterative"), Rule("improved-iterative"), Rule("eq-spt")
CAPPED = Rule("dbos", 1.5, PROCESSORS // 32)
ARRIVALS = (Rule("dbos", 1.0, None, "arrivals"), Rule("dbos", 1.5, None, "arrivals"))
# Average and largest stretch, share above 1 in %, average and largest flow in s, of the reference results.
REFERENCE = {
    ITERATIVE: (77.0, 18254.0, 31.3, 10.2e3, 5.6e5),
    ARRIVALS[0]: (67.0, 13451.0, 36.6, 131e3, 1.9e7),
    ARRIVALS[1]: (25.0, 8269.0, 11.2, 60e3, 1.6e7),
    Rule("dbos"): (9.2, 4570.0, 5.7, 30e3, 1.6e7),
    Rule("lex"): (15.2, 9653.0, 5.3, 9.8e3, 4.6e6),
    EQ_SPT: (9.0, 8330.0, 5.6, 14e3, 4.0e6),
}
TRACE_RULES = (
    *REFERENCE,
    *(Rule("dbos", rho) for rho in RHOS[:-1]),
    *(Rule(method, 1.5, cap) for method in ("dbos", "eq-spt", "lex") for cap in (64, 32, 16)),
)
MAPPING_RULES = (ITERATIVE, IMPROVED, *(Rule("dbos", rho) for rho in RHOS), Rule("lex"), EQ_SPT, DEFAULT)
SLOW = (ITERATIVE, IMPROVED)
# Average stretch of the reference results at three loads.
MAPPING_REFERENCE = {
    ITERATIVE: {110: 0.045, 330: 0.49, 550: 2.3},
    IMPROVED: {110: 0.66, 330: 1.08, 550: 2.2},
    Rule("dbos", 1.0): {110: 0.26, 330: 0.73, 550: 1.1},
    Rule("dbos"): {110: 0.0099, 330: 0.036, 550: 0.39},
}
_SIGMA = 1.0  # of the logarithm of by how much jobs run longer than was predicted

Work = tuple[str, Rule, float, int]  # what, under which rule, at which load or error, with which seed


def one(work: Work) -> tuple[Work, Fared]:
    """Simulate one seed."""
    what, rule, at, seed = work
    if what == "mapping":
        return work, Fared.of(rule.run(mapping_jobs(at, seed), PROCESSORS))
    jobs = downey_jobs(read(TRACE).records, seed)
    if not at:
        return work, Fared.of(rule.run(jobs, PROCESSORS))
    rng = np.random.default_rng([seed, 4])
    factors = rng.lognormal(0, at, len(jobs)).tolist()
    # The jobs run as they do else; what is planned with is off.
    predicted = [
        MoldableJob(job.id, job.release_s, np.asarray(job.times) / factor)
        for job, factor in zip(jobs, factors, strict=True)
    ]
    slowdown = {job.id: factor for job, factor in zip(jobs, factors, strict=True)}
    found = simulate(predicted, PROCESSORS, rule.method, rho=rule.rho, cap=rule.cap, slowdown=slowdown)
    return work, Fared.of(found)


Found = dict[tuple[Rule, float], list[Fared]]  # by seed


def all_of(what: str, cases: Sequence[tuple[Rule, float, int]], processes: int) -> Found:
    """Simulate rules, each at a load or error with so many seeds."""
    works: list[Work] = [(what, rule, at, seed) for rule, at, seeds in cases for seed in range(seeds)]
    found: Found = {}
    with multiprocessing.Pool(processes) as pool:
        for (_, rule, at, seed), result in pool.imap(one, works):
            found.setdefault((rule, at), []).append(result)
            say(f"{what} {at or ''} {rule} seed {seed}: stretch {result.stretch.mean():.3g}")
    return found


def row(mine: Sequence[Fared], bounds_s: Sequence[float]) -> dict[str, Any]:
    """Figures of all jobs, and how much the averages of a seed vary."""
    each = [summary(seed) for seed in mine]
    deviations = {
        name: statistics.stdev(getattr(seed, name) for seed in each) if len(each) > 1 else None
        for name in ("average_stretch", "max_stretch", "share_above_1", "average_flow_s", "max_flow_s")
    }
    return {**figures(Fared.pooled(mine), bounds_s), "seeds": len(mine), "standard_deviation_of_seeds": deviations}


def beside(rule: Rule, mine: Mapping[str, Any]) -> dict[str, Any]:
    """The reference results, and how many standard errors of the difference of two such pools lie between."""
    names = ("average_stretch", "max_stretch", "share_above_1", "average_flow_s", "max_flow_s")
    reference = dict(zip(names, REFERENCE[rule], strict=True))
    reference["share_above_1"] /= 100
    apart = {}
    for name in ("average_stretch", "share_above_1", "average_flow_s"):  # a largest value has no standard error
        deviation = mine["standard_deviation_of_seeds"][name]
        error = deviation * math.sqrt(2 / mine["seeds"]) if deviation else None
        apart[name] = round((mine[name] - reference[name]) / error, 2) if error else None
    return {"reference": reference, "standard_errors_apart": apart}


def trace(seeds: int, processes: int) -> tuple[dict[str, Any], list[Target], Found]:
    """The table, and its targets."""
    cases = [(rule, 0.0, seeds) for rule in dict.fromkeys((*TRACE_RULES, DEFAULT, CAPPED))]
    cases.append((IMPROVED, 0.0, min(2, seeds)))  # Downey's times are convex, so it is Iterative
    cases += [(rule, _SIGMA, seeds) for rule in (DEFAULT, Rule("dbos"), EQ_SPT)]
    found = all_of("trace", cases, processes)
    rows = {}
    for (rule, error), mine in found.items():
        name = f"{rule}, predictions off by sigma {error:g}" if error else str(rule)
        rows[name] = row(mine, DOWNEY_CLASSES_S)
        if rule in REFERENCE and not error:
            rows[name] |= beside(rule, rows[name])
    iterative, default = found[ITERATIVE, 0.0], found[DEFAULT, 0.0]
    pairs = [(asdict(summary(a)), asdict(summary(b))) for a, b in zip(iterative, default, strict=True)]
    least = 1 / pairs[0][0]["jobs"]  # where no job at all is above 1
    ratios = {
        "iterative_over_default_stretch": [a["average_stretch"] / b["average_stretch"] for a, b in pairs],
        "iterative_over_default_share_above_1": [a["share_above_1"] / max(least, b["share_above_1"]) for a, b in pairs],
        "default_over_iterative_flow": [b["average_flow_s"] / a["average_flow_s"] for a, b in pairs],
    }
    targets = [
        Target("iterative_over_default_stretch", statistics.median(ratios["iterative_over_default_stretch"]), 4, True),
        Target(
            "iterative_over_default_share_above_1",
            statistics.median(ratios["iterative_over_default_share_above_1"]),
            4,
            True,
        ),
        Target("default_over_iterative_flow", statistics.median(ratios["default_over_iterative_flow"]), 1.5),
        Target("capped_stretch", rows[str(CAPPED)]["average_stretch"], 0.2),
    ]
    all_iterative = Fared.pooled(iterative)
    below = {}
    for rule in (Rule("dbos"), DEFAULT):
        pooled = Fared.pooled(found[rule, 0.0])
        below[str(rule)] = {
            "stretch": round(ranks_below(pooled.stretch, all_iterative.stretch), 3),
            "flow": round(ranks_below(pooled.flow_s, all_iterative.flow_s), 3),
        }
    told = {
        "default": str(DEFAULT),
        "rows": rows,
        "paired_ratios": {name: spread(values) for name, values in ratios.items()},
        "ranks_below_iterative": below,
    }
    return told, targets, found


def mapping(seeds: int, loads: Sequence[float], processes: int) -> tuple[dict[str, Any], Found]:
    """Sequence mapping: figures by load and rule."""
    cases = [
        (rule, at, min(2, seeds) if rule in SLOW and at > PROCESSORS else seeds)
        for at in loads
        for rule in MAPPING_RULES
    ]
    found = all_of("mapping", cases, processes)
    told: dict[str, Any] = {}
    for (rule, at), mine in found.items():
        told.setdefault(f"{at:g}", {})[str(rule)] = row(mine, MAPPING_CLASSES_S)
        reference = MAPPING_REFERENCE.get(rule, {}).get(round(at))
        if reference is not None:
            told[f"{at:g}"][str(rule)]["reference_average_stretch"] = reference
    return told, found


def draw(folder: Path, traced: Found | None, mapped: Found | None) -> None:
    """Draw the figures of docs/scheduling.md."""
    plots = [("speedup-downey", downey_curves(PROCESSORS)[1]), ("speedup-mapping", mapping_steps(PROCESSORS)[1])]
    if traced:
        shown = (ITERATIVE, EQ_SPT, Rule("dbos", 1.0), Rule("dbos"), DEFAULT)
        curves = {str(rule): [Fared.pooled(traced[rule, 0.0])] for rule in shown}
        names = ("stretch", "flow", "classes")
        plots += [
            (f"trace-{name}", plot) for name, (_, plot) in zip(names, fared(curves, DOWNEY_CLASSES_S), strict=True)
        ]
    if mapped:
        loads = sorted({at for _, at in mapped})
        by_load = {str(rule): [Fared.pooled(mapped[rule, at]) for at in loads] for rule in MAPPING_RULES}
        names = ("stretch", "max-stretch", "flow")
        plots += [(f"mapping-{name}", plot) for name, (_, plot) in zip(names, over_load(loads, by_load), strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots:
        (folder / f"scheduling-{name}.svg").write_text(standalone(plot), encoding="utf-8")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, and the three lower loads of the mapping")
    parser.add_argument("--only", default="trace,mapping,live", help="which of these")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--draw", type=Path, help="draw the figures of the documentation into this folder")
    given = parser.parse_args()
    seeds = 2 if given.quick else given.seeds
    told: dict[str, Any] = {}
    targets: list[Target] = []
    traced = mapped = None
    if "trace" in given.only:
        if TRACE.is_file():
            told["trace"], targets, traced = trace(seeds, given.jobs)
        else:
            say(f"there is no {TRACE}: the trace is not simulated")
            names = ("iterative_over_default_stretch", "iterative_over_default_share_above_1")
            targets = [Target(name, None, 4, True) for name in names]
            targets += [Target("default_over_iterative_flow", None, 1.5), Target("capped_stretch", None, 0.2)]
    if "mapping" in given.only:
        loads = [(low + high) / 2 for low, high in LOADS]
        told["mapping"], mapped = mapping(seeds, loads[:3] if given.quick else loads, given.jobs)
    if "live" in given.only:
        told["live"], more = live(seeds, given.jobs)
        targets += more
    if given.draw:
        draw(given.draw, traced, mapped)
    emit("scheduling", told, targets)


if __name__ == "__main__":
    main()
