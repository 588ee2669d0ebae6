"""What a run holds of the history: what it begins with, what it has seen, and what it leaves for the next.

Nothing here fails or delays a run by more than a bound: whatever is wrong with the store is one line, and the run goes
on without it.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from shaper.history.place import Place, network_file_system
from shaper.history.seen import Seen
from shaper.history.subject import Subject, subjects_of
from shaper.models.as_json import from_json, runs_from_json, runs_to_json, to_json
from shaper.models.beliefs import Beliefs, CategoryBeliefs
from shaper.types import Backlog, Capacity, Code, Mode, Observation, Shape, Stage, Task, Verdict

if TYPE_CHECKING:
    from shaper.history.store import Found, Store

BELIEFS = "beliefs"
PARALLELISM: Mapping[Mode, str] = {"split": "parallelism, split", "threads": "parallelism, threads"}
# Reading and writing are given up after so long, whatever they wait for: a server, a file system.
BOUND_S = 8.0
# Of a category with more groups those that were seen in this run are kept, and others while there is room.
_GROUPS_KEPT = 256

_Value = TypeVar("_Value")
_said: set[str] = set()


class Memory:
    """A watch of the loop that knows the store; see `opened`.

    Args:
        store: where it lies.
        subjects: what each category of the run is about.
        modes: of the stages, by name.
        engine: its name.

    Attributes:
        documents: parameters of models that the store has, by category and kind; those of beliefs are used here, others
            are for whoever fits such models.
    """

    def __init__(self, store: Store, subjects: Mapping[str, Subject], modes: Mapping[str, str], engine: str) -> None:
        self._store: Store | None = store
        self._subjects = subjects
        self._seen = Seen(modes, engine)
        self._beliefs = Beliefs()
        self._new: dict[str, dict[str, Mapping[str, Any]]] = {}
        self.documents: dict[tuple[str, str], object] = {}

    # -- the beginning --------------------------------------------------------------------------------------------

    def recall(self) -> Beliefs | None:
        """What the next run may begin with; None where nothing is known, or nothing can be read."""
        subjects = list(self._subjects.values())
        found = self._bounded(lambda store: store.find(subjects)) or [None] * len(subjects)
        known = {subject.category: one for subject, one in zip(subjects, found, strict=True) if one is not None}
        self.documents = {(name, kind): body for name, one in known.items() for kind, body in one.documents.items()}
        beliefs = Beliefs()
        for category, one in known.items():
            beliefs = _with(beliefs, category, one)
        return beliefs if beliefs.categories else None

    # -- a watch of the loop --------------------------------------------------------------------------------------

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Nothing is kept of what was wanted."""

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Nothing is kept of what has not ended."""

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Note one attempt, and what is believed after it."""
        self._beliefs = beliefs
        self._seen.settled(seen, verdict)

    # -- the end --------------------------------------------------------------------------------------------------

    def keep(self, category: str, kind: str, document: Mapping[str, Any]) -> None:
        """Leave the parameters of another model for the next run, as JSON with a version of its own."""
        self._new.setdefault(category, {})[kind] = document

    def end(self, status: str) -> None:
        """Write what the run has shown; of a run that has shown nothing, nothing."""
        from shaper.history.store import Entry

        entries = []
        for category, subject in self._subjects.items():
            documents = dict(self._new.get(category, {}))
            if (known := self._worth_keeping(category)) is not None:
                documents[BELIEFS] = to_json(known)
            for mode, name in PARALLELISM.items():
                runs = self._beliefs.parallelism.get((category, mode))
                if runs is not None and runs.last is not None:
                    documents[name] = runs_to_json(runs)
            observations, stage_runs = self._seen.rows(category, status)
            if documents or observations or stage_runs:
                entries.append(Entry(subject, documents, observations, stage_runs))
        if entries:
            self._bounded(lambda store: store.add(uuid.uuid4().hex, entries))

    def _worth_keeping(self, category: str) -> Beliefs | None:
        """The beliefs about a category of which something has finished in this run, ready to be taken over.

        Of groups of which nothing has finished, what an earlier run showed is kept unless it was of other code.
        """
        known = self._beliefs.categories.get(category)
        if known is None or not known.shared.done or self._beliefs.without:
            return None
        seen = {name: own for name, own in known.groups.items() if own.done}
        rest = {name: own for name, own in known.groups.items() if not own.done and not own.doubted}
        groups = dict(list({**seen, **rest}.items())[:_GROUPS_KEPT])
        return replace(self._beliefs, categories={category: CategoryBeliefs(known.shared, groups)}).remembered()

    # -- bounds ---------------------------------------------------------------------------------------------------

    def _bounded(self, work: Callable[[Store], _Value]) -> _Value | None:
        """Do something with the store, for so long at most; on any trouble say so and use it no more."""
        from shaper.history.store import Unusable

        store = self._store
        if store is None:
            return None
        try:
            return within(BOUND_S, lambda: work(store))
        except Unusable as error:
            trouble = str(error)
        except TimeoutError:
            trouble = f"{store.name} does not answer within {BOUND_S:.0f} s"
        except Exception as error:  # a run is worth more than its history, whatever a driver raises
            trouble = f"{store.name} cannot be used: {type(error).__name__}: {error}"
        self._store = None
        say(f"history: {trouble}; this run goes on without it")
        return None


