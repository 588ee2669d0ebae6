"""The manager loop: the only place where policy, ledger and engine meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from shaper.engines.engine import Engine
from shaper.errors import Incomplete, Stalled
from shaper.ledger import Ledger, StagePlan
from shaper.models.beliefs import Beliefs
from shaper.phases import Phases
from shaper.policy import outage
from shaper.policy.policy import Policy
from shaper.types import Backlog, Capacity, Observation, ResultLost, Shape, Task, TaskId, Verdict


class Journal(Protocol):
    """Keeps what is settled, so that it outlives this process."""

    def record(self, seen: Observation, verdict: Verdict) -> None: ...

    def lost(self, task_ids: Sequence[TaskId]) -> None: ...


class Inbox(Protocol):
    """Where stages arrive while the run goes on."""

    def take(self) -> Sequence[StagePlan]: ...


class Watch(Protocol):
    """Whoever wants to see what happens: progress, records, tallies. Calls must be cheap."""

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None: ...

    def submitted(self, task: Task, beliefs: Beliefs) -> None: ...

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None: ...


def run(
    ledger: Ledger,
    policy: Policy,
    engine: Engine,
    journal: Journal,
    inbox: Inbox,
    watch: Watch,
    *,
    tick_s: float = 0.25,
    beliefs: Beliefs | None = None,
) -> Beliefs:
    """Drive the ledger until nothing is left; return what was learnt.

    Args:
        tick_s: how long to wait for the first thing that ends.
        beliefs: what to begin with; by default what the policy holds before anything was seen, or nothing.

    Raises:
        Stalled: tasks wait that nothing can ever run.
        Broken: a law of the core does not hold.
    """
    beliefs = beliefs or getattr(policy, "prior", None) or Beliefs()
    phases = Phases()
    while True:
        while plans := inbox.take():
            ledger.add(plans)
        if ledger.finished:
            break
        capacity, backlog = engine.capacity(), ledger.backlog
        phases.others = capacity.others
        shapes = outage.held(policy.shapes(beliefs, capacity, backlog), beliefs)
        engine.cancel(policy.revise(beliefs, capacity, ledger.in_flight, engine.now_s))
        watch.decided(engine.now_s, capacity, backlog, shapes)
        allocate = partial(policy.allocate, beliefs=beliefs, capacity=capacity)
        largest = capacity.largest
        most_mib = largest.memory_mib if largest is not None else None
        for task in ledger.release(shapes, allocate, most_mib, engine.now_s):
            watch.submitted(task, beliefs)
            engine.submit(task)
            phases.submitted(task)
        if not ledger.in_flight and largest is not None and not ledger.pausing(engine.now_s):
            raise Stalled(f"the policy {policy.name!r} asks for nothing, but work is left")
        for seen in engine.wait(tick_s):
            if isinstance(seen, ResultLost):
                journal.lost(seen.task_ids)
                ledger.reopen(seen.task_ids)
                continue
            beliefs = beliefs.updated(seen)
            verdict = policy.judge(seen, beliefs, capacity)
            released = ledger.settle(seen, verdict)
            stage = seen.task.stage
            run = phases.settled(seen, verdict, ledger.elements_of(stage), left=ledger.processing_left(stage))
            if run is not None:
                beliefs = beliefs.ran(run)
            journal.record(seen, verdict)
            watch.settled(seen, verdict, beliefs)
            if released:
                engine.release(released)
        ledger.check_sums()
    ledger.check()
    return beliefs


def outcome(ledger: Ledger, engine: Engine) -> Mapping[str, object]:
    """Return the merged value of every stage; None for a stage whose every element was skipped.

    Raises:
        Incomplete: some elements have no result; carries what there is and what is missing.
    """
    values = {name: None if root is None else engine.fetch(root) for name, root in ledger.roots().items()}
    missing = ledger.missing()
    if missing:
        shown = "; ".join(line.splitlines()[0] for line in missing[:3]) + (
            f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        )
        count = "1 part" if len(missing) == 1 else f"{len(missing)} parts"
        raise Incomplete(f"no result for {count} of the dataset: {shown}", values, missing)
    return values
