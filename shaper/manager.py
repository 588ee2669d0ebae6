"""A manager that lives on and takes jobs while others run; they share its workers.

Each job is a run of its own: it has its directory, its report and its policy, and resumes like any other when it is
handed in again under the same name. `shaper.scheduling.live` gives each its cores at every arrival and completion, by
how long it is expected to take; what it is expected to take is what its own tasks have shown.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from shaper import run_dir as run_dirs
from shaper.api import Result, engine_of, known_of, stages_of
from shaper.engines.engine import Engine
from shaper.engines.shared import Hub, Share
from shaper.errors import BadInput, Cancelled
from shaper.models.beliefs import Beliefs
from shaper.policy import Adaptive, Policy
from shaper.policy.wanted import Cut, Wanted, note, wanted
from shaper.scheduling import MoldableJob
from shaper.scheduling.live import LiveJob, Sharing, Worker, budgets
from shaper.session import Session
from shaper.types import Accept, Backlog, Capacity, Chunk, Merge, Observation, Shape, Task, Verdict


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Args:
        elements: of its stages that have begun.
        done: of them with an accepted result.
        cores: that it may use now; None while it has the workers to itself.
        running: its tasks that the engine has.
    """

    elements: int
    done: int
    cores: int | None
    running: int


class Job:
    """What `submit` gives back.

    Attributes:
        name: unique among the jobs of its manager.
        priority: jobs of a higher one are served first; may be set while it runs.
    """

    def __init__(self, name: str, priority: int, share: Share) -> None:
        self.name, self.priority = name, priority
        self._share = share
        self._watch = _JobWatch()
        self._over = threading.Event()
        self._cancelled = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._arrived_s = 0.0

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the job to end, and return what `shaper.run` would.

        Raises:
            TimeoutError: it has not ended; ask again.
            Cancelled: `cancel` was called.
            ShaperError: as of `shaper.run`.
        """
        self._share.wanted()
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"job {self.name!r} has not ended within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def cancel(self) -> bool:
        """Stop it at its next turn; what is done stays in its directory. Return whether it had not ended yet."""
        if self._over.is_set():
            return False
        self._cancelled = True
        self._share.fail(Cancelled(f"job {self.name!r} was cancelled; what is done is kept in its directory"))
        return True

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        done, elements = self._watch.counts()
        return JobProgress(elements, done, self._share.cores, self._share.in_flight)


@dataclass
class _JobWatch:
    """A watch of one job's loop: what is left, and how long it may take."""

    backlog: Backlog | None = None
    beliefs: Beliefs = field(default_factory=Beliefs)
    busy_s: float = 0.0
    done_elements: int = 0
    elements: int = 0
    sizes: dict[tuple[str, str | None], int] = field(default_factory=dict)

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Note what is left."""
        self.backlog = backlog
        left = sum(one.pending_elements + one.in_flight_elements for one in backlog.stages)
        self.elements = self.done_elements + left
        note(self.sizes, shapes)

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Nothing is noted of what has not ended."""

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Note what was done."""
        self.beliefs = beliefs
        if isinstance(verdict, Accept) and seen.started_s is not None:
            self.busy_s += (seen.finished_s - seen.started_s) * seen.task.resources.cores
            if not isinstance(seen.task.work, Merge):
                self.done_elements += seen.task.work.elements

    def counts(self) -> tuple[int, int]:
        """Elements done, and of all stages that have begun."""
        return self.done_elements, max(self.elements, self.done_elements)

    def as_live(self, name: str, arrived_s: float, cores: int, priority: int, most: int) -> LiveJob:
        """The job as the scheduler sees it: what was done and what is left, side by side as far as it can be cut."""
        found = wanted(self.beliefs, self.backlog, Cut(self.sizes)) if self.backlog is not None else Wanted()
        if found.work_s is None:
            return LiveJob(MoldableJob(name, arrived_s, [1.0]), known=False, cores=cores, priority=priority)
        whole_s = max(self.busy_s + found.work_s, 1e-3)
        wide = max(1, min(most, sum(row.count * row.cores for row in found.tasks)))
        times = [whole_s / j for j in range(1, wide + 1)]
        done = min(1.0, self.busy_s / whole_s)
        return LiveJob(MoldableJob(name, arrived_s, times), cores=cores, done=done, priority=priority)


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
        self._learnt: dict[tuple[str, ...], Beliefs] = {}
        self._number = 0
        self._closed = False
        self._hub = Hub(made, self._share_out)

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
        share = Share(self._hub, name)
        where = None if self.run_dir is None else Path(self.run_dir) / name
        session = Session(stages, share, self._policy(), where, name, False, None, known_of(warm_start))
        prints = tuple(sorted(code.fingerprint for code in session.codes.values()))
        if not session.known and prints in self._learnt:
            session.beliefs, session.known = self._learnt[prints].remembered(), True
        job = Job(name, priority, share)
        session.watches.append(job._watch)
        self._jobs[name] = job

        def work() -> None:
            job._arrived_s = self._hub.engine.now_s
            try:
                report, values = session.go()
                value = values[stages[0].name] if single else values
                job._result = Result(value, report, session.run_dir, session.beliefs)
                if prints:
                    self._learnt[prints] = session.beliefs
            except BaseException as error:  # the caller's thread raises it
                job._error = error
            finally:
                session.close()
                job._over.set()

        try:
            self._hub.add(share, work, at_s)
        except BaseException:
            session.close()  # it holds the job's directory
            raise
        return job

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
        if len(shares) < 2:
            given: dict[str, int | None] = {share.run: None for share in shares}
        else:
            jobs = [self._jobs[share.run] for share in shares]
            live = [
                job._watch.as_live(job.name, job._arrived_s, job._share.cores or 0, job.priority, capacity.cores)
                for job in jobs
            ]
            workers = [Worker(kind.cores, kind.cores) for kind in capacity.kinds for _ in range(kind.count)]
            found = budgets(live, workers, self._hub.engine.now_s, self._sharing)
            given = {str(budget.id): budget.cores for budget in found}
        for share in shares:
            share.may_use(given[share.run])
