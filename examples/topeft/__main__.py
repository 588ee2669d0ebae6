"""Runs the TopEFT-like analysis: generates its data once, fills the histograms, prints yields and draws plots.

python -m examples.topeft                               on generated data, with shaper
python -m examples.topeft --executor futures --chunksize 50000
python -m examples.topeft --input nano.root             on any NanoAOD file
python -m examples.topeft --evaluate --point ctZ=-2     the last histograms at another point
"""

from __future__ import annotations

import argparse
import pickle
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uproot
from coffea.processor import FuturesExecutor, IterativeExecutor, Runner
from rich.console import Console
from rich.table import Table

from examples import where
from examples.topeft.evaluation import parse_point, yields
from examples.topeft.generate import Settings, add_arguments, generate
from examples.topeft.plots import Caption, draw_all
from examples.topeft.processor import SYSTEMATICS, QuietNanoAODSchema, TopEFTProcessor
from examples.topeft.samples import LUMINOSITY_PER_FB
from shaper.errors import BadInput
from shaper.units import parse_bytes

DEMO_POINT = "ctW=-2,cpQM=1.5"
TREE = "Events"
WHOLE_FILE = 10**9  # events: shaper cuts files anew, so it is handed whole ones


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is analysed.

    Args:
        fileset: as coffea's Runner takes it.
        coefficients: that the files must have; None takes what they have.
        normalisation: what the plots say of it.
    """

    fileset: dict[str, dict[str, Any]]
    coefficients: int | None
    normalisation: str


def main(arguments: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    options = _parser().parse_args(arguments)
    return where.ended("topeft", lambda: _run(options, Console(soft_wrap=True)))


def _run(options: argparse.Namespace, console: Console) -> int:
    saved = options.out / "histograms.pkl"
    if options.evaluate:
        if not saved.is_file():
            raise BadInput(f"{saved} does not exist: run once without --evaluate")
        try:
            content = pickle.loads(saved.read_bytes())
        except (pickle.UnpicklingError, EOFError) as error:
            raise BadInput(f"{saved}: it is damaged: run once without --evaluate") from error
    else:
        where.writable(options.out)
        executor, chunksize = _executor(options)  # a wrong option is told before anything is generated
        inputs = _inputs(options, console)
        content = {"normalisation": inputs.normalisation, "output": _process(inputs, executor, chunksize, options)}
        saved.write_bytes(pickle.dumps(content))
    _show(content, options, console)
    return 0


def _process(inputs: Inputs, executor: Any, chunksize: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the processor's output and say what it cost."""
    systematics = () if options.no_systematics else SYSTEMATICS
    processor = TopEFTProcessor(inputs.coefficients, errors=options.errors, systematics=systematics)
    run = Runner(executor=executor, schema=QuietNanoAODSchema, chunksize=chunksize)
    started_s, before_s = time.perf_counter(), _cpu_s()
    output: dict[str, Any] = run(inputs.fileset, processor)
    wall_s, cpu_s = time.perf_counter() - started_s, _cpu_s() - before_s
    events = sum(output["events"].values())
    print(
        f"{events} events in {wall_s:.1f} s of wall time and {cpu_s:.1f} s of CPU time, "
        f"{1e5 * cpu_s / max(events, 1):.2f} CPU s per 100k events",
        file=sys.stderr,
    )
    return output


def _executor(options: argparse.Namespace) -> tuple[Any, int]:
    """Return the executor, and the chunksize to give to Runner."""
    if options.chunksize is not None and options.chunksize < 1:
        raise BadInput(f"--chunksize must be at least 1, got {options.chunksize}")
    if options.workers is not None and options.workers < 1:
        raise BadInput(f"--workers must be at least 1, got {options.workers}")
    if options.executor == "shaper":
        from shaper.coffea import ShaperExecutor
        from shaper.policy import Adaptive

        if options.memory is not None:
            parse_bytes(options.memory, "--memory")
        policy = Adaptive(first_guess=options.chunksize)
        given = {"cores": options.workers, "memory": options.memory, "run_dir": options.run_dir}
        given = {name: value for name, value in given.items() if value is not None}
        # It shows how sizes are found: it would not where an earlier one had found them.
        return ShaperExecutor(policy=policy, history=options.history or False, **given), WHOLE_FILE
    if options.memory is not None or options.run_dir is not None or options.history is not None:
        raise BadInput("--memory, --run-dir and --history need --executor shaper: coffea's own executors have none")
    chunksize = options.chunksize or 100_000
    if options.executor == "futures":
        return FuturesExecutor(workers=options.workers or 2), chunksize
    return IterativeExecutor(), chunksize


