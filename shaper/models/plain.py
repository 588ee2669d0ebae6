"""Values as plain lists and dictionaries and back: nothing in them can be executed, and all of it is checked.

Fields that have their default are left out, so a field that is added later needs no new version; one whose meaning
changes does.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from shaper.errors import BadInput
from shaper.models.line import Bin, Line, bin_of
from shaper.models.runs import Estimate, Run, finite

Part = Callable[[str, Any], Any]  # a part of a document, by its name and type


class _Learnt(Protocol):
    """What all models of parallelism have."""

    @property
    def runs(self) -> Sequence[Run]: ...

    def predict(self, s: int, gamma: float, load: float) -> Estimate: ...


Model = TypeVar("Model", bound=_Learnt)

_MOST = 1e18  # no count, size or time is more
_LOG_MOST = 100.0  # nor is any logarithm
# Numbers that may be below zero; no others may. Some are logarithms.
_LOGARITHM = re.compile(r"\.(log_y|bends\.\d+\.\d+)$")
_SIGNED = re.compile(r"\.(covariance\.\d+|last_error)$")
_ANY = re.compile(r"^(t1_s|kept_s\.\d+)$")  # of a model that was told absurd times


def restored(name: str, kept: object, read: Callable[[Part], Model]) -> Model:
    """Read a model of parallelism back from what its `to_json` gave.

    Args:
        name: of the model.
        kept: a document.
        read: makes the model of the parts of the document.

    Raises:
        BadInput: it is of another model, something is missing or impossible, or it predicts nothing.
    """
    try:
        if not isinstance(kept, Mapping) or kept.get("model") != name:
            raise BadInput(f"it is none of {name}")
        model = read(lambda part, kind: decoded(kind, kept.get(part), part))
        if model.runs:
            run = model.runs[-1]
            mean = model.predict(run.s, run.gamma, run.load).mean
            if not finite(mean):
                raise BadInput(f"it predicts {mean} s")
    except (ArithmeticError, ValueError) as error:
        raise BadInput(f"not a kept model of parallelism, forget it: {error}") from error
    return model


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
    if kind is Run:
        if not isinstance(data, list) or len(data) != 4:
            raise _wrong(where, "a list of 4", data)
        return Run(*data)  # checks itself
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, where)
    if hasattr(kind, "_fields"):
        return kind(*_sequence(list(_hints(kind).values()), data, where, kind._fields))
    if origin is Literal:
        if data not in get_args(kind):
            raise _wrong(where, f"one of {get_args(kind)}", data)
        return data
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
    unbounded = _ANY.search(where) is not None
    signed = log or unbounded or _SIGNED.search(where) is not None
    most = _LOG_MOST if log else math.inf if unbounded else _MOST
    if not finite(data) or abs(data) > most or (data < 0 and not signed):
        raise BadInput(f"{where}: {data!r} is out of range")
    return kind(data)


def _wrong(where: str, wanted: str, got: object) -> BadInput:
    return BadInput(f"{where}: wanted {wanted}, got {type(got).__name__}")
