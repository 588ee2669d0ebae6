"""A manager that lives on and takes jobs while others run; they share its workers.

Each job is a run of its own: it has its directory, its report and its policy, and resumes like any other when it is
handed in again under the same name. `shaper.scheduling.live` gives each its cores at every arrival and completion, by
how long it is expected to take; what it is expected to take is what its own tasks have shown.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shaper import run_dir as run_dirs
from shaper.api import Result, engine_of, is_a_trial, known_of, policy_of, stages_of
from shaper.engines.engine import Engine, SeesHoles
from shaper.engines.hub import Hub
from shaper.engines.shared import Share
from shaper.errors import BadInput
from shaper.history.memory import opened
from shaper.history.place import place as place_of
from shaper.jobs import Job, JobProgress
from shaper.models.beliefs import Beliefs
from shaper.policy import Adaptive, Policy
from shaper.policy.wanted import together
from shaper.scheduling.checks import real, short
from shaper.scheduling.live import Sharing, Worker, budgets
from shaper.session import Session
from shaper.types import Capacity, Chunk
from shaper.workers.wants import Announced, Announcer

__all__ = ["Job", "JobProgress", "Manager"]

if TYPE_CHECKING:
    from shaper.history.shared import SharedStore

# In the manager's directory: the jobs', apart from what the engine keeps there.
_JOBS = "jobs"
# Files of a job are named after it, and file systems take 255 bytes.
_NAME_BYTES = 200
# Of a job: the categories of its stages, and the fingerprints of their functions.
_Kind = tuple[tuple[str, ...], tuple[str, ...]]


class Manager:
    """Runs jobs as they come; they share the workers of one engine. Use it with `with`, or call `close`.

    Args:
        engine: as of `shaper.run`; closed with the manager.
        policy: called to make the policy of each job: `Adaptive`, which is the default, or `lambda: Adaptive(...)`.
        sharing: how jobs share the workers: `eq-spt` (the default) or another method of `shaper.scheduling`, or a
            `Sharing`.
        run_dir: of the manager; those of the jobs are in its folder `jobs`. A new one under `shaper-runs` by default.
        history: as of `shaper.run`, for every job.
        engine_options: for an engine given by name.

    Raises:
        BadInput: an argument cannot be used.
    """

    def __init__(
        self,
        engine: str | Engine = "local",
        *,
        policy: Callable[[], Policy] = Adaptive,
        sharing: str | Sharing = "eq-spt",
        run_dir: str | os.PathLike[str] | None = None,
        history: bool | str | os.PathLike[str] | None = None,
        **engine_options: Any,
    ) -> None:
        self._sharing = sharing if isinstance(sharing, Sharing) else Sharing(sharing)
        if not callable(policy):
            raise BadInput(f"policy is called for every job: Adaptive, or lambda: Adaptive(...), not {short(policy)}")
        self._policy = policy
        made = engine_of(engine, engine_options)
        simulated = made.name == "simulated"
        self._remembers_trials = history is not None
        place = place_of(history) if history is not None or not simulated else None
        self._closing = ExitStack()
        self.run_dir = None
        if not simulated or run_dir is not None:
            self.run_dir = run_dirs.find_or_make(run_dir, "manager", run_dirs.MANAGER)
            self._closing.callback(os.close, run_dirs.locked(self.run_dir))
            (self.run_dir / run_dirs.MANAGER).write_text(json.dumps({"engine": made.name}) + "\n")
        made.run_dir = self.run_dir
        self._store: SharedStore | None = None
        if place is not None and opened(place, "", (), {}, made.name) is not None:  # it says what is wrong
            from shaper.history.shared import SharedStore

            self._store = SharedStore(place)
        self._lock = threading.Lock()  # held by who changes the next two
        self._jobs: dict[str, Job] = {}
        self._number = 0
        self._learnt: dict[_Kind, Beliefs] = {}
        self._announcer: Announcer | None = None
        self._hub = Hub(made, self._share_out, self._say)
        if not simulated:
            atexit.register(self._at_exit)
            self._closing.callback(atexit.unregister, self._at_exit)

    def submit(
        self,
        stages_or_dataset: Any,
        *,
        process: Callable[[Chunk], Any] | None = None,
        merge: Callable[[Any, Any], Any] | None = None,
        name: str | None = None,
        priority: int = 0,
        warm_start: str | os.PathLike[str] | Result | Beliefs | None = None,
        at_s: float = 0.0,
    ) -> Job:
        """Take a job in; returns at once.

        Args:
            stages_or_dataset, process, merge, warm_start: as of `shaper.run`. A job with the functions of one that has
                ended begins with what that one has learnt.
            name: of the job and its directory; the same name in the same `run_dir` resumes. `job-1`, `job-2` and so on
                by default.
            priority: a whole number; jobs of a higher one are served first.
            at_s: when it arrives, in virtual time: there nothing happens until `result` or `close` is called.

        Raises:
            BadInput: an argument cannot be used, the name is that of another job, or the manager is closed.
        """
        self._hub.coming.check()
        if not 0.0 <= real(at_s) < math.inf:
            raise BadInput(f"at_s must be a finite number of at least 0, got {short(at_s)}")
        if at_s and not self._hub.virtual:
            raise BadInput("at_s is for the simulated engine: a job arrives when it is handed in")
        stages, single = stages_of(stages_or_dataset, process, merge, self._hub.engine)
        known, policy = known_of(warm_start), policy_of(self._policy())
        with self._lock:
            name = self._named(name)
            before = self._jobs.get(name)
            share = Share(self._hub, name)
            job = Job(name, priority, share, getattr(policy, "settings", None))
            self._jobs[name] = job
        with ExitStack() as undo:
            undo.callback(self._forget, job, before)
            where = None if self.run_dir is None else self.run_dir / _JOBS / name
            session = Session(stages, share, policy, where, name, False, None, known)
            undo.callback(session.close)  # it holds the job's directory
            if self._store is not None and (self._remembers_trials or not is_a_trial(self._hub.engine, policy)):
                session.memory = self._store.memory(name, stages, session.codes, self._hub.engine.name)
            assert job._present is not None
            session.watches.append(job._present)
            self._hub.coming.add(share, partial(self._work, job, session, single), at_s)
            undo.pop_all()
        return job

    def _named(self, name: str | None) -> str:
        """The name of a new job, checked, or the next that is free."""
        while name is None:
            self._number += 1
            if f"job-{self._number}" not in self._jobs:
                name = f"job-{self._number}"
        if not isinstance(name, str) or not name or "/" in name or "\\" in name or name.startswith("."):
            raise BadInput(f"a job's name becomes that of its directory, so without slashes; got {short(name)}")
        if not name.isprintable() or len(name.encode()) > _NAME_BYTES:
            raise BadInput(f"a job's name is printable and at most {_NAME_BYTES} bytes long; got {short(name)}")
        if name in self._jobs and not self._jobs[name].done():
            raise BadInput(f"a job named {name!r} is running: give this one another name")
        return name

    def _forget(self, job: Job, before: Job | None) -> None:
        """Undo a job that could not be handed in."""
        job._end(None, BadInput(f"job {job.name!r} could not be handed in"))
        with self._lock:
            del self._jobs[job.name]
            if before is not None:
                self._jobs[job.name] = before

    def _work(self, job: Job, session: Session, single: bool, error: BaseException | None) -> None:
        """Run a job to its end, in its thread; or end it with an error before it has begun."""
        assert job._present is not None
        job._present.arrived_s = self._hub.engine.now_s
        categories = tuple(sorted(stage.category or stage.name for stage in session.stages))
        kind = categories, tuple(sorted(code.fingerprint for code in session.codes.values()))
        result = None
        try:
            if error is not None:
                raise error
            if not session.known and kind in self._learnt:
                session.beliefs, session.known = self._learnt[kind].remembered(), True
            report, values = session.go()
            value = values[session.stages[0].name] if single else values
            result = Result(value, report, session.run_dir, session.beliefs)
            self._learnt[kind] = session.beliefs
        except BaseException as raised:  # the caller's thread raises it
            error = raised
        finally:
            session.close()
            job._end(result, error)

    @property
    def jobs(self) -> Mapping[str, Job]:
        """All jobs by name, those that have ended too."""
        with self._lock:
            return dict(self._jobs)

    def close(self) -> None:
        """Wait for the jobs that run, and end the engine; may be called twice."""
        self._hub.close()
        self._closing.close()

    def _at_exit(self) -> None:
        """The program ends without `close`: leave the workers, and the jobs as they are."""
        running = [name for name, job in self.jobs.items() if not job.done()]
        self._hub.leave()
        self._closing.close()
        if running:
            print(
                f"shaper: the manager was not closed, and {len(running)} of its jobs had not ended; what is done is "
                f"kept in {self.run_dir}: use `with shaper.Manager(...)`, or call close()",
                file=sys.stderr,
            )

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for job in self.jobs.values():
                job.cancel()
        self.close()

    def _share_out(self, shares: Sequence[Share], capacity: Capacity) -> None:
        """Give each job its cores."""
        jobs = [self._jobs[share.run] for share in shares]
        live = [job._present.live(job.priority, capacity) for job in jobs if job._present is not None]
        if len(live) == 1 and not live[0].one_task:
            shares[0].may_use(None)
            return
        found = budgets(live, self._workers(capacity), self._hub.engine.now_s, self._sharing)
        for share, one, budget in zip(shares, live, found, strict=True):
            share.may_use(budget.cores, for_one=one.one_task)

    def _workers(self, capacity: Capacity) -> list[Worker]:
        """The workers, with their holes; where the engine does not know these, as large as they can be."""
        engine = self._hub.engine
        if isinstance(engine, SeesHoles):
            return [Worker(cores, free) for cores, free in engine.holes()]
        found = []
        for kind in capacity.kinds:
            free = kind.free_cores
            for _ in range(kind.count):
                found.append(Worker(kind.cores, min(kind.cores, free)))
                free -= found[-1].free
        return found

    def _say(self, shares: Iterable[Share], capacity: Capacity) -> None:
        """Say what all jobs want of workers."""
        engine = self._hub.engine
        if self._announcer is None and isinstance(engine, Announced):
            self._announcer = Announcer(engine)
        if self._announcer is not None:
            present = [one for share in shares if (one := self._jobs[share.run]._present) is not None]
            self._announcer.say(engine.now_s, capacity, lambda: together(one.wanted() for one in present))
