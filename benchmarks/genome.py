"""The 1000-genome workflow, cold and then warm, against every stage cut into a fixed number of tasks.

    python -m benchmarks.genome [--quick] [--only real,simulated] [--rounds 5] [--data DIR] [--jobs 2]

A fixed s cuts every stage into s tasks and runs at most s of a stage at once: s from 1 to 8, and as many as there are
cores. `cold` is Adaptive with an empty history, `warm` the run after it, each with the goal that is measured. All
settings run in every round, in another order each time; what is compared is medians over the rounds, in the simulator
over seeds.

    makespan   until everything is processed and merged
    cost       T sqrt(s), summed over the stages of the workflow

where s is how many of a stage's tasks run, instant by instant (at least one, from the start of its first to the end of
its last): a wave of s equal tasks costs T sqrt(s), and a stage that runs at several parallelisms is charged for each.

real         the example's generated data on the local engine with two cores
simulated    the same graph on 8, 64 and 512 cores in virtual time, with the costs of benchmarks/genome_costs.py; powers
             of two up to the cores are in the figures, as 1 to 8 say little about 512
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import shaper
from benchmarks.common import Target, emit, say, spread
from benchmarks.genome_costs import CLUSTERS, RUNS, Cluster
from examples.genome.generate import Settings, generate
from examples.genome.measure import CutInto
from examples.genome.workflow import STAGES, Workflow
from shaper import Stage
from shaper.engines import Simulated
from shaper.policy import Adaptive, Policy
from shaper.policy.settings import Goal
from shaper.types import Chunk, Observation, ResultLost, Task, Usage

GOALS: tuple[Goal, ...] = ("makespan", "cost")
BOUNDS = {"warm": 1.05, "cold": 1.10}
MOST_FIXED = 8
REAL_CORES, REAL_LINES = 2, 40_000
# Seed of the earlier run that a warm one begins with: the same files, other noise.
EARLIER = 1000


class Ran(NamedTuple):
    """An attempt at a processing task that ran."""

    stage: str
    started_s: float
    finished_s: float


class Outcome(NamedTuple):
    """What a run came to."""

    makespan_s: float
    cost: float
    costs: Mapping[str, float]  # by stage


def cost(attempts: Iterable[Ran]) -> float:
    """Seconds of one stage, each times the root of how many of its tasks ran."""
    changes = sorted(change for one in attempts for change in ((one.started_s, 1), (one.finished_s, -1)))
    total, running, since_s = 0.0, 0, changes[0][0]
    for at_s, change in changes:
        total += (at_s - since_s) * math.sqrt(max(1, running))
        running, since_s = running + change, at_s
    return total


def outcome(makespan_s: float, attempts: Iterable[Ran]) -> Outcome:
    """Add up a run."""
    by_stage: dict[str, list[Ran]] = defaultdict(list)
    for one in attempts:
        if one.stage in STAGES:
            by_stage[one.stage].append(one)
    costs = {stage: cost(mine) for stage, mine in by_stage.items()}
    return Outcome(makespan_s, sum(costs.values()), costs)


# -- real ----------------------------------------------------------------------------------------------------------


def really(work: Workflow, policy: Policy, history: Path | bool) -> Outcome:
    """One run on the local engine."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"cores": REAL_CORES, "progress": False, "run_dir": Path(folder) / "run"}
        report = shaper.run(work.stages(), policy=policy, name="benchmark", history=history, **options).report
        attempts = [
            Ran(row["stage"], row["started_s"], row["finished_s"])
            for row in report.timeline
            if row["work"] == "process" and row["started_s"] is not None
        ]
        return outcome(report.makespan_s, attempts)


def real(rounds: int, lines: int, data: Path) -> dict[str, Any]:
    """All settings on this machine."""
    import sqlalchemy  # noqa: F401 - without it nothing is remembered, and warm would be cold

    files = generate(Settings(variants=lines, chromosomes=1), data)
    work = Workflow(files.genotypes, files.annotations, files.populations, runs=RUNS)
    fixed = {f"s = {s}": s for s in {*range(1, MOST_FIXED + 1), REAL_CORES}}
    settings: list[str] = [*fixed, *GOALS]
    seen: dict[str, list[Outcome]] = defaultdict(list)
    rng = random.Random(0)
    for number in range(rounds):
        rng.shuffle(settings)
        for label in settings:
            if label in fixed:
                seen[label].append(really(work, CutInto({}, others=fixed[label]), history=False))
                continue
            with tempfile.TemporaryDirectory() as folder:
                for state in ("cold", "warm"):
                    policy = Adaptive(goal=label)  # type: ignore[arg-type]
                    seen[f"{label} {state}"].append(really(work, policy, Path(folder) / "history.sqlite"))
        say(
            f"round {number + 1}: "
            + ", ".join(f"{label} {found[-1].makespan_s:.1f} s" for label, found in seen.items())
        )
    return compared(seen, list(fixed))


# -- simulated -----------------------------------------------------------------------------------------------------


