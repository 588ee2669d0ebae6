"""What tasks of the 1000-genome workflow cost, measured, and whole chromosomes made of that for the simulator.

    python -m benchmarks.genome_costs [--data DIR] [--repetitions 5]

runs the example with every stage cut into 1 to 16 tasks, one after the other on one core, and prints COSTS. Times are
CPU times of whole attempts: tasks hardly wait, and a machine that does other things as well says the same.

    wall   = (F + o k + w n) f              k sources opened, n elements; f: log-normal noise
    memory = A + B m                        m elements of its largest source: one after the other is worked on

`o` and `w` of `count` and `individuals_merge`, and B of the latter, grow with the lines of a chromosome: they were
measured with LINES of them. A chromosome's sifted variants are as many at any length: the example annotates a share
of 0.1, nature 0.005. What makes the dataset of a stage is left out: it takes the same under every policy.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import shaper
from benchmarks.common import machine, say
from examples.genome.generate import Settings, generate
from examples.genome.measure import CutInto
from examples.genome.workflow import AFTER, STAGES, Workflow
from shaper.engines import WorkerSpec
from shaper.types import Merge, Source, Task, Usage
from shaper.units import MIB

LINES, SAMPLES, BLOCK, RUNS = 60_000, 2_504, 256, 1_000
POPULATIONS = {"AFR": 661, "AMR": 347, "EAS": 504, "EUR": 503, "SAS": 489, "GBR": 91}
CUTS = (1, 2, 3, 5, 8, 16)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a task costs.

    Args:
        fixed_s, open_s, element_s: F, o and w.
        noise: standard deviation of the logarithm of the time.
        memory_mib, mib_per_element: A and B.
        bytes_per_element: of the result.
        merge_s, merge_s_per_mib: of a merge, by the size of what is merged.
    """

    fixed_s: float
    open_s: float
    element_s: float
    noise: float
    memory_mib: float
    mib_per_element: float
    bytes_per_element: float
    merge_s: float
    merge_s_per_mib: float

    def longer(self, times: float) -> Cost:
        """The same for chromosomes so many times longer, where tasks are about files or samples."""
        return replace(
            self,
            open_s=self.open_s * times,
            element_s=self.element_s * times,
            mib_per_element=self.mib_per_element * times,
            bytes_per_element=self.bytes_per_element * times,
        )


COSTS = {
    "count": Cost(0.0, 0.0, 0.405, 0.05, 29.4, 0.0654, 10700.0, 0.0111, 0.0),
    "individuals": Cost(0.027, 0.0, 3.43e-05, 0.0531, 40.3, 0.000961, 60.2, 0.00984, 0.000904),
    "individuals_merge": Cost(0.00515, 0.0, 0.000456, 0.154, 32.8, 0.15, 2490.0, 0.00528, 0.00207),
    "sifting": Cost(0.0114, 0.0, 9.74e-07, 0.176, 29.3, 7.22e-05, 6.28, 0.0113, 0.0405),
    "mutation_overlap": Cost(0.00806, 0.0, 2.28e-07, 0.19, 55.6, 7.36e-05, 0.0684, 0.00726, 0.0),
    "frequency_all": Cost(0.0133, 0.0, 0.000196, 0.0592, 43.6, 0.0051, 3.31, 0.00622, 0.0),
    "frequency": Cost(0.00114, 0.0, 8.21e-05, 0.107, 33.0, 0.00119, 0.871, 0.00631, 0.0),
}


