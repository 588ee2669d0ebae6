"""`shaper workers`: start, status, stop."""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from shaper.engines import managers, password
from shaper.errors import BadInput, SiteError
from shaper.policy.scaling import Bounds
from shaper.units import parse_mib, parse_seconds, show_mib
from shaper.workers import scalers, watch
from shaper.workers.plan import Plan, Site, script
from shaper.workers.pool import Pool, too_many
from shaper.workers.scaler import Scaler

app = typer.Typer(help="Workers of Work Queue and TaskVine: start them, count them, end them.", no_args_is_help=True)

_Manager = Annotated[
    str | None, typer.Option(help="HOST:PORT, or the manager's name; by default the one that runs on this account.")
]


@app.command()
def start(  # the words of dask-jobqueue
    manager: _Manager = None,
    engine: Annotated[str | None, typer.Option(help="workqueue or taskvine; by default that of the manager.")] = None,
    batch: Annotated[str, typer.Option(help="Where: local, slurm, condor, sge or pbs.")] = "local",
    count: Annotated[int | None, typer.Option(help="How many; 1 by default.")] = None,
    least: Annotated[int, typer.Option("--min", help="With --max: at least so many, whatever is wanted.")] = 0,
    most: Annotated[
        int | None, typer.Option("--max", help="Stay, and keep as many as the run can use, at most so many.")
    ] = None,
    hold: Annotated[str, typer.Option(help="With --max: let workers go once fewer were wanted for so long.")] = "30s",
    patience: Annotated[
        str, typer.Option(help="With --max: without a manager for so long, end; a resumed run has one again.")
    ] = "30s",
    advise: Annotated[
        bool, typer.Option("--advise", help="Start nothing: say which workers would finish the run when, at what cost.")
    ] = False,
    run_dir: Annotated[
        Path | None, typer.Option("--run", help="With --advise: a past run; by default the one that goes on.")
    ] = None,
    cores: Annotated[int | None, typer.Option(help="Cores of each; 1 by default.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of each, like 8GB; 2GB by default.")] = None,
    disk: Annotated[str | None, typer.Option(help="Disk of each, like 20GB.")] = None,
    queue: Annotated[str | None, typer.Option(help="Queue or partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account to charge.")] = None,
    walltime: Annotated[str | None, typer.Option(help="Like 04:00:00.")] = None,
    job_extra_directives: Annotated[
        list[str] | None, typer.Option(help="A directive more, without its prefix.")
    ] = None,
    job_script_prologue: Annotated[list[str] | None, typer.Option(help="A shell line before the worker.")] = None,
    local_directory: Annotated[str | None, typer.Option(help="Where workers keep their files.")] = None,
    log_directory: Annotated[str | None, typer.Option(help="Where the batch system writes what they print.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="By default that of the manager.")] = None,
    environment: Annotated[
        Path | None,
        typer.Option(help="Start them in this environment, a tarball of `shaper env pack`; by default the manager's."),
    ] = None,
    ssl: Annotated[bool, typer.Option("--ssl", help="The manager wants encryption (TaskVine).")] = False,
    idle_timeout: Annotated[int, typer.Option(help="Seconds without a manager or work after which they end.")] = 900,
    print_script: Annotated[bool, typer.Option("--print-script", help="Show what would be handed in.")] = False,
) -> None:
    """Start workers for a manager; with --max stay and scale them, with --advise only say which to start."""
    if run_dir is not None and not advise:
        raise BadInput("--run is for --advise")
    if advise:
        if count is not None or most is not None or least:
            raise BadInput("--advise is a question and starts nothing: leave --count, --min and --max out")
        _advise(run_dir, manager, cores, memory)
        return
    if most is None and least:
        raise BadInput("--min needs --max")
    if most is not None and count is not None:
        raise BadInput("either --count, or --min and --max")
    known = _known(manager)
    if known is None and engine is None:
        raise BadInput("--engine is needed: workqueue or taskvine")
    if environment is None and known is not None and known.environment is not None:
        environment = Path(known.environment)
    if environment is not None and not environment.is_file():
        raise BadInput(f"environment {environment} is not a file")
    secret = password_file or (Path(known.password_file) if known is not None and known.password_file else None)
    plan = Plan(
        engine or (known.engine if known is not None else ""),
        manager or (known.address if known is not None else ""),
        batch,
        cores if cores is not None else 1,
        parse_mib(memory if memory is not None else "2GB", "memory"),
        parse_mib(disk, "disk") if disk is not None else None,
        secret if secret is not None or known is not None else password.of(),
        ssl or (known.ssl if known is not None else False),
        idle_timeout,
        Site(
            queue,
            account,
            walltime,
            tuple(job_extra_directives or ()),
            tuple(job_script_prologue or ()),
            local_directory,
            log_directory,
        ),
        environment.absolute() if environment is not None else None,
    )
    if print_script:
        print(script(plan), end="")
        return
    if most is not None:
        bounds = Bounds(least, most, parse_seconds(hold, "hold"))
        _scale(plan, bounds, known, parse_seconds(patience, "patience"))
        return
    count = 1 if count is None else count
    if count < 1:
        raise BadInput(f"count must be at least 1, got {count}")
    pool = Pool(plan.manager)
    _warn(plan, count + len(pool.alive()))
    watched: list[watch.Watched] = []
    pool.start(plan, count, watched)
    ended = watch.ended(watched)
    if len(ended) < count:
        what = f"{count - len(ended)} worker{'s' if count - len(ended) > 1 else ''}"
        print(
            f"started {what} of {plan.cores} cores and {show_mib(plan.memory_mib)} for {plan.manager}", file=sys.stderr
        )
    if ended:
        pool.alive()  # forgets them
        reasons = " | ".join(dict.fromkeys(one.why for one in ended))
        raise SiteError(f"{len(ended)} of {count} workers ended as soon as they were started: {reasons}")


def _warn(plan: Plan, count: int) -> None:
    for line in too_many(plan, count) if plan.batch == "local" else ():
        print(f"shaper: {line}", file=sys.stderr)


def _scale(plan: Plan, bounds: Bounds, known: managers.Manager | None, patience_s: float) -> None:
    """Stay until there is no manager any more, or somebody says stop."""
    if known is None:
        raise BadInput(
            f"no manager at {plan.manager} is written down on this account: --min and --max need one that says what it "
            "wants; start the analysis first"
        )
    _warn(plan, bounds.most)
    scaler = Scaler(plan, bounds, known, patience_s, lambda line: print(line, flush=True))
    stopped = []

    def stop(number: int, frame: object) -> None:
        # A second one ends this at once.
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.default_int_handler)
        stopped.append(number)
        scaler.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with scalers.noted(scaler.pool, bounds):
        scaler.go()
    if stopped:
        raise KeyboardInterrupt


def _advise(run_dir: Path | None, manager: str | None, cores: int | None, memory: str | None) -> None:
    """Print which workers to start."""
    from shaper.simulation.offers import advise

    if memory is not None:
        parse_mib(memory, "memory")
    found = run_dir
    if found is None:
        known = _known(manager, "--run DIR")
        if known is None or known.run_dir is None:
            raise BadInput(f"no run is known of manager {manager}: give --run DIR")
        found = Path(known.run_dir)
    inner = found / "processing"  # of a Coffea analysis
    if not (found / "records.jsonl").exists() and (inner / "records.jsonl").exists():
        found = inner
    print("shaper: simulating; long runs take a few minutes", file=sys.stderr)
    with warnings.catch_warnings():
        # The last line of a run that goes on may be half written.
        warnings.simplefilter("ignore", UserWarning)
        lines = advise(found, rest=run_dir is None, cores=cores, memory=memory)
    print("\n".join(lines))


@app.command()
def status(manager: _Manager = None) -> None:
    """Say which managers there are, and which workers were started for them and live."""
    there = {one.address: one for one in managers.running()}
    pools = {pool.manager: pool for pool in ([Pool(manager)] if manager else Pool.all())}
    scaling = {one.manager: one for one in scalers.running(manager)}
    for name in sorted({*there, *pools, *scaling} if manager is None else {manager}):
        alive = pools[name].alive() if name in pools else []
        kinds: dict[tuple[str, int, int], int] = {}
        for one in alive:
            key = one.batch, one.cores, one.memory_mib
            kinds[key] = kinds.get(key, 0) + 1
        text = ", ".join(
            f"{number} x {cores} cores {show_mib(mib)} ({batch})" for (batch, cores, mib), number in kinds.items()
        )
        said = f"{there[name].engine} manager, process {there[name].pid}" if name in there else "no manager seen"
        if name in scaling:
            found = scaling[name]
            text = f"{text or 'none'}; process {found.pid} keeps {found.least} to {found.most}"
        print(f"{name}: {said}; workers: {text or 'none'}")
    if not there and not pools and not scaling:
        print("no managers and no workers", file=sys.stderr)


@app.command()
def stop(
    manager: _Manager = None,
    count: Annotated[
        int | None, typer.Option(help="How many, the youngest first; all, and what scales them, by default.")
    ] = None,
) -> None:
    """End workers that `shaper workers start` has started; what they run is run again elsewhere."""
    if count is not None and count < 1:
        raise BadInput(f"count must be at least 1, got {count}")
    scaling = scalers.running(manager) if count is None else []
    there = {pool.manager: pool for pool in ([Pool(manager)] if manager else Pool.all())}
    before = sum(len(pool.alive()) for pool in there.values())
    scalers.end(scaling)
    ended = sum(pool.stop(count) for pool in there.values())
    ended = before if scaling else ended
    print(f"ended {ended} worker{'s' if ended != 1 else ''}", file=sys.stderr)


def _known(manager: str | None, else_: str = "--manager HOST:PORT") -> managers.Manager | None:
    """What is written down of a manager; without a name the only one there is."""
    there = managers.running()
    if manager is not None:
        return next((one for one in there if manager in (one.address, one.name)), None)
    if len(there) == 1:
        return there[0]
    if not there:
        raise BadInput(f"no manager runs on this account: start the analysis first, or give {else_}")
    raise BadInput("which manager? give --manager: " + ", ".join(f"{one.address} ({one.engine})" for one in there))
