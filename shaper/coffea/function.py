"""The functions that run in a task: coffea's own, called for each piece of a chunk, its outputs accumulated."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import cloudpickle
import lz4.frame
from coffea.processor.accumulator import accumulate

from shaper.coffea.items import carve
from shaper.types import Chunk, Skipped, Span

_COMPRESSED = "processor_instance"
_SKIPPING = "Skipping bad file"
_WHY = "The last exception was: "


class Process:
    """Calls the Runner's function for every item of a chunk.

    Every item gets a processor that no other item has used, as with coffea's executors: some keep their output in
    themselves. The first one of a chunk was unpickled beforehand, in the warm parent that the task is a fork of.

    A piece for which the function returns None was skipped by it (`skipbadfiles`): its span is reported with the
    warning that said why, and the other pieces of the chunk are kept.

    Args:
        function: what the Runner gave to the executor.
        skips: whether a None means a skipped file; otherwise it is simply no output.
    """

    def __init__(self, function: Callable[[Any], Any], *, skips: bool) -> None:
        self._ready: Callable[[Any], Any] | None = function
        self._packed: bytes | None = None
        self._skips = skips

    def __getstate__(self) -> tuple[bytes, bool]:
        packed = self._packed or cloudpickle.dumps(with_processor_loaded(self._ready))
        return packed, self._skips

    def __setstate__(self, state: tuple[bytes, bool]) -> None:
        self._packed, self._skips = state
        self._ready = pickle.loads(self._packed)

    def __call__(self, chunk: Chunk) -> Any:
        """Return the accumulated output of the chunk."""
        skipped: list[tuple[Span, str]] = []
        value = accumulate(self._outputs(chunk, skipped))
        if not skipped:
            return value
        spans, reasons = zip(*skipped, strict=True)
        return Skipped(value, spans, reasons)

    def _outputs(self, chunk: Chunk, skipped: list[tuple[Span, str]]) -> Iterator[Any]:
        """Yield one output after the other, so that no more than the sum and one of them are in memory."""
        for span, item in carve(chunk):
            said: list[str] = []
            with _listening(said) if self._skips else nullcontext():
                output = self._unused()(item)
            if output is None and self._skips:
                skipped.append((span, said[-1] if said else "skipped by the function, which returned None"))
            yield output

    def _unused(self) -> Callable[[Any], Any]:
        if self._packed is None:
            self._packed, _ = self.__getstate__()
        function, self._ready = self._ready, None
        fresh: Callable[[Any], Any] = function or pickle.loads(self._packed)
        return fresh


@contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """Keep what coffea says of a file that it skips; other warnings go their way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_SKIPPING)
        show = warnings.showwarning

        def hear(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
            text = str(message)
            if text.startswith(_SKIPPING):
                said.append(text.partition(_WHY)[2] or text)
            else:
                show(message, category, *where, **how)

        warnings.showwarning = hear
        yield


def merge(a: Any, b: Any) -> Any:
    """Add two outputs as coffea does, in place where that gives the same."""
    return accumulate((b,), a) if _addable_in_place(a, b) else accumulate((a, b))


def _addable_in_place(a: Any, b: Any) -> bool:
    """Whether every mapping in `b` may be added to its counterpart in `a`: coffea wants its type to be as special."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return isinstance(b, type(a)) and all(_addable_in_place(a[key], b[key]) for key in b if key in a)
    return True


def with_processor_loaded(function: Any) -> Any:
    """Replace the Runner's compressed processor inside nested partials by the processor itself."""
    if not isinstance(function, functools.partial):
        return function
    keywords = dict(function.keywords)
    packed = keywords.get(_COMPRESSED)
    if isinstance(packed, bytes):
        keywords[_COMPRESSED] = cloudpickle.loads(lz4.frame.decompress(packed))
    return functools.partial(
        with_processor_loaded(function.func), *[with_processor_loaded(arg) for arg in function.args], **keywords
    )


def skips_bad_files(function: Any) -> bool:
    """Whether the Runner was told to skip files that cannot be read: its retry wrapper then swallows the exception."""
    if not isinstance(function, functools.partial) or len(function.args) < 2:
        return False
    return bool(function.args[1]) and not function.keywords.get("use_result_type", False)


def uses_checkpoints(function: Any) -> bool:
    """Whether outputs may come from a checkpointer of the Runner instead of from processing."""
    if not isinstance(function, functools.partial):
        return False
    inner = (function.func, *function.args)
    return function.keywords.get("checkpointer") is not None or any(uses_checkpoints(part) for part in inner)
