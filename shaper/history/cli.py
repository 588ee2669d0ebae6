"""`shaper history`: list, show, forget, export, plot."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shaper.errors import BadInput, EngineMissing, SiteError
from shaper.history.memory import BELIEFS
from shaper.history.place import place
from shaper.models.as_json import from_json
from shaper.models.group import GroupBeliefs
from shaper.units import show_count, show_mib, show_seconds

if TYPE_CHECKING:
    from shaper.history.store import Store

app = typer.Typer(help="What runs have shown, kept for the next run of the same analysis.", no_args_is_help=True)

_DAY_S = 86400.0
_RISK = 0.01
_SHOWN_RUNS = 10
_WIDTH = 200  # where the list is not read on a terminal

_Where = Annotated[
    str | None, typer.Option("--history", help="A file or postgresql://...; by default that of SHAPER_HISTORY.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
_Number = Annotated[int, typer.Argument(help="As `shaper history list` numbers them.")]


@app.command("list")
def list_(history: _Where = None, as_json: _Json = False) -> None:
    """List what is known: one line for each category of a workflow, under the code it was seen with."""
    with _store(history) as store:
        subjects = store.subjects()
        for subject in subjects:
            subject["last_run"] = next(iter(store.stage_runs(subject["id"])[-1:]), None)
    if as_json:
        print(json.dumps(subjects))
        return
    if not subjects:
        print(f"nothing is known yet in {store.name}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("no", "workflow", "category", "code", "worker", "runs", "last", "chunksize"):
        table.add_column(head, overflow="fold", justify="right" if head in ("no", "runs", "chunksize") else "left")
    for subject in subjects:
        last = subject["last_run"]
        table.add_row(
            str(subject["id"]),
            subject["workflow"],
            subject["category"],
            subject["code"][:8],
            subject["worker"],
            str(subject["runs"]),
            _when(subject["last_unix_s"]),
            show_count(last["chunksize"]) if last else "-",
        )
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table, highlight=False)


@app.command()
def show(number: _Number, history: _Where = None, as_json: _Json = False) -> None:
    """Show what is known about one: fingerprint, models, the last stage runs."""
    with _store(history) as store:
        found = _all_about(store, number)
    if as_json:
        print(json.dumps({key: value for key, value in found.items() if key != "observations"}))
        return
    print(f"{found['category']} of {found['workflow']}")
    print(f"  fingerprint {found['fingerprint']}: code {found['code'] or '-'}, {found['worker']}, {_versions(found)}")
    print(f"  {found['runs']} runs, from {_when(found['first_unix_s'])} to {_when(found['last_unix_s'])}")
    about, trouble = _beliefs(found)
    if about is None:
        print(f"  {trouble}")
    else:
        for line in _lines(about):
            print(f"  {line}")
    for run in found["stage_runs"][-_SHOWN_RUNS:]:
        print(
            f"  {_when(run['at_unix_s'])}  {run['stage']}: {show_count(run['elements'])} elements "
            f"in {run['tasks']} tasks of about {show_count(run['chunksize'])} with {show_mib(run['task_mib'])}, "
            f"{run['s']} at once, {show_seconds(run['wall_s'])} ({run['engine']}, {run['status']})"
        )


@app.command()
def forget(
    numbers: Annotated[list[int] | None, typer.Argument(help="As `shaper history list` numbers them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    workflow: Annotated[str | None, typer.Option(help="All of this workflow, named as in the list.")] = None,
    older_than: Annotated[float | None, typer.Option(help="Those that no run has used for so many days.")] = None,
    history: _Where = None,
) -> None:
    """Forget some of it: the next runs of these begin with probes."""
    if older_than is not None and not 0 <= older_than < math.inf:
        raise BadInput(f"--older-than is {older_than:g}: give a number of days, 0 or more")
    with _store(history) as store:
        subjects = store.subjects()
        wanted = set(_known(subjects, numbers or []))
        wanted |= {
            row["id"] for row in subjects if everything or (workflow is not None and row["workflow"] == workflow)
        }
        if older_than is not None:
            wanted |= {row["id"] for row in subjects if row["last_unix_s"] < time.time() - older_than * _DAY_S}
        if not wanted and not (everything or older_than is not None):
            raise BadInput("nothing to forget: give numbers or a workflow of `shaper history list`, or --all")
        if wanted or (everything and store.left_out):
            store.forget(None if everything else wanted)
    print(f"forgot {len(wanted)} of {len(subjects)}")


@app.command()
def export(
    numbers: Annotated[list[int] | None, typer.Argument(help="Some of them; by default all.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; by default it is printed.")] = None,
    history: _Where = None,
) -> None:
    """Write everything as JSON: subjects with their models, stage runs and observations."""
    with _store(history) as store:
        wanted = _known(store.subjects(), numbers) if numbers else [row["id"] for row in store.subjects()]
        text = json.dumps({"shaper_history": 1, "subjects": [_all_about(store, one) for one in wanted]}, indent=1)
    _write(output, text)


@app.command()
def plot(
    number: _Number,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("history.html"),
    history: _Where = None,
) -> None:
    """Draw one as a page: memory and time against size with what is believed, and chunksize and time by run."""
    from shaper.report.past import page

    with _store(history) as store:
        found = _all_about(store, number)
    title = f"{found['category']} of {found['workflow']}"
    _write(output, page(title, _beliefs(found)[0], found["observations"], found["stage_runs"]))
    print(output)


def _write(output: Path | None, text: str) -> None:
    if output is None:
        print(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SiteError(f"{output} cannot be written: {error.strerror}") from error


@contextmanager
def _store(asked: str | None) -> Iterator[Store]:
    """The store that was asked for; what is wrong with it is an error here."""
    found = place(asked if asked is not None else True)
    if found is None:
        raise BadInput("this account has no home: say where the history lies with --history or SHAPER_HISTORY")
    try:
        from shaper.history.store import Store, Unusable
    except ImportError:
        raise EngineMissing("the history needs SQLAlchemy: pip install 'shaper[history]'") from None
    store = Store(found)
    try:
        yield store
    except Unusable as error:
        raise SiteError(f"history: {error}") from error
    if store.left_out:
        print(f"shaper: history: {store.left_out} rows of {store.name} make no sense and are left out", file=sys.stderr)


def _known(subjects: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Sequence[int]:
    there = {row["id"] for row in subjects}
    for number in numbers:
        if number not in there:
            raise BadInput(f"there is no number {number} in the history: see `shaper history list`")
    return numbers


def _all_about(store: Store, number: int) -> dict[str, Any]:
    subjects = store.subjects()
    _known(subjects, [number])
    (subject,) = (row for row in subjects if row["id"] == number)
    return {
        **subject,
        "documents": store.documents(number),
        "stage_runs": store.stage_runs(number),
        "observations": store.observations(number),
    }


def _beliefs(found: dict[str, Any]) -> tuple[GroupBeliefs | None, str]:
    """What the next run would begin with about the category as a whole; why not where it would not."""
    if BELIEFS not in found["documents"]:
        return None, "nothing of it has finished yet"
    try:
        return from_json(found["documents"][BELIEFS]).about(found["category"]), ""
    except BadInput as error:
        return None, f"what is believed cannot be read: {error}"


def _lines(about: GroupBeliefs) -> list[str]:
    """Each resource at the largest size that finished."""
    x, lines = max(1.0, about.largest_done), []
    for name, line, shown in (("memory", about.memory.line, show_mib), ("time", about.wall.line, show_seconds)):
        if line is not None:
            typical, most = shown(line.median(x)), shown(line.upper(x, _RISK))
            lines.append(f"{name} at size {show_count(x)}: {typical}, 99 of 100 below {most}")
    return lines


def _versions(found: dict[str, Any]) -> str:
    known = found["versions"] if isinstance(found["versions"], dict) else {}
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "-"


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
