"""The command line: `shaper --help`, or `python -m shaper --help`."""

from __future__ import annotations

import json
import os
import pdb
import runpy
import shlex
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from shaper import __version__
from shaper import run_dir as run_dirs
from shaper.api import last_run
from shaper.environment import cli as environment_cli
from shaper.errors import BadInput, Broken, Damaged, Incomplete, ProcessFailed, ShaperError
from shaper.history import cli as history_cli
from shaper.run_dir import DESCRIPTION
from shaper.session import Session
from shaper.simulation import schedule_cli
from shaper.workers import cli as workers_cli

app = typer.Typer(
    help="Finds, while an analysis runs, how big its tasks are, what each is given and how many run at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_STOPPED = 130
_TRACEBACK_LINES = 15


app.add_typer(workers_cli.app, name="workers")
app.add_typer(schedule_cli.app, name="schedule")
app.add_typer(environment_cli.app, name="env")
app.add_typer(history_cli.app, name="history")


def main() -> NoReturn:
    """Run the command line; expected errors are one line and exit code 2."""
    if not sys.platform.startswith("linux"):
        _say("shaper runs on Linux only")
        raise SystemExit(2)
    # A plain `python script.py` finds its neighbours through the first entry of sys.path; so does `shaper run`.
    try:
        app(standalone_mode=True)
    except Broken as error:
        _say(f"{error}\nThis is a bug in shaper; please report it together with the run directory.")
        raise SystemExit(3) from error
    except ShaperError as error:
        _explain(error)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(_STOPPED) from None
    raise SystemExit(0)


def _say(text: str) -> None:
    print(f"shaper: {text}", file=sys.stderr)


def _explain(error: ShaperError) -> None:
    """One line; for an exception of the user's own function the end of its traceback too, which they need."""
    _say(str(error).splitlines()[0] if str(error) else type(error).__name__)
    if isinstance(error, ProcessFailed):
        for line in error.detail.splitlines()[1:][-_TRACEBACK_LINES:]:
            print(f"    {line}", file=sys.stderr)
    if isinstance(error, Incomplete) and (run_dir := Session.last) is not None:
        _say(f"what is done is kept; the same command with run directory {run_dir} does only what is missing")
        failed = sorted((run_dir / "failed").glob("*.pkl")) if run_dir.is_dir() else []
        if failed:
            command = shlex.join(["shaper", "debug", str(run_dir), failed[0].stem])
            _say(f"to look at a failed piece: {command}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def run(
    script: Annotated[Path, typer.Argument(help="A Python script that calls shaper.run.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where to keep the run; the same one resumes it.")] = None,
    cores: Annotated[int | None, typer.Option(help="Cores to use, where the script does not say.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory to use, like 8GB, where the script does not say.")] = None,
) -> None:
    """Run a script, with clear messages where something is wrong."""
    for name, value in (("SHAPER_RUN_DIR", run_dir), ("SHAPER_CORES", cores), ("SHAPER_MEMORY", memory)):
        if value is not None:
            os.environ[name] = str(value)
    _run_script(script, arguments or [])


def _run_script(script: Path, arguments: list[str]) -> None:
    if not script.is_file():
        raise BadInput(f"there is no script {script}")
    sys.argv = [str(script), *arguments]
    sys.path[0:1] = [str(script.resolve().parent)]
    runpy.run_path(str(script), run_name="__main__")


@app.command()
def resume(
    run_dir: Annotated[Path, typer.Argument(help="The directory of a run that was stopped or killed.")],
) -> None:
    """Go on with a run: start its script again, which then does only what is missing."""
    described = _description(run_dir)
    script = described.get("script")
    if script is None:
        raise BadInput(
            f"{run_dir} was not started from a script: start it again yourself, with run_dir={str(run_dir)!r}"
        )
    if not Path(script).is_file():
        raise BadInput(f"the script of {run_dir} is gone: {script}")
    os.environ["SHAPER_RUN_DIR"] = str(run_dir.resolve())
    _go_to(described)
    arguments = list(described.get("argv", []))
    if module := described.get("module"):
        sys.argv = [str(script), *arguments]
        sys.path[0:1] = [""]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        _run_script(Path(script), arguments)


def _description(run_dir: Path) -> dict[str, Any]:
    """run.json of a run; of a Coffea analysis, whose directory holds one run per step, that of any of them."""
    found = [path for path in (run_dir / DESCRIPTION, *run_dir.glob(f"*/{DESCRIPTION}")) if path.is_file()]
    if not found:
        raise BadInput(f"{run_dir} is no run directory: it has no {DESCRIPTION}")
    described = run_dirs.described(found[0].parent)
    if not described:
        raise Damaged(f"{found[0]} cannot be read: start the script again with run_dir={str(run_dir)!r}")
    return described


def _go_to(described: Mapping[str, Any]) -> None:
    if Path(described.get("cwd") or ".").is_dir():
        os.chdir(described.get("cwd") or ".")


@app.command()
def report(
    run_dir: Annotated[Path | None, typer.Argument(help="The directory of a run; the last one by default.")] = None,
) -> None:
    """Make report.html and timeline.json of a run again, from its records."""
    from shaper.report.html import make_report

    print(make_report(_found(run_dir)))


def _found(run_dir: Path | None) -> Path:
    """A run directory; of a Coffea analysis, which has two, that of the processing."""
    found = run_dir or last_run()
    if not found.is_dir():
        raise BadInput(f"there is no directory {found}")
    inner = found / "processing"
    return inner if not (found / "records.jsonl").exists() and (inner / "records.jsonl").exists() else found


@app.command()
def debug(
    run_dir: Annotated[Path, typer.Argument(help="The directory of a run.")],
    task: Annotated[str, typer.Argument(help="The id of a task that failed, like 1.17.")],
    use_pdb: Annotated[bool, typer.Option("--pdb", help="Open a debugger where it fails.")] = False,
) -> None:
    """Run a failed piece of work again, in this process, where it can be looked at."""
    from shaper import failed

    run_dir = _found(run_dir).resolve()
    described = run_dirs.described(run_dir)
    if described.get("script"):
        sys.path.insert(0, str(Path(described["script"]).parent))
    _go_to(described)
    process, chunk, detail = failed.load(run_dir, task)
    _say(f"task {task}: {', '.join(map(str, chunk.spans))}")
    if detail:
        _say(f"it ended with: {detail.splitlines()[0]}")
    try:
        value = process(chunk)
    except Exception:  # the point is to see what the user's function raises
        if not use_pdb:
            traceback.print_exc()
            raise SystemExit(1) from None
        traceback.print_exc()
        pdb.post_mortem()
        raise SystemExit(1) from None
    _say("this time it finished; its result:")
    Console().print(value)


@app.command()
def simulate(
    scenario: Annotated[str | None, typer.Option(help="A named scenario; `list` names them.")] = None,
    recorded: Annotated[Path | None, typer.Option(help="A run directory: its observations are the cost model.")] = None,
    policy: Annotated[str, typer.Option(help="adaptive, published, published-target or fixed.")] = "adaptive",
    chunksize: Annotated[int | None, typer.Option(help="Of fixed; the first guess of the others.")] = None,
    task_memory: Annotated[str | None, typer.Option(help="Memory per task of fixed; a core's share.")] = None,
    workers: Annotated[str | None, typer.Option(help="CORESxMEMORY:COUNT, several with commas.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same decisions.")] = 0,
    loss_rate: Annotated[float, typer.Option(help="Share of the attempts that are lost.")] = 0.0,
    price: Annotated[float | None, typer.Option(help="Of a core-hour, to print what the workers cost.")] = None,
    elements: Annotated[int, typer.Option(help="Of a made-up workload: how many there are.")] = 10_000_000,
    sources: Annotated[int, typer.Option(help="In how many equal sources.")] = 100,
    fixed_s: Annotated[float, typer.Option(help="Fixed time of a task, s.")] = 10.0,
    s_per_element: Annotated[float, typer.Option(help="Time per element on a core, s.")] = 1e-3,
    memory_mib: Annotated[float, typer.Option(help="Memory of an empty task, MiB.")] = 250.0,
    mib_per_element: Annotated[float, typer.Option(help="Memory per element, MiB.")] = 0.01,
    noise: Annotated[float, typer.Option(help="Standard deviation of the logarithm of time and memory.")] = 0.08,
    advise: Annotated[bool, typer.Option("--advise", help="Compare worker shapes and counts instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try a policy in virtual time: on a named scenario, on a recorded run, or on a made-up workload."""
    from shaper import simulation
    from shaper.simulation import questions
    from shaper.simulation.replay import replay

    if scenario == "list":
        for known in simulation.SCENARIOS.values():
            print(f"{known.name:>16}  {known.title}")
        return
    given = questions.parse_workers(workers) if workers is not None else None
    case: Any
    if recorded is not None:
        case = replay(_found(recorded))
    elif scenario is not None:
        case = simulation.scenario(scenario)
    else:
        case = questions.made_up(
            elements,
            sources,
            fixed_s,
            s_per_element,
            memory_mib,
            mib_per_element,
            noise,
            given or questions.parse_workers("4x8GB:10"),
        )
    case = questions.with_workers(case, given, loss_rate)
    if advise:
        told = questions.advised(case, price, seed)
        if as_json:
            print(json.dumps(told))
            return
        for line in told["lines"]:
            print(line)
        return
    result = questions.answer(case, questions.policy_for(policy, chunksize, task_memory, case), seed, price)
    if recorded is not None:
        result["recorded_makespan_s"] = round(case.makespan_s, 6)
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if key != "decisions":
            print(f"{key:>20}  {value:.4g}" if isinstance(value, float) else f"{key:>20}  {value}")
    for line in result["decisions"]:
        print(f"{'':>20}  {line}")


if __name__ == "__main__":
    main()