def _inputs(options: argparse.Namespace, console: Console) -> Inputs:
    if options.input:
        fileset: dict[str, dict[str, Any]] = {}
        for path in options.input:
            _check(path)
            name = path.stem
            while name in fileset:
                name += "'"
            fileset[name] = {"files": {str(path.resolve()): TREE}, "metadata": {"process": name}}
        return Inputs(fileset, None, "generator weights")
    settings = Settings(options.events, options.files, options.coefficients, options.seed)
    parse_point(options.point or "", settings.coefficients)  # else it is told after the run
    with console.status(f"{settings.events} events in {settings.files} files (generated once, kept in {options.data})"):
        manifest = generate(settings, options.data)
    return Inputs(manifest.fileset(), settings.coefficients, f"{LUMINOSITY_PER_FB:.0f} fb$^{{-1}}$ (13 TeV)")


def _check(path: Path) -> None:
    """Raise for a file that is no NanoAOD file, naming it."""
    if not path.is_file():
        raise BadInput(f"--input {path}: no such file")
    try:
        with uproot.open(path) as root:
            branches = set(root[TREE].keys())
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"--input {path}: not a ROOT file with a tree {TREE!r}") from error
    missing = {"run", "luminosityBlock", "event", "Electron_pt", "Muon_pt", "Jet_pt", "MET_pt"} - branches
    if missing:
        raise BadInput(f"--input {path}: not NanoAOD, it has no branch {', '.join(sorted(missing))}")


def _show(content: dict[str, Any], options: argparse.Namespace, console: Console) -> None:
    """Print the yields and draw the plots."""
    histograms = content["output"]["histograms"]
    first = next(iter(histograms.values()))
    demo_point = DEMO_POINT if first.coefficients >= 4 else ""  # the first four have its two names
    text = options.point if options.point is not None else demo_point
    point = parse_point(text, first.coefficients)
    rows = list(yields(first, point))
    if not rows:
        console.print("no event passes the selection: nothing to draw")
        return
    table = Table("channel", "jets", title="Signal region", title_justify="left")
    for name in ("SM", "uncertainty", *([text] if text else []), *(["/ SM"] if text else [])):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row.channel, row.jets, f"{row.total:.1f}", f"{row.uncertainty:.1f}"]
        ratio = f"{row.at_point / row.total:.2f}" if row.total else "-"
        table.add_row(*cells, *([f"{row.at_point:.1f}", ratio] if text else []))
    console.print(table)
    caption = Caption(text.replace(",", ", ").replace("=", " = "), content["normalisation"])
    drawn = draw_all(histograms, point, caption, options.out / "plots")
    console.print(f"{len(drawn)} plots in {options.out / 'plots'}, for instance {drawn[0].name}")


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.topeft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--data", type=Path, default=Path("demo-output/data"), help="generated files [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="histograms and plots [%(default)s]")
    parser.add_argument("--input", type=Path, nargs="+", metavar="FILE", help="NanoAOD files instead of generated ones")
    parser.add_argument("--point", help=f"coefficients to compare with the standard model [{DEMO_POINT}]")
    parser.add_argument("--evaluate", action="store_true", help="use the histograms of the last run, process nothing")
    parser.add_argument("--errors", action="store_true", help="variances at every point: much more memory")
    parser.add_argument("--no-systematics", action="store_true", help="fill nominal histograms only")
    parser.add_argument("--executor", choices=("shaper", "futures", "iterative"), default="shaper")
    parser.add_argument("--chunksize", type=int, help="events; with shaper a first guess, not needed")
    parser.add_argument("--workers", type=int, help="cores to use [shaper: all; futures: 2]")
    parser.add_argument("--memory", metavar="SIZE", help="that shaper may use, like 4GB [the machine's]")
    parser.add_argument("--run-dir", type=Path, help="of shaper's run; the same one again resumes it")
    parser.add_argument("--history", metavar="FILE", help="begin with what earlier runs have left there [with nothing]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
