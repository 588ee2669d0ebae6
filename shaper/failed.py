"""Keeps the work of attempts that failed, so that `shaper debug` can run it again where it can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from shaper.errors import BadInput, Damaged
from shaper.models.beliefs import Beliefs
from shaper.types import (
    Backlog,
    Capacity,
    Chunk,
    Code,
    GiveUp,
    Observation,
    Outcome,
    Shape,
    Task,
    TaskId,
    Verdict,
)

_KEPT = 200  # enough to find out what is wrong; a run of a thousand bad files needs no more


class FailedWork:
    """A watch that writes the chunk of every failed or given-up task into `failed/`, and the functions into `code/`."""

    def __init__(self, run_dir: Path, codes: Sequence[Code]) -> None:
        self._folder = run_dir / "failed"
        self._kept = 0
        code_dir = run_dir / "code"
        code_dir.mkdir(exist_ok=True)
        for code in codes:
            (code_dir / f"{code.stage}.pkl").write_bytes(code.payload)

    def decided(self, now_s: float, capacity: Capacity, backlog: Backlog, shapes: Sequence[Shape]) -> None:
        """Nothing to keep."""

    def submitted(self, task: Task, beliefs: Beliefs) -> None:
        """Nothing to keep."""

    def settled(self, seen: Observation, verdict: Verdict, beliefs: Beliefs) -> None:
        """Keep the work of a task that failed or was given up."""
        bad = seen.outcome is Outcome.FAILED or isinstance(verdict, GiveUp)
        if not bad or not isinstance(seen.task.work, Chunk) or self._kept >= _KEPT:
            return
        self._kept += 1
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{seen.task.id}.pkl"
        path.write_bytes(cloudpickle.dumps((seen.task.stage, seen.task.work, seen.task.resources.cores, seen.detail)))


def load(run_dir: Path, task_id: TaskId) -> tuple[Any, Chunk, str]:
    """Return the process function, the chunk with its cores, and what happened to a task that failed.

    Raises:
        BadInput: no such task is kept; the message lists those that are. Or its functions cannot be imported.
        Damaged: what was kept cannot be read.
    """
    path = run_dir / "failed" / f"{task_id}.pkl"
    if not path.is_file():
        kept = sorted(p.stem for p in (run_dir / "failed").glob("*.pkl"))
        raise BadInput(
            f"{run_dir} keeps no failed task {task_id}; "
            + (f"it keeps {', '.join(kept[:20])}" if kept else "none of its tasks failed")
        )
    try:
        stage, chunk, cores, detail = cloudpickle.loads(path.read_bytes())
        path = run_dir / "code" / f"{stage}.pkl"
        process, _ = cloudpickle.loads(path.read_bytes())
    except ImportError as error:
        raise BadInput(f"{path} needs a module that is not found here: {error}") from error
    except Exception as error:  # a cut pickle raises nearly anything
        raise Damaged(f"{path} cannot be read ({error or type(error).__name__}): run the script again") from error
    return process, Chunk(chunk.spans, cores, chunk.category), detail