def opened(
    place: Place, run: str, stages: Sequence[Stage], codes: Mapping[str, Code], engine: str, *, quiet: bool = False
) -> Memory | None:
    """Return the memory of a run; None, said once in one line unless quiet, where SQLAlchemy is not installed."""
    try:
        from shaper.history.store import Store
    except ImportError:
        if not quiet:
            say("nothing is remembered for the next run: pip install 'shaper[history]'")
        return None
    if place.path is not None and (kind := network_file_system(place.path)) is not None:
        say(
            f"history: {place.path} lies on a network file system ({kind}), where several managers may damage it: "
            "set SHAPER_HISTORY to a file of this machine, a postgresql:// URL or off"
        )
    modes = {stage.name: stage.mode for stage in stages}
    return Memory(Store(place), subjects_of(run, stages, codes, engine), modes, engine)


def say(text: str) -> None:
    """Print a line on standard error, once in a process."""
    if text not in _said:
        _said.add(text)
        print(f"shaper: {text}", file=sys.stderr)


def within(bound_s: float, work: Callable[[], _Value]) -> _Value:
    """Do something that may hang in the system, and wait for it only so long.

    Raises:
        TimeoutError: it has not ended; it is left behind, in a thread that nothing waits for.
    """
    answer: list[_Value] = []
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(work())
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run, name="shaper history", daemon=True)
    until_s = time.monotonic() + bound_s
    thread.start()
    thread.join(max(0.0, until_s - time.monotonic()))
    if trouble:
        raise trouble[0]
    if not answer:
        raise TimeoutError
    return answer[0]


def _with(beliefs: Beliefs, category: str, found: Found) -> Beliefs:
    """Add what is known about a category, trusted as far as it is about the same."""
    if BELIEFS not in found.documents:
        return beliefs
    known = _read(from_json, found.documents[BELIEFS], repr(category))
    if known is None or category not in known.categories:
        return beliefs
    known = known.remembered() if found.exact else known.doubtful()
    beliefs = replace(
        beliefs,
        categories={**beliefs.categories, category: known.categories[category]},
        dispatch_s=beliefs.dispatch_s or known.dispatch_s,
    )
    # How other code scales is worth less than the probe that finds it out.
    for mode, name in PARALLELISM.items():
        if name in found.documents and found.exact:
            runs = _read(runs_from_json, found.documents[name], f"the {name}, of {category!r}")
            if runs is not None:
                beliefs = replace(beliefs, parallelism={**beliefs.parallelism, (category, mode): runs})
    return beliefs


def _read(read: Callable[[object], _Value], document: object, about: str) -> _Value | None:
    """What a document says; None, said in one line, where it makes no sense."""
    try:
        return read(document)
    except Exception as error:  # a run is worth more than its history, whatever is in it
        say(f"history: what it holds about {about} is ignored: {error}")
        return None
