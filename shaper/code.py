"""A stage's functions made ready to travel, and fingerprints that change when code, values or files do."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib.util
import os
import pickle
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from shaper.errors import BadInput, CannotPickle
from shaper.types import Code

_DEPTH = 12


def pack(stage: str, process: Callable[..., Any], merge: Callable[..., Any], fingerprint: str | None = None) -> Code:
    """Pickle a stage's functions by value where they are not importable.

    Raises:
        BadInput: one of them is not callable.
        CannotPickle: they hold something that cannot travel; the message names it.
    """
    for name, function in (("process", process), ("merge", merge)):
        if not callable(function):
            raise BadInput(f"stage {stage!r}: {name} must be a function, got {type(function).__name__}")
    try:
        payload = cloudpickle.dumps((process, merge))
    except Exception as error:  # pickling runs user code: __reduce__, __getstate__
        culprit = "process" if not _pickles(process) else "merge"
        raise CannotPickle(
            f"stage {stage!r}: the {culprit} function cannot be sent to a task ({error}); "
            "open files, locks and connections inside the function, not outside"
        ) from error
    return Code(stage, payload, fingerprint or fingerprint_of(process, merge))


def _pickles(value: object) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # user code again
        return False
    return True


def fingerprint_of(*functions: object) -> str:
    """Return a digest of the code of functions and of what it refers to: helpers, constants, closures, defaults.

    Follows code that is the user's own; a library counts by its name and version. Comments and formatting do not count.
    """
    digest = hashlib.sha256()
    seen: dict[int, object] = {}  # held, so that no id is used twice
    for function in functions:
        _feed(digest, function, seen, _DEPTH)
    return digest.hexdigest()[:16]


def file_stamp(path: str) -> str | None:
    """Size and time of change of a local file; None where there is none of that name."""
    try:
        status = os.stat(path)  # noqa: PTH116  # of every source
    except (OSError, ValueError):
        return None
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _feed(digest: Any, value: object, seen: dict[int, object], depth: int) -> None:
    add = digest.update
    if depth == 0:
        return
    if isinstance(value, str | bytes | int | float | complex | bool | type(None) | type(Ellipsis)):
        add(repr(value).encode())
        return
    if id(value) in seen:
        add(b"again")
        return
    if isinstance(value, list | tuple):
        add(f"{type(value).__name__}{len(value)}".encode())
        for item in value:
            _feed(digest, item, seen, depth - 1)
        return
    if isinstance(value, set | frozenset):
        add("".join(sorted(fingerprint_of(item) for item in value)).encode())
        return
    if isinstance(value, dict):
        for key in sorted(value, key=repr):
            _feed(digest, key, seen, depth - 1)
            _feed(digest, value[key], seen, depth - 1)
        return
    seen[id(value)] = value
    if isinstance(value, functools.partial):
        _feed(digest, (value.func, value.args, value.keywords), seen, depth - 1)
    elif isinstance(value, types.MethodType):
        _feed(digest, (value.__func__, value.__self__), seen, depth - 1)
    elif isinstance(value, types.FunctionType):
        _feed_function(digest, value, seen, depth)
    elif isinstance(value, types.CodeType):
        add(value.co_code)
        _feed(digest, (value.co_consts, value.co_names), seen, depth)
    elif isinstance(value, type):
        add(f"{value.__module__}.{value.__qualname__}".encode())
        if _is_own(value.__module__):
            members = {k: v for k, v in vars(value).items() if not k.startswith("__") or callable(v)}
            members = {k: getattr(v, "__func__", v) for k, v in members.items() if k not in ("__dict__", "__weakref__")}
            _feed(digest, members, seen, depth - 1)
            _feed(digest, value.__bases__, seen, depth - 1)
    elif isinstance(value, types.ModuleType):
        _feed_module(digest, value.__name__, seen, depth)
    elif isinstance(value, types.BuiltinFunctionType):
        add(f"{value.__module__}.{value.__qualname__}".encode())
    else:
        _feed(digest, type(value), seen, depth - 1)
        state = getattr(value, "__dict__", None)
        if state is None and dataclasses.is_dataclass(value):
            state = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        if isinstance(state, dict) and state:
            _feed(digest, state, seen, depth - 1)
        else:
            try:
                add(pickle.dumps(value, protocol=4))
            except Exception:  # user objects may refuse; then only their type counts
                add(b"opaque")


def _feed_function(digest: Any, function: types.FunctionType, seen: dict[int, object], depth: int) -> None:
    digest.update(function.__qualname__.encode())
    if not _is_own(function.__module__):
        digest.update(f"{function.__module__}".encode())
        return
    _feed(digest, function.__code__, seen, depth - 1)
    _feed(digest, (function.__defaults__, function.__kwdefaults__), seen, depth - 1)
    for cell in function.__closure__ or ():
        try:
            _feed(digest, cell.cell_contents, seen, depth - 1)
        except ValueError:
            digest.update(b"empty cell")
    for name in sorted(_imports(function.__code__)):
        _feed_module(digest, name, seen, depth, str(function.__globals__.get("__package__") or ""))
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            digest.update(name.encode())
            _feed(digest, function.__globals__[name], seen, depth - 1)


def _feed_module(digest: Any, name: str, seen: dict[int, object], depth: int, package: str = "") -> None:
    """A library counts by its version; a module of the user's by its code, and that of the modules it imports."""
    path = _source_of(name)
    if path is None and package:
        name = f"{package}.{name}"
        path = _source_of(name)
    if hash(name) in seen or depth == 0:
        return
    seen[hash(name)] = name
    digest.update(name.encode())
    if path is None:
        digest.update(str(getattr(sys.modules.get(name), "__version__", "")).encode())
        return
    try:
        code = compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        digest.update(b"unreadable")
        return
    _feed(digest, code, seen, _DEPTH)
    for imported in sorted(_imports(code)):
        _feed_module(digest, imported, seen, depth - 1, name.rpartition(".")[0])


def _source_of(name: str) -> Path | None:
    """The source file of a module that is the user's own; None for libraries and what cannot be found."""
    origin = getattr(sys.modules.get(name), "__file__", None)
    if origin is None:
        # Not imported yet, and not to be: only the first part of the name is looked up by the import system.
        top, *rest = name.split(".")
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
        if spec is None or spec.origin is None:
            return None
        origin = spec.origin
        if rest:
            below = Path(origin).parent.joinpath(*rest)
            origin = str(below / "__init__.py" if below.is_dir() else below.with_suffix(".py"))
    own = origin.endswith(".py") and not _is_installed(origin) and Path(origin).is_file()
    return Path(origin) if own else None


def _imports(code: types.CodeType) -> set[str]:
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _imports(constant)
    return names - {""}


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


@functools.lru_cache(maxsize=1024)
def _is_own(module_name: str | None) -> bool:
    """Whether a module is the user's own: not installed, not of the standard library."""
    module = sys.modules.get(module_name or "")
    path = getattr(module, "__file__", None)
    if module_name == "__main__" or module is None:
        return True
    return path is not None and not _is_installed(path)


@functools.lru_cache(maxsize=1024)
def _is_installed(path: str) -> bool:
    roots = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib", "stdlib", "platstdlib")}
    roots.add(Path(__file__).resolve().parent)  # this library, wherever it lies
    return any(root in Path(path).resolve().parents for root in roots)
