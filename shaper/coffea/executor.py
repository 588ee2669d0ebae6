"""The executor that a coffea Runner takes: `Runner(executor=ShaperExecutor(), ...)` is the only change."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea.processor.accumulator import accumulate
from coffea.processor.executor import ExecutorBase

from shaper import api
from shaper.code import fingerprint_of
from shaper.coffea import function as functions
from shaper.coffea import items as work_items
from shaper.engines.engine import Engine
from shaper.errors import BadInput, Broken, Incomplete, ProcessFailed
from shaper.policy import Policy
from shaper.types import Stage

_numbers = itertools.count(1)


@dataclass
class ShaperExecutor(ExecutorBase):  # type: ignore[misc]  # coffea has no types
    """Runs a coffea analysis with chunks, memory and parallelism that are found while it runs.

    The Runner's `chunksize` no longer matters. Its items are joined file by file and cut anew; with `reshape=False`
    they run as they are. `compression` is ignored: results stay on disk, uncompressed, and are merged there.

    Args:
        engine: `"local"` or an engine object.
        policy: `Adaptive()` by default.
        cores, memory: of the local engine, for instance 4 and "8GB"; the whole machine by default.
        run_dir: where runs are kept, in folders `preprocessing` and `processing`; a new directory under `shaper-runs`
            by default, which this attribute then names. With the same one the same analysis resumes.
        resume: whether to go on with what run_dir holds; by default where it was given.
        reshape: join and re-cut the Runner's items.
        align: keep the Runner's cuts as preferred boundaries; set it together with `align_clusters`.
        recoverable: return what was finished together with the exception, as FuturesExecutor does.
        retries: must stay 0: the Runner would retry inside the task, hiding from shaper what went wrong; a failed task
            is run again from outside, see `Adaptive(retries=...)`.
    """

    engine: str | Engine = "local"
    policy: Policy | None = None
    cores: int | None = None
    memory: str | int | None = None
    run_dir: str | Path | None = None
    reshape: bool = True
    align: bool = False
    recoverable: bool = False
    retries: int = 0
    resume: bool | None = None

    def __post_init__(self) -> None:
        if self.retries != 0:
            raise BadInput(
                f"retries={self.retries!r}: must be 0, coffea would retry inside the task; "
                "use policy=shaper.policy.Adaptive(retries=...) to run failed tasks again"
            )
        # Runner works on copies of this instance; they are made with every attribute that is set here.
        if self.resume is None:
            self.resume = self.run_dir is not None
        if self.run_dir is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.run_dir = Path(api.RUNS).absolute() / f"coffea-{stamp}-{os.getpid()}-{next(_numbers)}"

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        """Process items and accumulate their outputs onto `accumulator`.

        Raises:
            the function's own exception, as coffea's executors do, when it failed for some item; every failed file is
                named in its notes, and everything else has finished.
            Incomplete: items have no output for another reason, for instance memory.
            Broken: coverage cannot be proven. A bug in shaper.
        """
        given = work_items.sources(items, reshape=self.reshape, align=self.align)
        if not given:
            return accumulator, 0
        process = functions.Process(function, skips=functions.skips_bad_files(function))
        name = "preprocessing" if self.desc == "Preprocessing" else "processing"
        given_options = {"cores": self.cores, "memory": self.memory}
        options: dict[str, Any] = {key: value for key, value in given_options.items() if value is not None}
        try:
            result = api.run(
                Stage(name, given, process, functions.merge),
                engine=self.engine,
                policy=self.policy,
                run_dir=self._folder(name),
                name=self.function_name or name,
                progress=None if self.status else False,
                fingerprint=fingerprint_of(functions.with_processor_loaded(function)),
                **options,
            )
        except (ProcessFailed, Incomplete) as error:
            return self._failed(error, name, accumulator)
        self._tell_skipped(result.report.skipped)
        self._prove(given, result)
        return accumulate([result.value, accumulator]), 0

    def _folder(self, name: str) -> Path:
        """The folder of one run; a fresh one for every call that is not to resume."""
        folder = Path(self.run_dir or ".") / name
        if self.resume:
            return folder
        numbered = (folder.with_name(f"{name}-{number}") for number in itertools.count(2))
        return next(path for path in itertools.chain([folder], numbered) if not path.exists())

    def _failed(
        self, error: ProcessFailed | Incomplete, name: str, accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        cause = error.__cause__
        raised: BaseException = error if cause is None else cause
        if cause is not None:
            for line in error.missing:
                raised.add_note(f"no output for {line}")
            raised.add_note(f"everything else is kept in {self.run_dir}")
        if not self.recoverable:
            raise raised
        partial = error.partial
        value = partial.get(name) if isinstance(partial, Mapping) else None
        return accumulate([value, accumulator]), raised

    @staticmethod
    def _tell_skipped(skipped: Iterable[str]) -> None:
        lines = list(skipped)
        if lines:
            listed = "\n  ".join(lines)
            warnings.warn(f"{len(lines)} pieces were skipped:\n  {listed}", stacklevel=5)

    @staticmethod
    def _prove(given: list[Any], result: api.Result) -> None:
        """Compare coffea's own account of what was processed with what was given, file by file."""
        value = result.value
        if not isinstance(value, Mapping) or not isinstance(value.get("processed"), set):
            return
        faults = work_items.uncovered(given, value["processed"], result.report.skipped_spans)
        if faults:
            raise Broken("coverage is not whole: " + "; ".join(faults[:10]))


__all__ = ["ShaperExecutor"]
