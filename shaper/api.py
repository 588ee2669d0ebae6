"""The facade: one call for a plain script."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shaper import records
from shaper import run_dir as run_dirs
from shaper.engines.engine import Engine
from shaper.errors import BadInput, ShaperError
from shaper.history.place import place as place_of
from shaper.models.beliefs import Beliefs
from shaper.policy import Adaptive, Policy
from shaper.session import Session
from shaper.tally import Report
from shaper.types import Chunk, Stage

_POLICY = ("name", "shapes", "allocate", "revise", "judge")


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives back.

    Args:
        value: the merged value; for several stages a mapping of stage name to merged value.
        report: counts, waste, decisions.
        run_dir: where journal, records and results lie; None for a simulated run without a directory.
        beliefs: what was learnt; the next run of the same analysis may begin with it (`warm_start`).
    """

    value: Any
    report: Report
    run_dir: Path | None
    beliefs: Beliefs = field(default_factory=Beliefs, repr=False)


def run(
    stages_or_dataset: Any,
    *,
    process: Callable[[Chunk], Any] | None = None,
    merge: Callable[[Any, Any], Any] | None = None,
    engine: str | Engine = "local",
    policy: Policy | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    name: str = "run",
    progress: bool | None = None,
    fingerprint: str | None = None,
    warm_start: str | os.PathLike[str] | Result | Beliefs | None = None,
    history: bool | str | os.PathLike[str] | None = None,
    **engine_options: Any,
) -> Result:
    """Process a dataset and merge the results; sizes, memory and parallelism are found while it runs.

    Args:
        stages_or_dataset: a mapping of source name to number of elements, an iterable of Source, a reader, a Stage or
            an iterable of Stages (their functions are then theirs).
        process: function of a Chunk: `for span in chunk.spans: span.source, span.start, span.stop`; returns anything
            that pickles.
        merge: function of two results; associative and commutative.
        engine: `"local"`, `"workqueue"`, `"taskvine"`, or an engine object.
        policy: `Adaptive()` by default.
        run_dir: where the run is kept; the same script with the same run_dir resumes. A new directory under
            `shaper-runs` by default.
        name: of the run, for directories and reports.
        progress: show progress on standard error; by default where that is a terminal, and a line per change elsewhere.
        fingerprint: stands for the code of the functions on resume; computed from them by default.
        warm_start: an earlier run of the same analysis (its directory, its Result or its beliefs), to begin with what
            it has learnt; sizes stay small until some tasks have shown that it still holds. A resumed run begins so by
            itself.
        history: what runs have shown is kept there for the next run of the same analysis, which begins with it: a file,
            or `postgresql://...`. By default that of SHAPER_HISTORY, or `~/.local/share/shaper/history.sqlite`, and
            none for the simulated engine. False: nothing is read or written. `warm_start` and the records of a run that
            goes on come before it.
        engine_options: for an engine given by name, for instance `cores=4, memory="8GB"`.

    Raises:
        BadInput: an argument cannot be used; the message says which and what would do.
        CannotPickle: a function holds something that cannot be sent to a task.
        Changed: run_dir belongs to other code or inputs.
        ProcessFailed: the process or merge function raised; everything else has finished, and a second run with the
            same run_dir does only what is missing. The original exception is the cause.
        Incomplete: elements have no result for other reasons, for instance one that does not fit any worker.
    """
    stages, single = stages_of(stages_or_dataset, process, merge, engine)
    policy = policy_of(policy or Adaptive())
    known = known_of(warm_start)
    with ExitStack() as stack:
        ready = engine_of(engine, engine_options)
        stack.callback(ready.close)
        place = None if history is None and is_a_trial(ready, policy) else place_of(history)
        session = Session(stages, ready, policy, run_dir, name, progress, fingerprint, known, place)
        stack.callback(session.close)
        report, values = session.go()
    return Result(values[stages[0].name] if single else values, report, session.run_dir, session.beliefs)


def policy_of(policy: Policy) -> Policy:
    """Return it where it is one.

    Raises:
        BadInput: it is something else.
    """
    if isinstance(policy, type) or not all(hasattr(policy, name) for name in _POLICY):
        raise BadInput(f"policy must be a policy object such as shaper.policy.Adaptive(), got {policy!r}")
    return policy


def is_a_trial(engine: Engine, policy: Policy) -> bool:
    """Whether a run is there to judge a policy: what other runs have shown is then out of place, unless asked for."""
    off = [getattr(getattr(policy, part, None), "without", ()) for part in ("settings", "prior")]
    return engine.name == "simulated" or any(off)


def known_of(warm_start: str | os.PathLike[str] | Result | Beliefs | None) -> Beliefs | None:
    if warm_start is None or isinstance(warm_start, Beliefs):
        return warm_start.remembered() if warm_start is not None else None
    beliefs = warm_start.beliefs if isinstance(warm_start, Result) else records.learnt(Path(warm_start))
    return beliefs.remembered()


def last_run(runs: str | os.PathLike[str] = run_dirs.RUNS) -> Path:
    """Return the directory of the last run: of this process, else of the runs directory.

    Raises:
        BadInput: there is none.
    """
    if Session.last is not None:
        return Session.last
    return run_dirs.latest(Path(runs))


def stages_of(
    given: Any,
    process: Callable[[Chunk], Any] | None,
    merge: Callable[[Any, Any], Any] | None,
    engine: str | Engine,
) -> tuple[list[Stage], bool]:
    if isinstance(given, Stage):
        return [given], True
    if isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes):
        given = list(given)
        if not given:
            raise BadInput("there is nothing to run: the list of stages, or of sources, is empty")
        others = [item for item in given if not isinstance(item, Stage)]
        if not others:
            return given, False
        if len(others) < len(given):
            raise BadInput(f"a list of stages holds nothing else, got {type(others[0]).__name__} {others[0]!r:.60}")
    if getattr(engine, "name", engine) != "simulated":
        for what, function in (("process", process), ("merge", merge)):
            if function is None:
                raise BadInput(f"run() needs a {what} function: run(dataset, process=..., merge=...)")
    return [Stage("processing", given, process, merge)], True


def engine_of(engine: str | Engine, options: Mapping[str, Any]) -> Engine:
    """Make the engine of a name; an engine object is itself.

    Raises:
        BadInput: there is none of that name, or it has no such option.
        EngineMissing: what it needs is not installed.
    """
    if not isinstance(engine, str):
        if options:
            raise BadInput(f"{', '.join(options)}: give these to the engine object instead")
        return engine
    from shaper import engines

    makers: Mapping[str, type[Any]] = {
        "local": engines.Local,
        "workqueue": engines.WorkQueue,
        "taskvine": engines.TaskVine,
    }
    make = makers.get(engine)
    if make is None:
        names = ", ".join(map(repr, makers))
        raise BadInput(f"engine {engine!r} is not known: use {names}, or an engine object of shaper.engines")
    known = [
        name
        for maker in make.__mro__
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise BadInput(f"{option!r} is no option of the {engine} engine; it has {', '.join(known)}")
    # What the command line says holds where the script is silent.
    chosen: dict[str, Any] = dict(options)
    for option in ("cores", "memory", "port"):
        if option in known and (value := os.environ.get(f"SHAPER_{option.upper()}")):
            chosen.setdefault(option, value)
    made: Engine = make(**chosen)
    return made


__all__ = ["Result", "ShaperError", "last_run", "run"]