@dataclass(frozen=True)
class Drawn:
    """One stage of the workflow, for the simulator."""

    category: str
    sources: tuple[Source, ...]
    after: tuple[str, ...]
    of: Cost
    read_bytes: float = 0.0

    @property
    def pure_core_s(self) -> float:
        """Core-seconds of the elements alone."""
        return self.of.element_s * sum(source.elements or 0 for source in self.sources)

    def cost(self, task: Task, rng: Any) -> Usage:
        """What an attempt would use if it were not limited."""
        work, of = task.work, self.of
        noise = math.exp(of.noise * rng.standard_normal())
        result_bytes = round(of.bytes_per_element * work.elements)
        if isinstance(work, Merge):
            read_mib = (work.input_bytes or 0) / MIB
            wall_s = (of.merge_s + of.merge_s_per_mib * read_mib) * noise
            return Usage(wall_s, wall_s, memory_mib=of.memory_mib + 2.0 * read_mib, result_bytes=result_bytes)
        wall_s = (of.fixed_s + of.open_s * len(work.spans) + of.element_s * work.elements) * noise
        memory_mib = of.memory_mib + of.mib_per_element * max(span.stop - span.start for span in work.spans)
        return Usage(wall_s, wall_s, memory_mib=memory_mib, result_bytes=result_bytes)


