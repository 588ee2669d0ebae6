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
    done = []
    for each in names:
        if each in sys.modules:
            continue
        spec = importlib.machinery.PathFinder.find_spec(each, path)
        if spec is None or spec.loader is None:
            break
        sys.modules[each] = module = importlib.util.module_from_spec(spec)
        done.append(each)
        try:
            spec.loader.exec_module(module)
        except ImportError:
            break
        path = list(getattr(module, "__path__", path))
    else:
        return sys.modules[name]
    for each in done:
        del sys.modules[each]
    return None
