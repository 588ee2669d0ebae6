"""Traces of real clusters in the Standard Workload Format, plain or compressed.

A line is a job: 18 numbers, of which -1 is unknown; lines that begin with a semicolon are comments.

Source: Parallel Workloads Archive, "The Standard Workload Format", version 2.2.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shaper.errors import BadInput
from shaper.scheduling.checks import ENDLESS_S

_FIELDS = 18
_NUMBER, _SUBMIT, _RUN, _PROCESSORS, _REQUESTED, _STATUS = 0, 1, 3, 4, 7, 10
_PARTS = (2, 3, 4)  # states of a part of a job that has a line of its own
_DIGITS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # float() takes 1_0 and digits of others
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Record:
    """One job of a trace; None is unknown."""

    number: int
    submit_s: float
    run_s: float | None
    processors: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """The jobs of a trace, in its order.

    Attributes:
        troubles: a line for each line that could not be used: its number, and why.
        parts: how many lines tell of a part of a job only, and are left out.
    """

    records: tuple[Record, ...]
    troubles: tuple[str, ...]
    parts: int = 0


def read(path: str | Path) -> Trace:
    """Read a trace.

    Raises:
        BadInput: there is no such file, or nothing in it is a job.
    """
    path = Path(path)
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if packed.startswith(_GZIP) else packed).decode("utf-8-sig", "replace")
    except FileNotFoundError as error:
        raise BadInput(f"there is no trace {path}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"the trace {path} cannot be read: {error}") from error
    found = parse(text.split("\n"))  # splitlines() would count other marks as line ends
    if not found.records:
        reason = f"; {found.troubles[0]}" if found.troubles else ""
        raise BadInput(f"{path} holds no jobs in the Standard Workload Format{reason}")
    return found


def parse(lines: Iterable[str]) -> Trace:
    """Make records of lines; what is wrong with one is told with its number, from 1."""
    records: list[Record] = []
    troubles: list[str] = []
    seen: set[int] = set()
    parts = 0
    for at, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        made = _record(line, seen)
        if isinstance(made, str):
            troubles.append(f"line {at}: {made}")
        elif made is None:
            parts += 1
        else:
            seen.add(made.number)
            records.append(made)
    return Trace(tuple(records), tuple(troubles), parts)


def _record(line: str, seen: set[int]) -> Record | str | None:
    """The job of a line, what is wrong with it, or None for a part of a job."""
    words = line.split()
    if len(words) != _FIELDS:
        return f"{len(words)} fields instead of {_FIELDS}"
    values = []
    for at, word in enumerate(words, start=1):
        if not _DIGITS.fullmatch(word) or math.isinf(float(word)):
            return f"field {at} is no number: {word[:30]!r}"
        values.append(float(word))
    if values[_STATUS] in _PARTS:
        return None
    number = int(values[_NUMBER])
    if number in seen:
        return f"job {number} was there before"
    if values[_SUBMIT] < 0:
        return f"job {number} has no submit time"
    used = values[_PROCESSORS] if values[_PROCESSORS] > 0 else values[_REQUESTED]
    run_s = values[_RUN] if values[_RUN] != -1 else None
    # Its work is what its run times are made of, so that has to be a number too.
    if run_s is not None and (run_s < 0 or (run_s > 0 and used >= 1 and not 1 / ENDLESS_S < run_s * used < ENDLESS_S)):
        return f"job {number} cannot have run for {run_s:g} s on {used:g} processors"
    return Record(number, values[_SUBMIT], run_s, int(used) if used >= 1 else None)
