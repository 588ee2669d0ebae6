"""The values that travel: what a run is made of, what a task is given, what was seen of it, what was decided.

All are frozen and check themselves once, at birth. Units stand in names (`_s`, `_mib`, `_bytes`); unknown is None.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from shaper.errors import BadInput

TaskId = str  # "SESSION.NUMBER", unique across the sessions of one run
Mode = Literal["split", "threads"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A named, countable input. It stands for its id: prints, opens, hashes and compares with a string as it.

    Args:
        id: unique within a dataset, for instance a path.
        elements: how many elements it holds; None when it has to be counted first.
        start: number of its first element.
        cuts: preferred boundaries, increasing, for instance ROOT cluster edges.
        group: part of the dataset whose tasks share beliefs of their own.
        payload: anything the process function needs; opaque to shaper.
        identity: what must not change between a run and its resume, for instance size and checksum.
    """

    id: str
    elements: int | None
    start: int = 0
    cuts: tuple[int, ...] = ()
    group: str = ""
    payload: Any = None
    identity: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise BadInput(f"a source needs a name, got {self.id!r}")
        for name, least in (("elements", 0), ("start", 0)):
            value = getattr(self, name)
            if value is None and name == "elements":
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
                raise BadInput(f"source {self.id!r}: {name} must be a whole number >= 0, got {value!r}")
            object.__setattr__(self, name, value.__index__())  # of numpy too
        if any(a >= b for a, b in pairwise(self.cuts)):
            raise BadInput(f"source {self.id!r}: cuts must increase")

    @property
    def stop(self) -> int:
        """One past the number of its last element."""
        if self.elements is None:
            raise BadInput(f"source {self.id!r} has not been counted")
        return self.start + self.elements

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, str):
            return self.id == other
        if isinstance(other, Source):
            return (self.id, self.elements, self.start, self.group) == (
                other.id,
                other.elements,
                other.start,
                other.group,
            )
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __fspath__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range [start, stop) of one source."""

    source: Source
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not self.start < self.stop:
            raise BadInput(f"empty span [{self.start}, {self.stop}) of {self.source}")

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        # An indivisible item is one element, whatever it holds: a range would say nothing.
        return self.source.id if self.source.elements == 1 else f"{self.source}[{self.start}:{self.stop}]"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one processing task gets: spans, perhaps of several sources, and on the worker the cores it may use."""

    spans: tuple[Span, ...]
    cores: int | None = None
    category: str = "processing"
    elements: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.spans:
            raise BadInput("a chunk needs at least one span")
        object.__setattr__(self, "elements", sum(s.stop - s.start for s in self.spans))

    def __len__(self) -> int:
        return self.elements

    @property
    def group(self) -> str:
        """The group of its sources; a chunk never crosses groups."""
        return self.spans[0].source.group

    def __str__(self) -> str:
        more = f" and {len(self.spans) - 1} more" if len(self.spans) > 1 else ""
        return f"{self.spans[0]}{more}"


@dataclass(frozen=True, slots=True)
class Merge:
    """A set of results that one accumulating task combines, in this order."""

    inputs: tuple[TaskId, ...]
    elements: int
    input_bytes: int | None = None
    category: str = "accumulating"

    @property
    def group(self) -> str:
        """Merges belong to no group."""
        return ""

    def __str__(self) -> str:
        return f"{len(self.inputs)} results"