class Noting(Simulated):
    """The simulated engine, which notes the processing tasks that ran."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.ran: list[Ran] = []
        super().__init__(*args, **options)

    def wait(self, timeout_s: float) -> Sequence[Observation | ResultLost]:
        seen = super().wait(timeout_s)
        for one in seen:
            if isinstance(one, Observation) and one.started_s is not None and isinstance(one.task.work, Chunk):
                self.ran.append(Ran(one.task.stage, one.started_s, one.finished_s))
        return seen


def simulated(
    cluster: Cluster, policy: Policy, seed: int, earlier: shaper.Result | None = None
) -> tuple[Outcome, shaper.Result]:
    """One run in virtual time."""
    worlds = cluster.worlds(seed)

    def cost_of(task: Task, rng: Any) -> Usage:
        return worlds[task.stage].cost(task, rng)

    engine = Noting(cluster.workers, cost_of, seed, **cluster.engine_options)
    stages = [Stage(name, drawn.sources, after=drawn.after) for name, drawn in worlds.items()]
    result = shaper.run(stages, engine=engine, policy=policy, warm_start=earlier)
    return outcome(result.report.makespan_s, engine.ran), result


def one_seed(cluster: Cluster, seed: int) -> dict[str, Outcome]:
    """All settings with one seed."""
    seen = {}
    for s in fixed_of(cluster.cores):
        seen[f"s = {s}"] = simulated(cluster, CutInto({}, others=s), seed)[0]
    for goal in GOALS:
        seen[f"{goal} cold"] = simulated(cluster, Adaptive(goal=goal), seed)[0]
        earlier = simulated(cluster, Adaptive(goal=goal), EARLIER + seed)[1]
        seen[f"{goal} warm"] = simulated(cluster, Adaptive(goal=goal), seed, earlier)[0]
    return seen


def fixed_of(cores: int) -> list[int]:
    """Every s that is run: 1 to 8, and powers of two up to the cores."""
    return sorted({*range(1, MOST_FIXED + 1), *(2**n for n in range(cores.bit_length())), cores})


def clusters(seeds: int, jobs: int, some: Sequence[Cluster]) -> dict[str, Any]:
    """All settings on every cluster."""
    found = {}
    for cluster in some:
        seen: dict[str, list[Outcome]] = defaultdict(list)
        with multiprocessing.get_context("spawn").Pool(min(jobs, seeds)) as pool:
            for row in pool.imap(partial(one_seed, cluster), range(seeds)):
                for label, one in row.items():
                    seen[label].append(one)
        fixed = [f"s = {s}" for s in {*range(1, MOST_FIXED + 1), cluster.cores}]
        found[f"{cluster.cores} cores"] = compared(seen, fixed)
        say(f"{cluster.name}: {found[f'{cluster.cores} cores']['over_best_fixed']}")
    return found


# -- comparing -----------------------------------------------------------------------------------------------------


def compared(seen: Mapping[str, Sequence[Outcome]], fixed: Sequence[str]) -> dict[str, Any]:
    """Medians of all settings, and Adaptive's over those of the best fixed one."""
    figures: dict[str, Any] = {"over_best_fixed": {}, "over_best_of_all": {}, "best": {}}
    for goal in GOALS:
        values = {
            label: [one.makespan_s if goal == "makespan" else one.cost for one in of] for label, of in seen.items()
        }
        medians = {label: statistics.median(of) for label, of in values.items()}
        figures[goal] = {label: spread(of) for label, of in values.items()}
        best = min(fixed, key=medians.__getitem__)
        best_of_all = min((label for label in medians if label.startswith("s = ")), key=medians.__getitem__)
        figures["best"][goal] = [best, best_of_all]
        for state in BOUNDS:
            name = f"{goal} {state}"
            figures["over_best_fixed"][name] = round(medians[name] / medians[best], 4)
            figures["over_best_of_all"][name] = round(medians[name] / medians[best_of_all], 4)
    shown = [label for label in seen if label in fixed or label.startswith("cost")]
    figures["cost_by_stage"] = {
        stage: {label: round(statistics.median(one.costs[stage] for one in seen[label]), 3) for label in shown}
        for stage in STAGES
    }
    return figures


def targets(name: str, found: Sequence[Mapping[str, Any]]) -> list[Target]:
    """The bounds, on the worst of what was measured."""
    return [
        Target(
            f"{name}_{goal}_{state}_over_best_fixed_worst",
            max((one["over_best_fixed"][f"{goal} {state}"] for one in found), default=None),
            bound,
        )
        for goal in GOALS
        for state, bound in BOUNDS.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of half the lines, one seed, 8 and 64 cores")
    parser.add_argument("--only", default="real,simulated", help="parts, with commas [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, and seeds [%(default)s]")
    parser.add_argument("--data", type=Path, default=Path("demo-output/genome/benchmark"), help="generated files")
    parser.add_argument("--jobs", type=int, default=2, help="simulations side by side")
    given = parser.parse_args(argv)
    parts = given.only.split(",")
    if given.rounds < 1 or not set(parts) <= {"real", "simulated"}:
        parser.error("--rounds is at least 1, --only of real and simulated")
    rounds = 1 if given.quick else given.rounds
    figures: dict[str, Any] = {"quick": given.quick, "rounds": rounds}
    rows: list[Target] = []
    if "simulated" in parts:
        figures["simulated"] = clusters(rounds, given.jobs, CLUSTERS[:2] if given.quick else CLUSTERS)
        rows += targets("simulated", list(figures["simulated"].values()))
    if "real" in parts:
        lines = REAL_LINES // 2 if given.quick else REAL_LINES
        figures["real"] = real(rounds, lines, given.data / str(lines))
        rows += targets("real", [figures["real"]])
    emit("genome", figures, rows)


if __name__ == "__main__":
    main()
