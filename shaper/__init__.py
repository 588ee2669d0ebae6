"""shaper finds, while an analysis runs, how big its tasks are, what each is given and how many run at once."""

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
    "run",
    "scheduling",
]


def __getattr__(name: str) -> Any:
    """What needs numpy, which most processes do not, is loaded when it is asked for."""
    if name == "scheduling":
        import shaper.scheduling

        return shaper.scheduling
    if name in ("Job", "Manager"):
        from shaper import manager

        return getattr(manager, name)
    raise AttributeError(f"module 'shaper' has no attribute {name!r}")
