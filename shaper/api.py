"""The facade: one call for a plain script."""

from __future__ import annotations

import errno
import inspect
import os
import pickle
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from shaper import journal as journals
from shaper import records
from shaper import run_dir as run_dirs
from shaper.code import pack
from shaper.dataset import as_sources
from shaper.engines.engine import Engine
from shaper.errors import BadInput, Incomplete, ProcessFailed, ShaperError, SiteError
from shaper.failed import FailedWork
from shaper.ledger import Ledger, StagePlan
from shaper.loop import Watch, outcome
from shaper.loop import run as run_loop
from shaper.models.beliefs import Beliefs
from shaper.policy import Adaptive, Policy
from shaper.records import Recorder
from shaper.tally import Report, Tally
from shaper.types import (
    Backlog,
    Capacity,
    Chunk,
    Code,
    GiveUp,
    Observation,
    Outcome,
    Shape,
    Source,
    Stage,
    Task,
    Verdict,
)

_LINES_KEPT = 1000
_POLICY = ("name", "shapes", "allocate", "revise", "judge")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


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
    warm_start: str | os.PathLike[str] | Result | None = None,
    **engine_options: Any,
) -> Result:
    """Process a dataset and merge the results; sizes, memory and parallelism are found while it runs.

    Args:
        stages_or_dataset: a mapping of source name to number of elements, an iterable of Source, a reader, a Stage or
            an iterable of Stages (their functions are then theirs).
        process: function of a Chunk: `for span in chunk.spans: span.source, span.start, span.stop`; returns anything
            that pickles.
        merge: function of two results; associative and commutative.
        engine: `"local"`, or an engine object.
        policy: `Adaptive()` by default.
        run_dir: where the run is kept; the same script with the same run_dir resumes. A new directory under
            `shaper-runs` by default.
        name: of the run, for directories and reports.
        progress: show progress on standard error; by default where that is a terminal, and a line per change elsewhere.
        fingerprint: stands for the code of the functions on resume; computed from them by default.
        warm_start: an earlier run of the same analysis (its directory, or its Result), to begin with what it has
            learnt; sizes stay small until some tasks have shown that it still holds. A resumed run begins so by itself.
        engine_options: for an engine given by name, for instance `cores=4, memory="8GB"`.

    Raises:
        BadInput: an argument cannot be used; the message says which and what would do.
        CannotPickle: a function holds something that cannot be sent to a task.
        Changed: run_dir belongs to other code or inputs.
        ProcessFailed: the process or merge function raised; everything else has finished, and a second run with the
            same run_dir does only what is missing. The original exception is the cause.
        Incomplete: elements have no result for other reasons, for instance one that does not fit any worker.
    """
    stages, single = _stages(stages_or_dataset, process, merge, engine)
    with ExitStack() as stack:
        known = _known(warm_start)
        runner = _Run(stages, engine, engine_options, policy or Adaptive(), run_dir, name, progress, fingerprint, known)
        stack.callback(runner.close)
        report, values = runner.go()
    return Result(values[stages[0].name] if single else values, report, runner.run_dir, runner.beliefs)


def _known(warm_start: str | os.PathLike[str] | Result | None) -> Beliefs | None:
    if warm_start is None:
        return None
    beliefs = warm_start.beliefs if isinstance(warm_start, Result) else records.learnt(Path(warm_start))
    return beliefs.remembered()


def last_run(runs: str | os.PathLike[str] = run_dirs.RUNS) -> Path:
    """Return the directory of the last run: of this process, else of the runs directory.

    Raises:
        BadInput: there is none.
    """
    if _Run.last is not None:
        return _Run.last
    return run_dirs.latest(Path(runs))


def _stages(
    given: Any,
    process: Callable[[Chunk], Any] | None,
    merge: Callable[[Any, Any], Any] | None,
    engine: str | Engine,
) -> tuple[list[Stage], bool]:
    if isinstance(given, Stage):
        return [given], True
    if isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes):
        given = list(given)
        if given and all(isinstance(item, Stage) for item in given):
            return given, False
    if getattr(engine, "name", engine) != "simulated":
        for what, function in (("process", process), ("merge", merge)):
            if function is None:
                raise BadInput(f"run() needs a {what} function: run(dataset, process=..., merge=...)")
    return [Stage("processing", given, process, merge)], True


class _NoInbox:
    def take(self) -> Sequence[StagePlan]:
        return ()


