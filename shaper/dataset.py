"""What a user may hand in as a dataset, turned into counted sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shaper.errors import BadInput
from shaper.types import Source

# A dataset that is a function of other stages' values is found by a task, of a stage with a name that begins so.
_OF = "dataset of "


def counting(stage: str) -> str:
    """The name of the stage whose one task finds the dataset of another."""
    return _OF + stage


def counted(stage: str) -> str | None:
    """The stage whose dataset a stage finds; None where it is one of the user's."""
    return stage.removeprefix(_OF) if stage.startswith(_OF) else None


def as_sources(dataset: Any, *, found: bool = False) -> tuple[Source, ...]:
    """Return the sources of a dataset: a mapping name -> elements, or an iterable of Source (a reader is one).

    Args:
        found: from the values of other stages, which may have nothing to process; what was given by hand and holds
            nothing is a mistake.

    Raises:
        BadInput: something else was given, two sources have one name, or there is nothing to process.
    """
    if isinstance(dataset, Mapping):
        sources = tuple(_from_pair(name, count) for name, count in dataset.items())
    elif isinstance(dataset, Iterable) and not isinstance(dataset, str | bytes):
        sources = tuple(dataset)
    else:
        raise BadInput(f"a dataset is a mapping of names to numbers of elements, or Sources; got {_show(dataset)}")
    seen: set[str] = set()
    for source in sources:
        if not isinstance(source, Source):
            raise BadInput(f"a dataset holds shaper.Source objects, got {_show(source)}")
        if source.id in seen:
            raise BadInput(f"two sources are named {source.id!r}: name each source once")
        if source.elements is None:
            raise BadInput(f"source {source.id!r} has no number of elements: count it first, or use a reader")
        seen.add(source.id)
    if found:
        return sources
    if not sources:
        raise BadInput("the dataset is empty: it names no source")
    if not any(source.elements for source in sources):
        raise BadInput(f"the dataset has {len(sources)} sources and zero elements: there is nothing to process")
    return sources


def _from_pair(name: object, count: object) -> Source:
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise BadInput(f"source {name!r}: the number of elements must be a whole number, got {_show(count)}")
    return Source(str(name), count.__index__())


def _show(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
