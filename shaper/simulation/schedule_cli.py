"""`shaper schedule`: simulate, compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shaper.errors import BadInput

if TYPE_CHECKING:
    from shaper.simulation.study import Study

app = typer.Typer(help="Moldable jobs that share a cluster, simulated: who gets how much.", no_args_is_help=True)

_TROUBLES = 10  # lines that are told one by one
_LOAD = "Instead of a trace: made-up sequence mapping that would keep so many processors busy, each job on one."

_METHOD = "dbos, lex, iterative, improved-iterative or eq-spt. Without one: lex, with a cap of a sixteenth of all."

_Trace = Annotated[
    Path | None,
    typer.Option(help="In the Standard Workload Format, or that compressed; its jobs are made moldable (Downey)."),
]
_Processors = Annotated[int, typer.Option(help="Of the machine.")]
_Jobs = Annotated[int | None, typer.Option(help="How many: the first of the trace. 5000; 2000 that are made up.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def simulate(
    trace: _Trace = None,
    load: Annotated[float | None, typer.Option(help=_LOAD)] = None,
    method: Annotated[str | None, typer.Option(help=_METHOD)] = None,
    rho: Annotated[float, typer.Option(help="Of dbos and lex: by how much deadlines are relaxed.")] = 1.5,
    cap: Annotated[int | None, typer.Option(help="Most processors of a job; none if a method is named.")] = None,
    processors: _Processors = 512,
    jobs: _Jobs = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn: curves, or the made-up jobs.")] = 0,
    replan: Annotated[str, typer.Option(help="Plan anew at `events`, or at `arrivals` only.")] = "events",
    as_json: _Json = False,
) -> None:
    """Run a trace through a machine under one method, and print how the jobs fared."""
    from shaper.scheduling import DEFAULT_METHOD, usual_cap
    from shaper.simulation.moldable import Rule, figures
    from shaper.simulation.study import Study

    if replan not in ("events", "arrivals"):
        raise BadInput(f"replan must be 'events' or 'arrivals', got {replan!r}")
    if method is None:
        method, cap = DEFAULT_METHOD, cap if cap is not None else usual_cap(processors)
    rule = Rule(method, rho, cap, "arrivals" if replan == "arrivals" else "events")
    loads = [load] if load is not None else []
    study = Study(trace, loads, processors=processors, count=jobs, seeds=[seed])
    _tell_troubles(study)
    (fared,) = study.run(rule)
    settings = {"method": method, "rho": rho, "cap": cap, "replan": replan, "processors": processors, "seed": seed}
    told = {**settings, "load": load, **study.about(), **figures(fared, study.bounds_s)}
    if as_json:
        print(json.dumps(told))
        return
    for key, value in told.items():
        if value is not None and not isinstance(value, list):
            print(f"{key:>22}  {value:.4g}" if isinstance(value, float) else f"{key:>22}  {value}")
    for one in told["classes"]:
        print(f"{one['name'] + ' s':>22}  {one['share_above_1']:.1%} of {one['jobs']} with a stretch above 1")


@app.command()
def compare(
    trace: _Trace = None,
    load: Annotated[list[float] | None, typer.Option(help=f"{_LOAD} May be repeated.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="METHOD[:RHO[:CAP]], like dbos:1.5:32. May be repeated.")
    ] = None,
    processors: _Processors = 512,
    jobs: _Jobs = None,
    seeds: Annotated[int, typer.Option(help="How often; all are pooled.")] = 1,
    page: Annotated[Path | None, typer.Option(help="Write the plots to this HTML file.")] = None,
    as_json: _Json = False,
) -> None:
    """Run the same jobs under several methods; print a table, draw the curves of the source slides."""
    from shaper.scheduling import DEFAULT_METHOD, usual_cap
    from shaper.simulation.moldable import Rule, figures
    from shaper.simulation.schedule_plots import drawn
    from shaper.simulation.study import Study

    if page is not None and not page.parent.is_dir():
        raise BadInput(f"there is no directory {page.parent} for the page")
    if page is not None and page.is_dir():
        raise BadInput(f"the page must be a file, and {page} is a directory")
    study = Study(trace, load or [], processors=processors, count=jobs, seeds=range(seeds))
    usual = ("iterative", "eq-spt", "dbos:1", "dbos:1.5", f"{DEFAULT_METHOD}:1.5:{usual_cap(processors)}")
    rules: dict[str, Rule] = {}
    for rule in map(Rule.parse, method or usual):
        if str(rule) in rules:
            raise BadInput(f"two methods are {rule}: name each once")
        rules[str(rule)] = rule
    _tell_troubles(study)
    found = {}
    for name, rule in rules.items():
        print(f"{name} ...", file=sys.stderr)
        found[name] = study.run(rule)
    rows = [
        {"method": name, "load": at, **figures(fared, study.bounds_s)}
        for name, by_load in found.items()
        for at, fared in zip(study.loads, by_load, strict=True)
    ]
    if as_json:
        print(json.dumps({"processors": processors, "seeds": seeds, **study.about(), "rows": rows}))
    else:
        _print_table(rows)
    if page is not None:
        try:
            page.write_text(drawn(study, found), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"the page {page} cannot be written: {error.strerror}") from error
        print(f"plots: {page}", file=sys.stderr)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"{'method':<24} {'load':>6} {'stretch':>9} {'max':>9} {'above 1':>8} {'flow s':>9} {'max':>9}")
    for row in rows:
        at_load = "" if row["load"] is None else f"{row['load']:g}"
        print(
            f"{row['method']:<24} {at_load:>6} {row['average_stretch']:>9.3g} {row['max_stretch']:>9.4g} "
            f"{row['share_above_1']:>8.1%} {row['average_flow_s']:>9.3g} {row['max_flow_s']:>9.3g}"
        )


def _tell_troubles(study: Study) -> None:
    troubles = study.trace.troubles if study.trace is not None else ()
    for line in troubles[:_TROUBLES]:
        print(f"{study.name}: {line}; left out", file=sys.stderr)
    if len(troubles) > _TROUBLES:
        print(f"{study.name}: {len(troubles) - _TROUBLES} more such lines", file=sys.stderr)