class _Watches:
    """Tells several watches, and remembers the first error of the user's functions."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self.watches = watches
        self.error: Observation | None = None

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        for watch in self.watches:
            watch.decided(now_s, capacity, backlog, shapes)

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        for watch in self.watches:
            watch.submitted(task, beliefs)

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        if isinstance(verdict, GiveUp) and seen.outcome is Outcome.FAILED and self.error is None:
            self.error = seen
        for watch in self.watches:
            watch.settled(seen, verdict, beliefs)


class _Run:
    """One session of one run: opens everything, drives the loop, closes everything."""

    last: Path | None = None

    def __init__(
        self,
        stages: Sequence[Stage],
        engine: str | Engine,
        engine_options: Mapping[str, Any],
        policy: Policy,
        run_dir: str | os.PathLike[str] | None,
        name: str,
        progress: bool | None,
        fingerprint: str | None,
        known: Beliefs | None = None,
    ) -> None:
        self.policy = policy
        self.beliefs = known or getattr(policy, "prior", None) or Beliefs()
        self.known = known is not None
        self.name = name
        self.progress = progress
        self._closing = ExitStack()
        simulated = getattr(engine, "name", engine) == "simulated"
        self.plans = [
            StagePlan(
                stage.name,
                as_sources(stage.dataset) if simulated else tuple(map(_identified, as_sources(stage.dataset))),
                stage.after,
                stage.category or stage.name,
                stage.mode,
                stage.ordered,
            )
            for stage in stages
        ]
        self.codes: dict[str, Code] = {}
        for stage in stages:
            if stage.process is not None and stage.merge is not None:
                self.codes[stage.name] = pack(stage.name, stage.process, stage.merge, fingerprint)
        self.engine = _engine(engine, engine_options)
        if isinstance(policy, type) or not all(hasattr(policy, name) for name in _POLICY):
            raise BadInput(f"policy must be a policy object such as shaper.policy.Adaptive(), got {policy!r}")
        self._closing.callback(self.engine.close)
        self.run_dir = None if simulated and run_dir is None else run_dirs.find_or_make(run_dir, name)
        self.engine.run_dir = self.run_dir
        if self.run_dir is not None:
            self._closing.callback(os.close, run_dirs.locked(self.run_dir))
        self.past = journals.Past()
        if self.run_dir is not None:
            type(self).last = self.run_dir

    def go(self) -> tuple[Report, Mapping[str, object]]:
        try:
            with _terminated_as_interrupted():
                return self._go()
        except OSError as error:
            if self.run_dir is None or error.errno not in _DISK:
                raise
            raise SiteError(
                f"{error.strerror} in {error.filename or self.run_dir}: make room or give another run_dir, and run "
                "again; what is done is kept"
            ) from error

    def _go(self) -> tuple[Report, Mapping[str, object]]:
        session, ledger, journal = self._open()
        tally = Tally()
        recorder = self._recorder(ledger, session)
        watches: list[Watch] = [tally]
        if recorder is not None:
            watches.append(recorder)
        if self.run_dir is not None:
            watches.append(FailedWork(self.run_dir, list(self.codes.values())))
        watches += self._progress(ledger)
        together = _Watches(watches)
        status, message = "failed", ""
        try:
            simulated = self.engine.name == "simulated"
            self.beliefs = run_loop(
                ledger,
                self.policy,
                self.engine,
                journal,
                _NoInbox(),
                together,
                tick_s=60 if simulated else 0.25,
                beliefs=self._begin_with(),
            )
            values = self._outcome(ledger, together)
            status = "done"
        except KeyboardInterrupt:
            status, message = "interrupted", "stopped by the user"
            self.engine.close()
            raise
        except Incomplete as error:
            status, message = "incomplete", str(error)
            raise
        except BaseException as error:
            message = str(error)
            raise
        finally:
            report = replace(
                tally.report(self.engine.now_s, ledger.settled_elements),
                skipped=tuple(ledger.skipped()),
                skipped_spans=tuple(ledger.skipped_spans()),
                missing=tuple(ledger.missing()),
                run_dir=self.run_dir,
            )
            if recorder is not None:
                entry = {
                    "status": status,
                    "message": message,
                    "elements_done": ledger.settled_elements,
                    "elements": ledger.elements,
                    "missing": ledger.missing()[:_LINES_KEPT],
                    "skipped": ledger.skipped()[:_LINES_KEPT],
                }
                with suppress(OSError):
                    recorder.end(self.engine.now_s, entry)
            with suppress(OSError):
                self._closing.close()
            if status == "interrupted":
                self._tell_stopped(ledger)
            else:
                self._show(report)
        return report, values

    def close(self) -> None:
        self._closing.close()

    # -- pieces --------------------------------------------------------------------------------------------------

    def _begin_with(self) -> Beliefs:
        """What the policy knows beforehand; of a run that goes on, what its records have shown."""
        if self.run_dir is not None and self.past.sessions and not self.known:
            with suppress(ShaperError):
                return records.learnt(self.run_dir).remembered()
        return self.beliefs

    def _open(self) -> tuple[int, Ledger, journals.Journal | journals.NoJournal]:
        fingerprints = {plan.name: self._fingerprint(plan) for plan in self.plans}
        if self.run_dir is None:
            for plan in self.plans:
                self.engine.open(plan.name, self.codes.get(plan.name))
            return 1, Ledger(self.plans), journals.NoJournal()
        path = self.run_dir / journals.NAME
        if path.exists():
            self.past = journals.read(path)
            journals.check(self.past, self.plans, fingerprints, self.run_dir)
        session = self.past.sessions + 1
        run_dirs.describe(self.run_dir, self.name, self.plans, fingerprints)
        for plan in self.plans:
            self.engine.open(plan.name, self.codes.get(plan.name))
        missing = self.engine.adopt({task_id: settled.ref for task_id, settled in self.past.results.items()})
        ledger = Ledger(self.plans, session=session)
        for plan in self.plans:
            ledger.restore(plan.name, *self.past.of_stage(plan, missing))
        journal = journals.Journal(path, session)
        self._closing.callback(journal.close)
        if missing:
            journal.lost(sorted(missing))
        for plan in self.plans:
            journal.open_stage(plan, fingerprints[plan.name], known=plan.name in self.past.fingerprints)
        return session, ledger, journal

    def _fingerprint(self, plan: StagePlan) -> str:
        code = self.codes.get(plan.name)
        return code.fingerprint if code is not None else ""

    def _recorder(self, ledger: Ledger, session: int) -> Recorder | None:
        if self.run_dir is None:
            return None
        settings = getattr(self.policy, "settings", None)
        recorder = Recorder(self.run_dir / records.NAME, getattr(settings, "risk", None))
        self._closing.callback(recorder.close)
        recorder.run(
            {
                "session": session,
                "started_unix_s": round(time.time() - self.engine.now_s, 3),
                "name": self.name,
                "engine": self.engine.name,
                "policy": self.policy.name,
                "stages": [
                    {
                        "name": plan.name,
                        "category": plan.category,
                        "elements": sum(source.elements or 0 for source in plan.sources),
                        "sources": len(plan.sources),
                    }
                    for plan in self.plans
                ],
                "already_done_elements": ledger.settled_elements,
            }
        )
        return recorder

    def _progress(self, ledger: Ledger) -> list[Watch]:
        if self.progress is False or (self.progress is None and self.engine.name == "simulated"):
            return []
        from shaper.report.progress import Progress

        shown = Progress(ledger.elements, ledger.settled_elements)
        self._closing.callback(shown.close)
        return [shown]

    def _tell_stopped(self, ledger: Ledger) -> None:
        if self.run_dir is not None:
            safe = f"{ledger.settled_elements} of {ledger.elements} elements are safe in {self.run_dir}"
            resume = shlex.join(["shaper", "resume", str(self.run_dir)])
            print(f"shaper: stopped; {safe}; to go on: {resume}", file=sys.stderr)
            sys.excepthook = _quiet_when_interrupted

    def _show(self, report: Report) -> None:
        """Make the report page and print the summary."""
        if self.run_dir is not None:
            from shaper.report.html import make_report

            try:
                make_report(self.run_dir)
            except Exception as error:  # a page that cannot be drawn must not take the result with it
                warnings.warn(
                    f"the report could not be made ({error!r}); the result is not affected, and the records are in "
                    f"{self.run_dir}",
                    stacklevel=4,
                )
        if self.progress is not False and self.engine.name != "simulated":
            from shaper.report.summary import print_summary

            print_summary(report)

    def _outcome(self, ledger: Ledger, watches: _Watches) -> Mapping[str, object]:
        try:
            return outcome(ledger, self.engine)
        except Incomplete as error:
            if watches.error is None:
                raise
            failed = ProcessFailed(str(error), error.partial, error.missing)
            failed.detail = watches.error.detail
            raise failed from _original(watches.error)


def _original(seen: Observation) -> BaseException | None:
    """Unpickle the exception that the user's function raised, with its causes; None where it does not unpickle."""
    if seen.error is None:
        return None
    try:
        chain: list[BaseException] = pickle.loads(seen.error)
    except Exception:  # the classes are the user's
        return None
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]


