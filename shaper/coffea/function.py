"""The functions that run in a task: coffea's own, called for each piece of a chunk, its outputs accumulated."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import lz4.frame
from coffea.processor.accumulator import accumulate

from shaper.coffea.items import carve
from shaper.types import Chunk, Skipped, Span

_COMPRESSED = "processor_instance"


class Process:
    """Calls the Runner's function for every item of a chunk.

    A piece for which the function returns None was skipped by it (`skipbadfiles`): its span is reported with the
    warning that said why, and the other pieces of the chunk are kept.

    Args:
        function: what the Runner gave to the executor.
        skips: whether a None means a skipped file; otherwise it is simply no output.
    """

    def __init__(self, function: Callable[[Any], Any], *, skips: bool) -> None:
        self.function = function
        self.skips = skips

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        # Unpickled once in the warm parent: the processor is decompressed there, not once for every piece.
        self.function = with_processor_loaded(self.function)

    def __call__(self, chunk: Chunk) -> Any:
        """Return the accumulated output of the chunk."""
        value = None
        skipped: list[Span] = []
        reasons: list[str] = []
        for span, item in carve(chunk):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                output = self.function(item)
            said = _again(caught)
            if output is None and self.skips:
                skipped.append(span)
                reasons.append(said or "skipped by the function, which returned None")
            elif output is not None:
                value = output if value is None else accumulate([value, output])
        return Skipped(value, tuple(skipped), tuple(reasons)) if skipped else value


def _again(caught: list[warnings.WarningMessage]) -> str:
    """Pass recorded warnings on; return what coffea said of a skipped file."""
    said = ""
    for warning in caught:
        text = str(warning.message)
        if text.startswith("Skipping bad file"):
            said = text
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    return said


def merge(a: Any, b: Any) -> Any:
    """Add two outputs as coffea does."""
    if a is None or b is None:
        return b if a is None else a
    return accumulate([a, b])


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