@dataclass(frozen=True)
class Cluster:
    """The workflow on a cluster: a case for `shaper.simulation`.

    Args:
        cores: in workers of 8, each with 32 GB.
        chromosomes, lines: of the input; files of that many lines each.
    """

    cores: int
    chromosomes: int
    lines: int
    bandwidth: float | None = None

    @property
    def name(self) -> str:
        """For figures."""
        return f"genome on {self.cores} cores"

    @property
    def workers(self) -> tuple[WorkerSpec, ...]:
        """All there from the beginning."""
        return (WorkerSpec(8, 32_000, self.cores // 8),)

    @property
    def engine_options(self) -> Mapping[str, Any]:
        """The manager starts one task after the other."""
        return {"dispatch_s": DISPATCH_S}

    def worlds(self, seed: int) -> Mapping[str, Drawn]:
        """The stages; seeds differ in the noise of tasks alone."""
        names = [str(number) for number in range(1, self.chromosomes + 1)]
        times = self.lines / LINES
        people = {"ALL": SAMPLES, **POPULATIONS}
        blocks = range(0, SAMPLES, BLOCK)
        sources = {
            "count": [Source(f"{kind} {name}", 1) for name in names for kind in ("genotypes", "annotations")],
            "individuals": [Source(f"chr{name}", self.lines, group=name) for name in names],
            "individuals_merge": [
                Source(f"{name}, samples from {first}", min(BLOCK, SAMPLES - first), first, group=name)
                for name in names
                for first in blocks
            ],
            "sifting": [Source(f"chr{name} annotation", self.lines, group=name) for name in names],
            "mutation_overlap": [
                Source(f"{of} in {name}", n * (n - 1) // 2) for name in names for of, n in people.items()
            ],
            "frequency_all": [Source(f"ALL in {name}", RUNS) for name in names],
            "frequency": [Source(f"{of} in {name}", RUNS) for name in names for of in POPULATIONS],
        }
        costs = {
            **COSTS,
            **{stage: COSTS[stage].longer(times) for stage in ("count", "individuals_merge")},
            "sifting": replace(COSTS["sifting"], bytes_per_element=COSTS["sifting"].bytes_per_element / times),
        }
        return {stage: Drawn(stage, tuple(sources[stage]), AFTER[stage], costs[stage]) for stage in STAGES}


# Work Queue and TaskVine start 400 to 480 commands per second: docs/engines.md.
DISPATCH_S = 0.0023
# About chromosome 22 of phase 3; eight like it; about all of phase 3.
CLUSTERS = (Cluster(8, 1, 1_200_000), Cluster(64, 8, 1_200_000), Cluster(512, 22, 3_600_000))


# -- measuring -----------------------------------------------------------------------------------------------------


def measured(data: Path, repetitions: int) -> dict[str, Cost]:
    """Run the example and fit what tasks of each stage cost."""
    files = generate(Settings(variants=LINES, chromosomes=1), data)
    work = Workflow(files.genotypes, files.annotations, files.populations, runs=RUNS)
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    order, rng = list(CUTS), random.Random(0)
    for _ in range(repetitions):
        rng.shuffle(order)
        for s in order:
            with tempfile.TemporaryDirectory() as folder:
                cut = CutInto({}, others=s)
                options: dict[str, Any] = {"engine": "local", "cores": 1, "progress": False, "history": False}
                found = shaper.run(work.stages(), policy=cut, run_dir=Path(folder) / "run", **options)
                for row in found.report.timeline:
                    if row["outcome"] == "done" and row["stage"] in STAGES:
                        rows[row["stage"], row["work"]].append(row)
                say(f"cut into {s}: {found.report.makespan_s:.1f} s")
    return {stage: _cost(rows[stage, "process"], rows[stage, "merge"]) for stage in STAGES}


def _cost(tasks: Sequence[Mapping[str, Any]], merges: Sequence[Mapping[str, Any]]) -> Cost:
    walls_s = _least(tasks)
    pieces = list({row["what"]: row for row in tasks}.values())
    wall_s = [walls_s[row["what"], row["elements"]] for row in pieces]
    elements = [row["elements"] for row in pieces]
    opened = [_opened(row["what"]) for row in pieces]
    fixed_s, open_s, element_s = _line(wall_s, opened, elements)
    if max(elements) == len(set(elements)):  # files, whole: of two kinds, of which the mean counts
        fixed_s, open_s, element_s = 0.0, 0.0, sum(wall_s) / sum(elements)
    memory_mib, mib = _line([row["used"]["memory_mib"] for row in pieces], np.array(elements) / np.maximum(1, opened))
    expected = np.array([fixed_s + open_s * k + element_s * n for k, n in zip(opened, elements, strict=True)])
    misses = np.log(np.array(wall_s) / expected)
    noise = float(np.median(np.abs(misses - np.median(misses))) * 1.4826) if open_s or fixed_s else 0.05
    result = sum(row["used"]["result_bytes"] for row in tasks) / sum(row["elements"] for row in tasks)
    merge_s, per_mib = 0.0, 0.0
    if merges:
        read_mib = [row["input_bytes"] / MIB for row in merges]
        merge_s, per_mib = _line([row["used"]["cpu_s"] for row in merges], read_mib)
    figures = (fixed_s, open_s, element_s, noise, memory_mib, mib, result, merge_s, per_mib)
    return Cost(*(float(f"{figure:.3g}") for figure in figures))


def _least(tasks: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
    """The least CPU time of each piece over the repetitions: what else the machine does is no part of it."""
    least: dict[tuple[str, int], float] = {}
    for row in tasks:
        piece = row["what"], row["elements"]
        least[piece] = min(least.get(piece, math.inf), row["used"]["cpu_s"])
    return least


def _opened(what: str) -> int:
    """How many spans a task had, from its words."""
    return 1 + int(what.split(" and ")[-1].split()[0]) if what.endswith(" more") else 1


def _line(values: Sequence[float], *columns: Any) -> list[float]:
    """A constant and factors of columns, none negative, of the least squares of relative errors."""
    from scipy.optimize import nnls

    matrix = np.column_stack([np.ones(len(values)), *columns])
    told = np.array([True, *(len(set(column)) > 1 for column in columns)])  # the others are part of the constant
    per = 1.0 / np.array(values)
    found = np.zeros(len(told))
    found[told] = nnls(matrix[:, told] * per[:, None], np.ones(len(values)))[0]
    return [float(number) for number in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("demo-output/genome/benchmark"), help="generated files")
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    found = measured(given.data, given.repetitions)
    for stage, cost in found.items():
        say(f'    "{stage}": Cost({", ".join(str(value) for value in asdict(cost).values())}),')
    print(json.dumps({"machine": machine(), "costs": {stage: asdict(cost) for stage, cost in found.items()}}))


if __name__ == "__main__":
    main()
