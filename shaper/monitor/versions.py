"""Which versions a worker must have: of Python, and of the packages that the functions name."""

from __future__ import annotations

import importlib.metadata
import pickletools
import sys
from collections.abc import Mapping
from functools import cache


def needed(payload: bytes) -> dict[str, str]:
    """Return the versions here of Python and of the installed packages whose modules a pickle names."""
    found = {"python": _python(), "cloudpickle": importlib.metadata.version("cloudpickle")}
    by_module = _by_module()
    for _, argument, _ in pickletools.genops(payload):
        if isinstance(argument, str) and len(argument) < 200:
            top = argument.partition(" ")[0].partition(".")[0]
            for name in by_module.get(top, ()) if top in sys.modules else ():
                found[name] = importlib.metadata.version(name)
    found.pop("shaper", None)  # which travels
    return found


def differing(versions: Mapping[str, str]) -> str:
    """Say what is different or missing here, or nothing."""
    said = []
    for name, wanted in versions.items():
        if name == "python":
            here: str | None = _python()
        else:
            try:
                here = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                here = None
        if here is None:
            said.append(f"no {name} (wanted: {wanted})")
        elif here != wanted:
            said.append(f"{name} {here} (wanted: {wanted})")
    return ", ".join(said)


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@cache
def _by_module() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
