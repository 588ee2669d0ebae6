"""shaper finds, while an analysis runs, how big its tasks are, what each is given and how many run at once."""

from types import ModuleType

from shaper import engines, errors, policy
from shaper.api import Result, last_run, run
from shaper.types import Chunk, Resources, Skipped, Source, Span, Stage

__version__ = "0.1.0"


__all__ = [
    "Chunk",
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


def __getattr__(name: str) -> ModuleType:
    """`shaper.scheduling` is loaded when it is asked for: it needs numpy, which most processes do not."""
    if name == "scheduling":
        import shaper.scheduling

        return shaper.scheduling
    raise AttributeError(f"module 'shaper' has no attribute {name!r}")