def _engine(engine: str | Engine, options: Mapping[str, Any]) -> Engine:
    if not isinstance(engine, str):
        if options:
            raise BadInput(f"{', '.join(options)}: give these to the engine object instead")
        return engine
    if engine != "local":
        raise BadInput(f"engine {engine!r} is not known: use 'local', or an engine object of shaper.engines")
    from shaper.engines.local import Local

    known = inspect.signature(Local).parameters
    for option in options:
        if option not in known:
            raise BadInput(f"{option!r} is no option of the local engine; it has {', '.join(known)}")
    given = {"cores": os.environ.get("SHAPER_CORES"), "memory": os.environ.get("SHAPER_MEMORY")}
    local: Engine = Local(**{**{key: value for key, value in given.items() if value}, **options})
    return local


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which batch systems send before they kill, stops a run like Ctrl-C; a user's own handler stays."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _quiet_when_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The user stopped the run and was told how to go on; a traceback would only push that out of sight."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def _identified(source: Source) -> Source:
    """A source that is named like a file is the file, for a resume."""
    if source.identity is not None or source.payload is not None:
        return source
    try:
        status = os.stat(source.id)  # noqa: PTH116  # of every source
    except (OSError, ValueError):
        return source
    return replace(source, identity=f"{status.st_size} bytes of {status.st_mtime_ns}")


__all__ = ["Result", "ShaperError", "last_run", "run"]
