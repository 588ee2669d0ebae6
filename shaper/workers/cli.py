"""`shaper workers`: start, status, stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from shaper.engines import managers, password
from shaper.errors import BadInput
from shaper.units import parse_mib, show_mib
from shaper.workers.plan import Plan, Site, script
from shaper.workers.pool import Pool

app = typer.Typer(help="Workers of Work Queue and TaskVine: start them, count them, end them.", no_args_is_help=True)

_Manager = Annotated[
    str | None, typer.Option(help="HOST:PORT, or the manager's name; by default the one that runs on this account.")
]


@app.command()
def start(  # the words of dask-jobqueue
    manager: _Manager = None,
    engine: Annotated[str | None, typer.Option(help="workqueue or taskvine; by default that of the manager.")] = None,
    batch: Annotated[str, typer.Option(help="Where: local, slurm, condor, sge or pbs.")] = "local",
    count: Annotated[int, typer.Option(help="How many.")] = 1,
    cores: Annotated[int, typer.Option(help="Cores of each.")] = 1,
    memory: Annotated[str, typer.Option(help="Memory of each, like 8GB.")] = "2GB",
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
    """Start workers for a manager."""
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
        cores,
        parse_mib(memory, "memory"),
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
    if count < 1:
        raise BadInput(f"count must be at least 1, got {count}")
    started = Pool(plan.manager).start(plan, count)
    what = f"{len(started)} worker{'s' if len(started) > 1 else ''}"
    print(f"started {what} of {plan.cores} cores and {show_mib(plan.memory_mib)} for {plan.manager}", file=sys.stderr)


@app.command()
def status(manager: _Manager = None) -> None:
    """Say which managers there are, and which workers were started for them and live."""
    there = {one.address: one for one in managers.running()}
    pools = {pool.manager: pool for pool in ([Pool(manager)] if manager else Pool.all())}
    for name in sorted({*there, *pools} if manager is None else {manager}):
        alive = pools[name].alive() if name in pools else []
        kinds: dict[tuple[str, int, int], int] = {}
        for one in alive:
            key = one.batch, one.cores, one.memory_mib
            kinds[key] = kinds.get(key, 0) + 1
        text = ", ".join(
            f"{number} x {cores} cores {show_mib(mib)} ({batch})" for (batch, cores, mib), number in kinds.items()
        )
        said = f"{there[name].engine} manager, process {there[name].pid}" if name in there else "no manager seen"
        print(f"{name}: {said}; workers: {text or 'none'}")
    if not there and not pools:
        print("no managers and no workers", file=sys.stderr)


@app.command()
def stop(
    manager: _Manager = None,
    count: Annotated[int | None, typer.Option(help="How many, the youngest first; all by default.")] = None,
) -> None:
    """End workers that `shaper workers start` has started; what they run is run again elsewhere."""
    pools = [Pool(manager)] if manager else Pool.all()
    ended = sum(pool.stop(count) for pool in pools)
    print(f"ended {ended} worker{'s' if ended != 1 else ''}", file=sys.stderr)


def _known(manager: str | None) -> managers.Manager | None:
    """What is written down of a manager; without a name the only one there is."""
    there = managers.running()
    if manager is not None:
        return next((one for one in there if manager in (one.address, one.name)), None)
    if len(there) == 1:
        return there[0]
    if not there:
        raise BadInput("no manager runs on this account: start the analysis first, or give --manager HOST:PORT")
    raise BadInput("which manager? give --manager: " + ", ".join(f"{one.address} ({one.engine})" for one in there))
