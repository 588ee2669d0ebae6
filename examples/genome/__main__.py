"""Runs the 1000-genome workflow, says what people share, and measures what cutting its stages is worth.

python -m examples.genome                               on generated chromosomes like those of phase 3
python -m examples.genome --real                        on the slice of Debian's package shapeit4-example
python -m examples.genome --vcf chr22.vcf.gz --annotation chr22.annotation.vcf.gz --populations FOLDER
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import shaper
from examples import where
from examples.genome.generate import add_arguments
from examples.genome.individuals import samples_of
from examples.genome.inputs import inputs_of
from examples.genome.measure import Measured, learnt, measure
from examples.genome.workflow import Workflow
from shaper.errors import BadInput
from shaper.models import AmdahlGP, ParallelismModel

_MOST_TASKS = 8


def main(arguments: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    options = _parser().parse_args(arguments)
    return where.ended("genome", lambda: _run(options, Console(soft_wrap=True)))


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.repetitions < 1 or options.runs < 1 or options.draw < 2:
        raise BadInput("--repetitions and --runs must be at least 1, --draw at least 2")
    where.check(options)
    files = inputs_of(options, console)
    work = Workflow(files.genotypes, files.annotations, files.populations, options.draw, options.runs, options.seed)
    left_out = [name for name, columns in work.columns().items() if not columns]
    if left_out:
        console.print(f"left out: {', '.join(left_out)}, with fewer than {options.draw} samples in the files")
    started_s = time.perf_counter()
    values = shaper.run(work.stages(), name="genome", **where.given(options)).value
    wall_s = time.perf_counter() - started_s
    variants = sum(known.variants for known in values["individuals_merge"].values())
    print(f"{variants} variants of {len(samples_of(files.genotypes[0]))} people in {wall_s:.1f} s", file=sys.stderr)
    if values["mutation_overlap"] is None:
        console.print("no variant of the genotypes has a SIFT prediction: there is nothing to compare")
        return 0
    console.print(_table(work, values))
    measured = [] if options.no_measure else _measured(work, values, options)
    _draw(measured, values, options.out / "plots", console)
    return 0


def _table(work: Workflow, values: Mapping[str, Any]) -> Table:
    """What the people of each population share, over all chromosomes."""
    table = Table("population", title=f"Variants that may do harm, in groups of {work.draw}", title_justify="left")
    for name in ("people", "variants", "shared by two people", "in a group", "of them in one of it"):
        table.add_column(name, justify="right")
    frequencies = {**values.get("frequency_all", {}), **values.get("frequency", {})}
    for population, columns in sorted(work.columns().items(), key=lambda item: item[0] != "ALL"):
        if not columns:
            continue
        pairs = [found for (_, name), found in values["mutation_overlap"].items() if name == population]
        drawn = sum(found for (_, name), found in frequencies.items() if name == population) / work.runs
        shared = sum(np.average(np.arange(found.size), weights=found) for found in pairs)
        variants = sum(found.size - 1 for found in pairs)
        cells = [str(len(columns)), str(variants), f"{shared:.2f}", f"{drawn[1:].sum():.1f}", f"{drawn[1]:.1f}"]
        table.add_row(population, *cells)
    return table


def _measured(work: Workflow, values: Mapping[str, Any], options: argparse.Namespace) -> list[Measured]:
    cores = options.cores or len(os.sched_getaffinity(0))
    most = min(_MOST_TASKS, 2 * cores) if options.engine == "local" else _MOST_TASKS
    parallelism = range(1, most + 1)
    print(f"measuring every stage with 1 to {most} tasks, {options.repetitions} times", file=sys.stderr)
    given = {name: value for name, value in where.given(options).items() if name != "run_dir"}
    given["history"] = False  # cut by hand: no example to later runs
    return measure(work, values, parallelism, options.repetitions, progress=False, **given)


def _draw(measured: list[Measured], values: Mapping[str, Any], folder: Path, console: Console) -> None:
    try:
        from examples.genome import plots
    except ImportError as error:
        console.print(f"no figures: {error}; pip install shaper\\[plots]")
        return
    drawn = [plots.draw_shared(values["mutation_overlap"], folder)]
    if measured:
        models = learnt(measured, ParallelismModel())
        drawn += plots.draw_all(measured, models, learnt(measured, AmdahlGP()), folder)
        console.print("into how many tasks a stage is worth cutting, by the default model:")
        for stage in sorted(models, key=list(plots.COLORS).index):
            choice = models[stage].choose(1.0, plots.load_of(stage, measured), max(one.run.s for one in measured))
            console.print(f"{stage}: s = {choice.s}, {choice.reason}")
    more = f"{len(drawn)} figures, for instance" if len(drawn) > 1 else "a figure:"
    console.print(f"{more} {folder / drawn[-1].name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.genome", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = Path("demo-output/genome")
    add_arguments(parser)
    parser.add_argument("--data", type=Path, default=out / "data", help="generated files [%(default)s]")
    parser.add_argument("--out", type=Path, default=out, help="figures [%(default)s]")
    parser.add_argument("--real", action="store_true", help="the slice of shapeit4-example instead of generated files")
    parser.add_argument("--vcf", type=Path, nargs="+", metavar="FILE", help="genotypes, one chromosome each")
    parser.add_argument("--annotation", type=Path, nargs="+", metavar="FILE", help="one for each of --vcf")
    parser.add_argument("--populations", type=Path, metavar="FOLDER", help="a file of names for each population")
    parser.add_argument("--draw", type=int, default=52, help="people in a random group [%(default)s]")
    parser.add_argument("--runs", type=int, default=1000, help="random groups per population [%(default)s]")
    where.add_arguments(parser)
    parser.add_argument("--no-measure", action="store_true", help="run the workflow only")
    parser.add_argument("--repetitions", type=int, default=3, help="of every measurement [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
