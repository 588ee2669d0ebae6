"""shaper finds, while an analysis runs, how big its tasks are, what each is given and how many run at once."""

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
]
