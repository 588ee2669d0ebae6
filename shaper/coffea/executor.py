"""The executor that a coffea Runner takes: `Runner(executor=ShaperExecutor(), ...)` is the only change."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coffea.processor.accumulator import accumulate
from coffea.processor.executor import WorkItem

from shaper import api
from shaper import run_dir as run_dirs
from shaper.code import fingerprint_of
from shaper.coffea import function as functions
from shaper.coffea import items as work_items
from shaper.coffea import names
from shaper.coffea.shared import Asked, Shared
from shaper.engines.engine import Engine
from shaper.errors import BadInput, Broken, Changed, Incomplete
from shaper.policy import Policy
from shaper.types import Source, Stage

_numbers = itertools.count(1)
_STAGES = ("preprocessing", "processing")


@dataclass
class ShaperExecutor(names.Foreign):  # type: ignore[misc]  # coffea has no types
    """Runs a coffea analysis with chunks, memory and parallelism that are found while it runs.

    The Runner's `chunksize` no longer matters. Its items are joined file by file and cut anew; with `reshape=False`
    they run as they are. `compression` is ignored: results stay on disk, uncompressed, and are merged there.

    Options of coffea's executors for Work Queue and TaskVine are taken too: port, manager_name, password_file, ssl,
    treereduction, dynamic_chunksize, environment_file, x509_proxy and extra_input_files do here what they do there, the
    others are named in a warning (`names.py`).

    Args:
        engine: `"local"`, `"workqueue"`, `"taskvine"` or an engine object.
        policy: `Adaptive()` by default.
        cores, memory: of the local engine, for instance 4 and "8GB"; the whole machine by default. On the others, as
            in coffea: the cores of one task, and the most memory that it may get (MiB, or a string with a unit).
        run_dir: where runs are kept, in folders `preprocessing` and `processing` (`processing-2` for the second call,
            and so on); a new directory under `shaper-runs` by default, which this attribute then names. With the same
            one the same analysis resumes.
        resume: whether to go on with what run_dir holds; by default where it was given.
        reshape: join and re-cut the Runner's items.
        align: keep the Runner's cuts as preferred boundaries. A Runner with `align_clusters` and coffea's own metadata
            cache needs no such hint: cuts are then at cluster edges where the chunksize allows it.
        recoverable: return what was finished together with the exception, as FuturesExecutor does.
        retries: on the local engine it must stay 0: the Runner would retry inside the task, hiding from shaper what
            went wrong. Elsewhere it becomes `Adaptive(retries=...)`, which runs a failed task again from outside.
        history: as that of `shaper.run`: what earlier runs have shown, to begin with.
        shared: with the copies that a Runner makes: the engine between calls, and how many calls have finished. Leave
            it alone.

    The engine stays open from one call to the next: workers stay connected, functions loaded. It is closed with the
    last reference to the executor, at the end of the interpreter, after an error, by `close`, or by `with`:

        with ShaperExecutor(engine="workqueue") as executor:
            output = Runner(executor, schema=NanoAODSchema)(fileset, processor)
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
    history: bool | str | Path | None = None
    shared: Shared = field(default_factory=Shared, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.retries != 0 and self.engine == "local":
            raise BadInput(
                f"retries={self.retries!r}: must be 0, coffea would retry inside the task; "
                "use policy=shaper.policy.Adaptive(retries=...) to run failed tasks again"
            )
        if self.policy is None or self.retries:
            self.policy = names.policy(self)
        self.retries = 0
        names.warn_of_no_use(self)
        # Runner works on copies of this instance, made with every attribute it has: what is chosen here is theirs too.
        if self.run_dir is None:
            self.run_dir = _asked_for()
        if self.resume is None:
            self.resume = self.run_dir is not None
        if self.run_dir is None:
            runs = Path(os.environ.get("SHAPER_RUNS", run_dirs.RUNS)).absolute()
            self.run_dir = runs / f"coffea-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}"

    def __call__(self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any) -> Any:
        """Process items and accumulate their outputs onto `accumulator`.

        Returns:
            the accumulator and 0, or with `recoverable` the exception; as coffea's executors, the accumulator alone
            where there are no items.

        Raises:
            the function's own exception, as coffea's executors do, when it failed for some item; every failed file is
                named in its notes, and everything else has finished.
            Incomplete: items have no output for another reason, for instance memory.
            Broken: coverage cannot be proven. A bug in shaper.
        """
        given = work_items.sources(items, reshape=self.reshape, align=self.align)
        if not given:
            return accumulator
        function = functions.with_processor_loaded(function)
        failure = None
        try:
            result = self._run(given, function)
        except Incomplete as error:
            failure = error
        # Raised outside the except clause: the user is told of the original exception, not of how it got here.
        if failure is not None:
            return self._failed(failure, accumulator)
        self._tell_skipped(result.report.skipped)
        self._prove(given, result, moved=functions.uses_checkpoints(function))
        return accumulate([result.value, accumulator]), 0

    def close(self) -> None:
        """Leave the workers and end the processes that are kept for the next call."""
        self.shared.close()

    def __enter__(self) -> ShaperExecutor:
        return self

    def __exit__(self, *how: object) -> None:
        self.close()

    @property
    def _stage(self) -> str:
        return "preprocessing" if self.desc == "Preprocessing" else "processing"

    def _run(self, given: list[Source], function: Callable[[Any], Any]) -> api.Result:
        name = self._stage
        process = functions.Process(function, skips=functions.skips_bad_files(function))
        stage = Stage(name, given, process, functions.merge)
        asked = Asked(self.engine, names.engine_options(self))
        with self.shared.engine(asked) as engine:
            for number in itertools.count(self.shared.calls.get(name, 0) + 1):
                folder = Path(self.run_dir or ".") / (name if number == 1 else f"{name}-{number}")
                if folder.exists() and not self.resume:
                    continue
                try:
                    result = api.run(
                        stage,
                        engine=engine,
                        policy=self.policy,
                        run_dir=folder,
                        name=self.function_name or name,
                        progress=None if self.status else False,
                        fingerprint=fingerprint_of(function),
                        history=self.history,
                    )
                except Changed:
                    # Which metadata are fetched depends on what the Runner has in its cache.
                    if name == "preprocessing":
                        continue
                    raise
                self.shared.calls[name] = number
                return result
        raise AssertionError("unreachable")

    def _failed(self, error: Incomplete, accumulator: Any) -> tuple[Any, BaseException]:
        cause = error.__cause__
        raised: BaseException = error if cause is None else cause
        if cause is not None:
            for line in error.missing:
                raised.add_note(f"no output for {line}")
            raised.add_note(f"what is done is kept in {self.run_dir}")
        if not self.recoverable:
            raise raised
        partial = error.partial
        value = partial.get(self._stage) if isinstance(partial, Mapping) else None
        return accumulate([value, accumulator]), raised

    def _tell_skipped(self, skipped: Iterable[str]) -> None:
        lines = list(skipped)
        if lines:
            what = "1 piece was" if len(lines) == 1 else f"{len(lines)} pieces were"
            listed = "\n  ".join(lines)
            warnings.warn(f"{what} skipped:\n  {listed}", stacklevel=3)

    @staticmethod
    def _prove(given: list[Source], result: api.Result, *, moved: bool) -> None:
        """Compare coffea's own account of what was processed with what was given, file by file."""
        processed = result.value.get("processed") if isinstance(result.value, Mapping) else None
        if not isinstance(processed, set) or not all(isinstance(item, WorkItem) for item in processed):
            return  # not the Runner's function: what it has processed only the ledger knows, and has checked
        faults = work_items.uncovered(given, processed, result.report.skipped_spans, moved=moved)
        if faults:
            raise Broken("coverage is not whole: " + "; ".join(faults[:10]))


def _asked_for() -> Path | None:
    """The run directory that `shaper run` or `shaper resume` asked for, unless it is that of a plain run."""
    asked = os.environ.get("SHAPER_RUN_DIR")
    if not asked:
        return None
    path = Path(asked).absolute()
    if path.name.partition("-")[0] in _STAGES:
        path = path.parent
    elif (path / "run.json").exists():
        return None
    del os.environ["SHAPER_RUN_DIR"]
    return path


__all__ = ["ShaperExecutor"]
