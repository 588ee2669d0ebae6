"""shaper finds, while an analysis runs, how big its tasks are, what each is given and how many run at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shaper import engines, errors, policy
from shaper.api import Result, last_run, run
from shaper.types import Chunk, Resources, Skipped, Source, Span, Stage

if TYPE_CHECKING:
    from shaper.manager import Job, Manager

__version__ = "0.1.0"


__all__ = [
    "Chunk",
    "Job",
    "Manager",
    "Resources",
    "Result",
    "Skipped",
    "Source",
    "Span",
    "Stage",
    "__version__",
    "engines",
    "errors",
    "last_run",
    "policy",
    "readers",
    "run",
    "scheduling",
]


def __getattr__(name: str) -> Any:
    """What needs numpy or coffea, which most processes do not, is loaded when it is asked for."""
    if name in ("coffea", "readers", "scheduling"):
        return import_module(f"shaper.{name}")
    if name in ("Job", "Manager"):
        from shaper import manager

        return getattr(manager, name)
    raise AttributeError(f"module 'shaper' has no attribute {name!r}")
