"""Between the core's tasks and the monitor's calls, the same for every engine that runs real functions."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cloudpickle

from shaper.errors import CannotPickle
from shaper.monitor.call import CallReport
from shaper.types import Chunk, Observation, ResultRef, Span, Task


def pickled(chunk: Chunk) -> bytes:
    """A chunk as it travels; the plain pickler would name a payload's class in a script that tasks do not import.

    Raises:
        CannotPickle: the payload of a source cannot be sent.
    """
    lean = _lean(chunk)
    if all(span.source.payload is None for span in chunk.spans):
        return pickle.dumps(lean)
    try:
        data: bytes = cloudpickle.dumps(lean)
    except Exception as error:  # pickling runs the code of the user's types
        raise CannotPickle(
            f"the payload of source {chunk.spans[0].source.id!r} cannot be sent to a task ({error}): open files, locks "
            "and connections in the process function"
        ) from error
    return data


def observed(
    task: Task,
    report: CallReport,
    times_s: tuple[float, float, float],
    worker: str,
    ref: ResultRef | None,
) -> Observation:
    """What a report says of a task that was submitted, started and finished at `times_s`."""
    return Observation(
        task,
        report.outcome,
        report.usage,
        *times_s,
        worker,
        report.detail,
        ref,
        _skipped_spans(task, report),
        report.skip_reasons,
        report.system_oom,
        report.error,
        report.io_error,
    )


def _skipped_spans(task: Task, report: CallReport) -> tuple[Span, ...]:
    if not isinstance(task.work, Chunk):
        return ()
    return tuple(Span(task.work.spans[number].source, start, stop) for number, start, stop in report.skipped)


def _lean(chunk: Chunk) -> Chunk:
    """The chunk without its sources' cuts, which can be thousands and are of no use to a task."""
    if not any(span.source.cuts for span in chunk.spans):
        return chunk
    return replace(
        chunk, spans=tuple(Span(replace(span.source, cuts=()), span.start, span.stop) for span in chunk.spans)
    )
