"""What travels between an engine and a supervisor: a call, and the report on it."""

from __future__ import annotations

from dataclasses import dataclass

from shaper.types import Outcome, Resources, Usage

SkippedRange = tuple[int, int, int]  # position of the span in the chunk, first element, one past the last


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt.

    Args:
        name: of the attempt, for its sandbox and logs.
        stage: whose functions to call.
        work: a pickled Chunk, or the paths and checksums of the results to merge, in order.
        resources: limits; a limit that is None is not enforced.
        result_path: where the pickled result goes.
        sandbox: folder for what the attempt writes for itself (TMPDIR), made and removed around it.
        log_stem: standard output and error go to this path with `.out` and `.err`.
        environment: variables that are set for it.
    """

    name: str
    stage: str
    work: bytes | tuple[tuple[str, str], ...]
    resources: Resources
    result_path: str
    sandbox: str
    log_stem: str
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CallReport:
    """How an attempt ended.

    Args:
        checksum: of the result; None when there is none.
        damaged: position of the merge input that could not be read; None otherwise.
        disk_full: the result could not be written; nothing is wrong with the work.
        io_error: see `Observation`.
        imported: modules that the call imported, to be warm next time.
    """

    name: str
    outcome: Outcome
    usage: Usage
    detail: str = ""
    checksum: str | None = None
    skipped: tuple[SkippedRange, ...] = ()
    skip_reasons: tuple[str, ...] = ()
    error: bytes | None = None
    system_oom: bool = False
    damaged: int | None = None
    disk_full: bool = False
    io_error: bool = False
    imported: tuple[str, ...] = ()
