"""One session of a run: opens everything, drives the loop, closes everything, and says how it ended."""

from __future__ import annotations

import errno
import os
import pickle
import shlex
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from shaper import arrivals, records
from shaper import journal as journals
from shaper import run_dir as run_dirs
from shaper.code import file_stamp, fingerprint_of, pack
from shaper.dataset import as_sources, counted, counting
from shaper.engines.engine import Engine
from shaper.errors import Incomplete, ProcessFailed, ShaperError, SiteError
from shaper.failed import FailedWork
from shaper.history.memory import opened
from shaper.history.place import Place
from shaper.ledger import Ledger, StagePlan
from shaper.loop import Watch, outcome
from shaper.loop import run as run_loop
from shaper.models.beliefs import Beliefs
from shaper.policy import Policy
from shaper.records import Recorder
from shaper.tally import Report, Tally
from shaper.types import Backlog, Capacity, Code, GiveUp, Observation, Outcome, Shape, Source, Stage, Task, Verdict

if TYPE_CHECKING:
    from shaper.report.progress import Progress

_LINES_KEPT = 1000
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


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


class Session:
    """From an engine, a policy and stages to their merged values; `close` may be called whatever happened."""

    last: Path | None = None

    def __init__(
        self,
        stages: Sequence[Stage],
        engine: Engine,
        policy: Policy,
        run_dir: str | os.PathLike[str] | None,
        name: str,
        progress: bool | None,
        fingerprint: str | None,
        known: Beliefs | None = None,
        history: Place | None = None,
    ) -> None:
        self.policy = policy
        self.beliefs = known or getattr(policy, "prior", None) or Beliefs()
        self.known = known is not None
        self.name = name
        self.progress = progress
        self.engine = engine
        self._closing = ExitStack()
        simulated = engine.name == "simulated"
        self.stages = stages
        self._in_order = arrivals.ordered(stages)
        known_now = [stage for stage in stages if not arrivals.counted_later(stage)]
        self.plans = [self._plan(stage, as_sources(stage.dataset)) for stage in known_now]
        self.codes: dict[str, Code] = {}
        for stage in stages:
            if arrivals.counted_later(stage) and not simulated:
                name_of, work = counting(stage.name), arrivals.Counting(stage.dataset)
                code = fingerprint or fingerprint_of(stage.dataset, tuple(stage.after))
                self.codes[name_of] = pack(name_of, work, arrivals.unmerged, code)
            if stage.process is not None and stage.merge is not None:
                self.codes[stage.name] = pack(stage.name, stage.process, stage.merge, fingerprint)
        self.memory = None
        if history is not None:
            self.memory = opened(history, name, stages, self.codes, engine.name, quiet=progress is False)
        self.watches: list[Watch] = []  # besides those of every session
        self._before = 0  # elements that earlier sessions have done
        self._growing: list[Recorder | Progress] = []
        self._late: Callable[[StagePlan], StagePlan] = lambda plan: plan
        self.run_dir = None if simulated and run_dir is None else run_dirs.find_or_make(run_dir, name)
        if self.run_dir is not None:
            # Before the engine sees the directory, and until it has left it: another process may be at work there.
            self._closing.callback(os.close, run_dirs.locked(self.run_dir))
        engine.run_dir = self.run_dir
        self._closing.callback(engine.close)
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
        self._before = ledger.settled_elements
        tally = Tally()
        recorder = self._recorder(ledger, session)
        known = self._begin_with()
        watches: list[Watch] = [tally, *self.watches]
        if recorder is not None:
            watches.append(recorder)
        if self.run_dir is not None:
            watches.append(FailedWork(self.run_dir, list(self.codes.values())))
        if self.memory is not None:
            watches.append(self.memory)
        watches += [*self._wants(known), *self._progress(ledger)]
        together = _Watches(watches)
        simulated = self.engine.name == "simulated"
        inbox = arrivals.Arrivals(self._in_order, ledger, self.engine.fetch, self._added, here=simulated)
        status, message = "failed", ""
        try:
            self.beliefs = run_loop(
                ledger,
                self.policy,
                self.engine,
                journal,
                inbox,
                together,
                tick_s=1.0 if simulated else 0.25,
                beliefs=known,
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
                elements_before=self._before,
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
            if self.memory is not None:
                self.memory.end(status)
            if status == "interrupted":
                self._tell_stopped(ledger)
            else:
                self._show(report)
        return report, {stage.name: values.get(stage.name) for stage in self.stages}

    def close(self) -> None:
        self._closing.close()

    # -- pieces --------------------------------------------------------------------------------------------------

    def _begin_with(self) -> Beliefs:
        """What the policy knows beforehand: what it was given, its own records of a run that goes on, the history."""
        if self.known:
            return self.beliefs
        if self.run_dir is not None and self.past.sessions:
            with suppress(ShaperError):
                if (learnt := records.learnt(self.run_dir)).categories:
                    return learnt.remembered()
        if self.memory is not None:
            return self.memory.recall() or self.beliefs
        return self.beliefs

    def _open(self) -> tuple[int, Ledger, journals.Journal | journals.NoJournal]:
        names = [stage.name for stage in self.stages]
        names += [name for name in self.codes if name not in names]
        if self.run_dir is None:
            for name in names:
                self.engine.open(name, self.codes.get(name))
            return 1, Ledger(self.plans), journals.NoJournal()
        fingerprints = {name: self.codes[name].fingerprint if name in self.codes else "" for name in names}
        path = self.run_dir / journals.NAME
        if path.exists():
            self.past = journals.read(path)
            journals.check(self.past, fingerprints, self.run_dir)
            for plan in self.plans:
                journals.check_sources(self.past, plan, self.run_dir)
        session = self.past.sessions + 1
        run_dirs.describe(self.run_dir, self.name, self.stages, fingerprints)
        for name in names:
            self.engine.open(name, self.codes.get(name))
        missing = self.engine.adopt({task_id: settled.ref for task_id, settled in self.past.results.items()})
        journal = journals.Journal(path, session)
        self._closing.callback(journal.close)
        if missing:
            journal.lost(sorted(missing))
        run_dir = self.run_dir

        def late(plan: StagePlan) -> StagePlan:
            journals.check_sources(self.past, plan, run_dir)
            journal.open_stage(plan, fingerprints[plan.name], known=plan.name in self.past.fingerprints)
            done, skipped = self.past.of_stage(plan, missing)
            return replace(plan, done=tuple(done), skipped=tuple(skipped))

        self._late = late
        return session, Ledger(map(late, self.plans), session=session), journal

    def _plan(self, stage: Stage, sources: tuple[Source, ...]) -> StagePlan:
        """A stage with counted sources."""
        # The payload of a counting task is what its parents' journaled results hold.
        if self.engine.name != "simulated" and not counted(stage.name):
            sources = tuple(map(_identified, sources))
        category = stage.category or stage.name
        return StagePlan(stage.name, sources, tuple(stage.after), category, stage.mode, stage.ordered)

    def _added(self, stage: Stage, sources: tuple[Source, ...]) -> StagePlan:
        """A stage that begins while the run goes on."""
        plan = self._late(self._plan(stage, sources))
        done = sum(result.elements for result in plan.done)
        self._before += done
        for watch in self._growing:
            watch.added(plan, done)
        return plan

    def _recorder(self, ledger: Ledger, session: int) -> Recorder | None:
        if self.run_dir is None:
            return None
        settings = getattr(self.policy, "settings", None)
        recorder = Recorder(self.run_dir / records.NAME, getattr(settings, "risk", None))
        self._closing.callback(recorder.close)
        self._growing.append(recorder)
        recorder.run(
            {
                "session": session,
                "started_unix_s": round(time.time() - self.engine.now_s, 3),
                "name": self.name,
                "engine": self.engine.name,
                "policy": self.policy.name,
                "stages": [records.stage_row(plan) for plan in self.plans],
                "graph": [{"name": stage.name, "after": list(stage.after)} for stage in self.stages],
                "already_done_elements": ledger.settled_elements,
            }
        )
        return recorder

    def _progress(self, ledger: Ledger) -> list[Watch]:
        if self.progress is False or (self.progress is None and self.engine.name == "simulated"):
            return []
        from shaper.report.progress import Progress
        from shaper.report.stages import Stages

        hint = str(getattr(self.engine, "hint", ""))
        shown = Progress(ledger.elements, ledger.settled_elements, hint=hint)
        if len(self.stages) > 1:
            shown.stages = Stages({stage.name: stage.after for stage in self.stages}, self.plans)
        self._closing.callback(shown.close)
        self._growing.append(shown)
        return [shown]

    def _wants(self, known: Beliefs) -> list[Watch]:
        """Says what workers are wanted, where there are workers to be started."""
        from shaper.workers.wants import Announced, Wants

        if not isinstance(self.engine, Announced):
            return []
        return [Wants(self.engine, known, getattr(self.policy, "settings", None))]

    def _tell_stopped(self, ledger: Ledger) -> None:
        if self.run_dir is not None:
            safe = f"{ledger.settled_elements} of {ledger.elements} elements are safe in {self.run_dir}"
            shaper = ["shaper"] if shutil.which("shaper") else [sys.executable, "-m", "shaper"]
            resume = shlex.join([*shaper, "resume", str(self.run_dir)])
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
            if isinstance(error.partial, Mapping):  # what found datasets is no stage of the user's
                error.partial = {stage.name: error.partial.get(stage.name) for stage in self.stages}
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
    """A source that is named like a file is the file, and one with a payload is the payload too, for a resume."""
    if source.identity is not None:
        return source
    known = [stamp] if (stamp := file_stamp(source.id)) is not None else []
    if source.payload is not None:
        known.append(f"payload {fingerprint_of(source.payload)}")
    return replace(source, identity=", ".join(known)) if known else source
