"""A manager that lives on and takes jobs while others run; they share its workers.

Each job is a run of its own: it has its directory, its report and its policy, and resumes like any other when it is
handed in again under the same name. `shaper.scheduling.live` gives each its cores at every arrival and completion, by
how long it is expected to take; what it is expected to take is what its own tasks have shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from shaper import run_dir as run_dirs
from shaper.api import Result, engine_of, known_of, stages_of
from shaper.engines.engine import Engine, SeesHoles
from shaper.engines.hub import Hub
from shaper.engines.shared import Share
from shaper.errors import BadInput
from shaper.jobs import Job, JobProgress
from shaper.models.beliefs import Beliefs
from shaper.policy import Adaptive, Policy
from shaper.policy.wanted import together
from shaper.scheduling.live import Sharing, Worker, budgets
from shaper.session import Session
from shaper.types import Capacity, Chunk
from shaper.workers.wants import Announced, Announcer

__all__ = ["Job", "JobProgress", "Manager"]

# Of a job: the categories of its stages, and the fingerprints of their functions.
_Kind = tuple[tuple[str, ...], tuple[str, ...]]


class Manager:
    """Runs jobs as they come; they share the workers of one engine. Use it with `with`, or call `close`.

    Args:
        engine: as of `shaper.run`; closed with the manager.
        policy: makes the policy of each job; `Adaptive` by default.
        sharing: how jobs share the workers: `eq-spt` (the default) or another method of `shaper.scheduling`, or a
            `Sharing`.
        run_dir: where the jobs' directories lie; a new one under `shaper-runs` by default.
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
        **engine_options: Any,
    ) -> None:
        self._sharing = sharing if isinstance(sharing, Sharing) else Sharing(sharing)
        self._policy = policy
        made = engine_of(engine, engine_options)
        simulated = made.name == "simulated"
        self._closing = ExitStack()
        self.run_dir = None
        if not simulated or run_dir is not None:
            self.run_dir = run_dirs.find_or_make(run_dir, "manager", run_dirs.MANAGER)
            self._closing.callback(os.close, run_dirs.locked(self.run_dir))
            (self.run_dir / run_dirs.MANAGER).write_text(json.dumps({"engine": made.name}) + "\n")
        made.run_dir = self.run_dir
        self._jobs: dict[str, Job] = {}
        self._learnt: dict[_Kind, Beliefs] = {}
        self._number = 0
        self._closed = False
        self._announcer: Announcer | None = None
        self._hub = Hub(made, self._share_out, self._say)

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
            name: of the job and its directory; the same name in the same `run_dir` resumes.
            priority: jobs of a higher one are served first.
            at_s: when it arrives, in virtual time: there nothing happens until `result` or `close` is called.

        Raises:
            BadInput: an argument cannot be used, the name is that of another job, or the manager is closed.
        """
        if self._closed:
            raise BadInput("the manager is closed: make another one")
        if name is None:
            self._number += 1
            name = f"job-{self._number}"
        if not name or set(name) & set("/\\\0") or name.startswith("."):
            raise BadInput(f"a job's name becomes that of its directory, so without slashes; got {name!r}")
        if name in self._jobs and not self._jobs[name].done():
            raise BadInput(f"a job named {name!r} is running: give this one another name")
        if at_s and not self._hub.virtual:
            raise BadInput("at_s is for the simulated engine: a job arrives when it is handed in")
        stages, single = stages_of(stages_or_dataset, process, merge, self._hub.engine)
        share, policy = Share(self._hub, name), self._policy()
        where = None if self.run_dir is None else Path(self.run_dir) / name
        session = Session(stages, share, policy, where, name, False, None, known_of(warm_start))
        job = Job(name, priority, share, getattr(policy, "settings", None))
        assert job._present is not None
        session.watches.append(job._present)
        self._jobs[name] = job

        try:
            self._hub.add(share, lambda: self._work(job, session, single=single), at_s)
        except BaseException:
            session.close()  # it holds the job's directory
            raise
        return job

    def _work(self, job: Job, session: Session, *, single: bool) -> None:
        """Run a job to its end, in its thread."""
        assert job._present is not None
        job._present.arrived_s = self._hub.engine.now_s
        categories = tuple(sorted(stage.category or stage.name for stage in session.stages))
        kind = categories, tuple(sorted(code.fingerprint for code in session.codes.values()))
        result, error = None, None
        try:
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
        return dict(self._jobs)

    def close(self) -> None:
        """Wait for the jobs that run, and end the engine; may be called twice."""
        if not self._closed:
            self._closed = True
            self._hub.close()
            self._closing.close()

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for job in self._jobs.values():
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