Work = Chunk | Merge


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a process function returns to leave spans out on purpose; they are reported, not counted as done.

    Args:
        value: result of the rest; None when nothing is left.
        spans: the spans that were skipped.
        reasons: one line for each span.
    """

    value: Any
    spans: tuple[Span, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a workload.

    Args:
        name: unique within a run.
        dataset: a mapping source id -> elements, an iterable of Source, a reader, or a function that returns one of
            these from the values of the stages in `after`, in that order.
        process: function of a Chunk, returns a result that pickles.
        merge: function of two results, returns their combination; associative, and commutative unless `ordered`.
        after: names of the stages this one waits for.
        category: name under which tasks share beliefs; the stage's own by default.
        mode: `split` cuts the stage into tasks, `threads` gives one task several cores.
        ordered: merge results in the order of the dataset.
    """

    name: str
    dataset: Any
    process: Callable[[Chunk], Any] | None = None
    merge: Callable[[Any, Any], Any] | None = None
    after: tuple[str, ...] = ()
    category: str | None = None
    mode: Mode = "split"
    ordered: bool = False

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not name or set(name) & set("/\\\0") or name.startswith("."):
            raise BadInput(f"a stage's name becomes part of file names, so text without slashes; got {name!r}")
        if isinstance(self.after, str):
            raise BadInput(f"stage {name!r}: after is a sequence of names, write after=[{self.after!r}]")
        after = tuple(self.after) if isinstance(self.after, Iterable) else None
        if after is None or not all(isinstance(parent, str) for parent in after):
            raise BadInput(f"stage {name!r}: after holds the names of stages, got {self.after!r:.60}")
        object.__setattr__(self, "after", after)
        if self.category is not None and (not isinstance(self.category, str) or not self.category):
            raise BadInput(f"stage {name!r}: category is a name, or None, got {self.category!r}")
        if self.mode not in get_args(Mode):
            raise BadInput(f"stage {name!r}: mode is 'split' or 'threads', got {self.mode!r}")
        for what in ("process", "merge"):
            function = getattr(self, what)
            if function is not None and not callable(function):
                raise BadInput(f"stage {name!r}: {what} is a function, got {function!r:.60}")


@dataclass(frozen=True, slots=True)
class Code:
    """The functions of a stage, ready to travel.

    Args:
        stage: name of the stage.
        payload: `cloudpickle.dumps((process, merge))`.
        fingerprint: changes when the functions do; compared on resume.
    """

    stage: str
    payload: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task is given: a limit as well as a request."""

    cores: int
    memory_mib: int
    disk_mib: int | None = None
    wall_s: float | None = None

    def __post_init__(self) -> None:
        if self.cores < 1 or self.memory_mib < 1:
            raise BadInput(f"a task needs at least 1 core and 1 MiB, got {self.cores} cores and {self.memory_mib} MiB")

    def fits(self, other: Resources) -> bool:
        """Say whether a task of these resources fits a worker of `other`."""
        return (
            self.cores <= other.cores
            and self.memory_mib <= other.memory_mib
            and (self.disk_mib is None or other.disk_mib is None or self.disk_mib <= other.disk_mib)
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """The I/O errors that a piece of work has met, one attempt after the other, and how long it waits for the next.

    Args:
        since_s, failed_s: when the first and the last of them was seen.
        until_s: no attempt before this time.
        failures: how many there were.
        excused: how many of them say nothing about the work, because nothing else could be read either.
    """

    since_s: float
    failed_s: float
    until_s: float
    failures: int
    excused: int


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt at one piece of work. A retry is a new task with a new id and `attempt` one higher.

    Args:
        reason: why it was cut this size, in words.
        losses: how many of the attempts before this one were lost, through no fault of the work.
        beside: tasks in flight when it was released; None where that is not known.
        durable: whether its result must outlive its worker; otherwise an engine that can leaves it there.
        pause: the I/O errors that earlier attempts have met; None where there were none.
        mode: of its stage.
        parallelism: at most so many tasks of its stage were to run at once when it was cut; None: as many as fit.
    """

    id: TaskId
    stage: str
    group: str
    category: str
    work: Work
    resources: Resources
    worker_kind: str | None = None
    attempt: int = 1
    reason: str = ""
    losses: int = 0
    beside: int | None = None
    durable: bool = True
    pause: Pause | None = None
    mode: Mode = "split"
    parallelism: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt was measured to use; None where it was not measured.

    Args:
        wall_s: run time of the call alone.
        cpu_s: user and system time of the whole process tree.
        cores: average cores used, cpu_s / wall_s.
        cores_peak: most cores in use over a sampling window.
        memory_mib: peak over the process tree, inherited pages included; limits use the same figure.
        disk_mib: peak size of the sandbox.
        read_bytes: bytes read through system calls (page cache included).
        result_bytes: size of the pickled result.
        overhead_s: time of the attempt outside the call: fork, unpickling, writing the result.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    cores: float | None = None
    cores_peak: float | None = None
    memory_mib: float | None = None
    disk_mib: float | None = None
    read_bytes: int | None = None
    result_bytes: int | None = None
    overhead_s: float | None = None


