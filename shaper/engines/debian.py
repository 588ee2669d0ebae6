"""Modules of cctools, from this environment or from Debian's own packages."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

# Debian installs them for its own interpreter alone; others of the same version can load them from there.
_DEBIAN = "/usr/lib/python3/dist-packages"


def load(name: str, *parts: str) -> ModuleType | None:
    """Import a module; from Debian's folder without making all that lies there importable. None where it is not.

    Args:
        parts: modules beside it that it imports by their plain names.
    """
    # Their types are older than Python's rules for them: a warning that becomes an error there crashes the interpreter.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return _from_debian(name, parts)


def _from_debian(name: str, parts: Sequence[str]) -> ModuleType | None:
    packages = name.split(".")
    names = [*parts, *(".".join(packages[: count + 1]) for count in range(len(packages)))]
    path = [_DEBIAN]
    done: list[str] = []
    found = None
    try:
        found = _executed(names, path, done)
    finally:
        # Half a module, for instance after Ctrl-C, must not be what the next import finds.
        for each in done if found is None else ():
            del sys.modules[each]
    return found


def _executed(names: Sequence[str], path: list[str], done: list[str]) -> ModuleType | None:
    """Import modules in order, noting those that are new; return the last, or None where one cannot be imported."""
    for each in names:
        if each in sys.modules:
            continue
        spec = importlib.machinery.PathFinder.find_spec(each, path)
        if spec is None or spec.loader is None:
            return None
        sys.modules[each] = module = importlib.util.module_from_spec(spec)
        done.append(each)
        try:
            spec.loader.exec_module(module)
        except ImportError:
            return None
        path = list(getattr(module, "__path__", path))
    return sys.modules[names[-1]]
