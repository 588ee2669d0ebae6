"""Beliefs as plain dictionaries and back, for other runs: nothing in them can be executed, and all of it is checked.

Fields that have their default are left out, so a field that is added later needs no new version; one whose meaning
changes does.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from shaper.errors import BadInput
from shaper.models.beliefs import Beliefs, CategoryBeliefs, StageRuns
from shaper.models.line import Bin, Line, bin_of
from shaper.models.parallelism import ParallelismModel

VERSION = 1

_MOST = 1e18  # no count, size or time is more
_LOG_MOST = 100.0  # nor is any logarithm
# Numbers that may be below zero; no others may. Some are logarithms.
_LOGARITHM = re.compile(r"\.(log_y|bends\.\d+\.\d+)$")
_COVARIANCE = re.compile(r"\.covariance\.\d+$")


def to_json(beliefs: Beliefs) -> dict[str, Any]:
    """What was learnt as a document of JSON: categories and the pace of dispatch.

    What is about the clock of one run (starts, I/O errors that go on) is left out.
    """
    return {
        "version": VERSION,
        "observations": beliefs.version,
        "dispatch_s": beliefs.dispatch_s,
        "without": sorted(beliefs.without),
        "categories": {name: encoded(known) for name, known in beliefs.categories.items()},
    }


def from_json(document: object) -> Beliefs:
    """Return the beliefs of a document.

    Raises:
        BadInput: it is of another version, or no such document; the message says where it is wrong.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"beliefs are an object, got {type(document).__name__}")
    if document.get("version") != VERSION:
        raise BadInput(f"beliefs of version {document.get('version')!r} are not known here, only {VERSION}")
    return Beliefs(
        decoded(Mapping[str, CategoryBeliefs], document.get("categories"), "categories"),
        decoded(float, document.get("dispatch_s", 0.0), "dispatch_s"),
        version=decoded(int, document.get("observations", 0), "observations"),
        without=decoded(frozenset[str], document.get("without", []), "without"),
    )


def runs_to_json(runs: StageRuns) -> dict[str, Any]:
    """What the runs of a category's stages have shown about parallelism, as a document of JSON."""
    return {"version": VERSION, "base_elements": runs.base_elements, "model": runs.model.to_json()}


def runs_from_json(document: object) -> StageRuns:
    """Return the runs of a document.

    Raises:
        BadInput: it is of another version, or no such document.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"what is known about parallelism is an object, got {type(document).__name__}")
    if document.get("version") != VERSION:
        raise BadInput(f"version {document.get('version')!r} is not known here, only {VERSION}")
    base, model = document.get("base_elements"), document.get("model")
    if isinstance(base, bool) or not isinstance(base, int) or base < 1 or not isinstance(model, Mapping):
        raise BadInput(f"a baseline of {base!r} elements and a model of type {type(model).__name__}")
    return StageRuns(base, model=ParallelismModel.from_json(model))


def encoded(value: Any) -> Any:
    """A belief (a bin, a line, a model, a group, a category) as plain lists and dictionaries."""
    if dataclasses.is_dataclass(value):
        found = {}
        for item in dataclasses.fields(value):
            inner = getattr(value, item.name)
            default = item.default_factory() if callable(item.default_factory) else item.default
            if inner != default:
                found[item.name] = encoded(inner)
        return found
    if isinstance(value, Mapping):
        return {str(key): encoded(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [encoded(inner) for inner in value]
    return value


def decoded(kind: Any, data: object, where: str = "value") -> Any:
    """Return the value of a type that `encoded` has made, checked.

    Raises:
        BadInput: it is of another shape, or out of range; the message says where.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (each for each in get_args(kind) if each is not type(None))
        return None if data is None else decoded(inner, data, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, where)
    if kind is Bin:
        return Bin(*_sequence([float] * 4, data, where, Bin._fields))
    if origin is tuple:
        inside = get_args(kind)
        if inside[-1] is Ellipsis:
            inside = (inside[0],) * (len(data) if isinstance(data, list) else 0)
        return tuple(_sequence(inside, data, where))
    if origin is frozenset:
        if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
            raise _wrong(where, "a list of strings", data)
        return frozenset(data)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(kind, data, where)
    return _plain(kind, data, where)


def _dataclass(kind: Any, data: object, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    hints = _hints(kind)
    if strange := data.keys() - hints.keys():
        raise BadInput(f"{where}: {min(map(str, strange))!r} is not known")
    try:
        value = kind(**{name: decoded(hints[name], inner, f"{where}.{name}") for name, inner in data.items()})
    except TypeError as error:
        raise BadInput(f"{where}: {error}") from error
    if isinstance(value, Line) and (value.floor <= 0 or value.intercept + value.slope <= 0):
        raise BadInput(f"{where}: a line must lie above zero")
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _mapping(kind: Any, data: object, where: str) -> dict[Any, Any]:
    of_key, of_value = get_args(kind)
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    found: dict[Any, Any] = {}
    for text, inner in data.items():
        try:
            key = of_key(text)
        except ValueError:
            raise _wrong(where, "numbers as keys", text) from None
        value = found[key] = decoded(of_value, inner, f"{where}.{text}")
        # A running mean may come to lie on the other side of an edge, by rounding.
        if of_value is Bin and (value.weight <= 0 or value.x <= 0 or abs(bin_of(value.x) - key) > 1):
            raise BadInput(f"{where}.{text}: no bin of that number holds {value.x!r}")
    return found


def _sequence(kinds: Any, data: object, where: str, names: tuple[str, ...] = ()) -> list[Any]:
    if not isinstance(data, list) or len(data) != len(kinds):
        raise _wrong(where, f"a list of {len(kinds)}", data)
    pairs = zip(kinds, data, strict=True)
    return [decoded(kind, item, f"{where}.{names[n] if names else n}") for n, (kind, item) in enumerate(pairs)]


def _plain(kind: Any, data: object, where: str) -> Any:
    if kind in (str, bool):
        if not isinstance(data, kind):
            raise _wrong(where, f"a {kind.__name__}", data)
        return data
    if isinstance(data, bool) or not isinstance(data, int if kind is int else int | float):
        raise _wrong(where, "a number", data)
    log = _LOGARITHM.search(where) is not None
    signed = log or _COVARIANCE.search(where) is not None
    if not math.isfinite(data) or abs(data) > (_LOG_MOST if log else _MOST) or (data < 0 and not signed):
        raise BadInput(f"{where}: {data!r} is out of range")
    return kind(data)


def _wrong(where: str, wanted: str, got: object) -> BadInput:
    return BadInput(f"{where}: wanted {wanted}, got {type(got).__name__}")