class Outcome(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_DISK = "out of disk"
    OUT_OF_TIME = "out of time"
    LOST = "lost"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def exhausted(self) -> bool:
        """Whether a limit was exceeded."""
        return self in _EXHAUSTED


_EXHAUSTED = frozenset({Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_DISK, Outcome.OUT_OF_TIME})


@dataclass(frozen=True, slots=True)
class ResultRef:
    """Where a result lies, and how to know that it is whole.

    Args:
        place: relative to the run directory, or the engine's own name for it.
        size_bytes: size of the pickled result.
        checksum: CRC-32 of the pickled result, eight hexadecimal digits.
        durable: whether it outlives the worker that made it.
    """

    place: str
    size_bytes: int
    checksum: str
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished attempt, as the engine saw it, times on the engine's clock.

    Args:
        detail: what happened, in words for the user: the limit and the use, the signal, the traceback's end.
        result: where the result lies; None unless DONE with a result.
        skipped: spans the process function left out on purpose.
        skip_reasons: one line for each of them.
        system_oom: OUT_OF_MEMORY by the system's killer, not by the task's own limit.
        error: the pickled exception of a FAILED attempt, where it pickles.
        io_error: the exception says that data could not be read or written, but not that a file is missing or denied.
    """

    task: Task
    outcome: Outcome
    usage: Usage | None
    submitted_s: float
    started_s: float | None
    finished_s: float
    worker: str = ""
    detail: str = ""
    result: ResultRef | None = None
    skipped: tuple[Span, ...] = ()
    skip_reasons: tuple[str, ...] = ()
    system_oom: bool = False
    error: bytes | None = None
    io_error: bool = False


@dataclass(frozen=True, slots=True)
class ResultLost:
    """Accepted results that are gone; their spans have to be processed again."""

    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class StageRun:
    """How long a stage, or a part of it, took at one parallelism: what models of parallelism learn from.

    Args:
        category: of its processing tasks.
        mode: what `s` counts: `split` tasks side by side, `threads` cores of one task.
        s: the parallelism.
        elements: that were processed.
        stage_elements: of the whole stage.
        load: tasks of other stages that ran beside it, on average.
        wall_s: from the start of the first task to the end of the last; in mode `threads` of one task.
    """

    stage: str
    category: str
    mode: Mode
    s: int
    elements: int
    stage_elements: int
    load: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """Workers of one size.

    Args:
        name: for instance `4x8000`.
        cores, memory_mib, disk_mib: of one worker.
        count: how many are connected.
        free_cores: over all of them.
    """

    name: str
    cores: int
    memory_mib: int
    count: int
    disk_mib: int | None = None
    free_cores: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """The connected workers by kind, largest memory first; empty when none is connected.

    Args:
        waiting: tasks submitted that have not been started: the newest, as tasks start in the order of submission.
        grace_s: how long it is worth waiting for a larger worker than these; 0 where none can come.
        others: cores that tasks of other jobs use, where several share the workers.
    """

    kinds: tuple[WorkerKind, ...] = ()
    waiting: int = 0
    grace_s: float = 0.0
    others: int = 0

    @property
    def cores(self) -> int:
        """Cores of all connected workers."""
        return sum(k.cores * k.count for k in self.kinds)

    @property
    def largest(self) -> WorkerKind | None:
        """The connected kind with the most memory (then cores)."""
        present = [k for k in self.kinds if k.count > 0]
        if len(present) == 1:
            return present[0]
        return max(present, key=lambda k: (k.memory_mib, k.cores), default=None)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the policy wants next for one group of one stage.

    Args:
        worker_kind: for which kind of worker; None for any.
        elements: chunksize; an upper bound, cuts may make a chunk smaller.
        in_flight: keep this many such tasks submitted.
        reason: in words a user can read.
        fan_in: set for accumulating tasks: how many results one merge combines (`elements` is then ignored).
        cross_sources: whether one chunk may hold spans of several sources; otherwise each source is cut into
            the smallest number of equal pieces not above `elements`.
        durable: whether results must outlive their workers; otherwise they may stay there until they are merged.
        save_before_s: set for accumulating tasks: results that have been on workers since before this are merged
            first, and what comes out of them is durable.
        fresh: whether new pieces may be cut; else only what waits to run again is released.
        parallelism: at most so many tasks of the stage run at once; None: as many as fit.
    """

    stage: str
    group: str
    worker_kind: str | None
    elements: int
    in_flight: int
    reason: str
    fan_in: int | None = None
    cross_sources: bool = True
    durable: bool = True
    save_before_s: float | None = None
    fresh: bool = True
    parallelism: int | None = None


def last_shapes(shapes: Iterable[Shape]) -> list[Shape]:
    """The last shape of each group, and of its merges: a policy may ask for several sizes at once, as for probes."""
    return list({(shape.stage, shape.group, shape.fan_in is not None): shape for shape in shapes}.values())


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the result; `skipped` spans are reported and never processed."""

    skipped: tuple[Span, ...] = ()
    reason: str = "finished"


@dataclass(frozen=True, slots=True)
class Retry:
    """Run the same work again, with these resources; None: as if it were new, cut smaller if that is wanted then.

    Args:
        waits: for a larger worker than any that is connected; otherwise it gets no more than the largest has.
        pause: I/O errors, after which it waits.
    """

    resources: Resources | None
    reason: str = ""
    waits: bool = False
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Run the same elements again, as these pieces."""

    pieces: tuple[Chunk, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Process no more of this work; everything else finishes, then the run raises with this reason.

    Args:
        whole_stage: nor of the rest of its stage.
    """

    reason: str
    whole_stage: bool = False


Verdict = Accept | Retry | Split | GiveUp


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take a submitted task back."""

    task_id: TaskId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GroupBacklog:
    """What one group of one stage still has to do.

    Args:
        pending_elements: not in flight and not settled.
        waiting: pieces already cut (retries, splits) that wait to be submitted again; their elements are pending.
        in_flight: processing tasks submitted and not settled.
        in_flight_elements: their elements.
    """

    stage: str
    group: str
    category: str
    mode: Mode
    pending_elements: int
    waiting: int
    in_flight: int
    in_flight_elements: int


@dataclass(frozen=True, slots=True)
class StageBacklog:
    """What one stage still has to do as a whole.

    Args:
        category: of its accumulating tasks.
        results: accepted results that are not in a merge.
        merging: accumulating tasks in flight.
        processing_left: whether processing work is still pending or in flight.
        in_flight: processing tasks submitted and not settled, of all groups.
        pending_elements: not in flight and not settled, of all groups.
        result_bytes: mean size of the results that are not in a merge; None where it was not measured.
        unsaved_since_s: since when, on the engine's clock, work is done whose result would be lost with a worker.
    """

    stage: str
    category: str
    results: int
    merging: int
    processing_left: bool
    in_flight: int = 0
    pending_elements: int = 0
    result_bytes: int | None = None
    in_flight_elements: int = 0
    unsaved_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """All that is left, kept up incrementally by the ledger."""

    groups: Sequence[GroupBacklog] = ()
    stages: Sequence[StageBacklog] = ()


Dataset = Mapping[str, int] | Iterable[Source]
