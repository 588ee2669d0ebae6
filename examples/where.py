"""What the examples share: where shaper runs them, what no run could use, and how it is told that a run went wrong."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shaper.api import engine_of
from shaper.errors import BadInput, ShaperError

_OF_THE_ENGINE = ("port", "cores", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--engine", default="local", help="local, workqueue or taskvine [%(default)s]")
    parser.add_argument("--port", type=int, help="that workers of workqueue and taskvine connect to")
    parser.add_argument("--cores", type=int, help="of this machine to use [all]")
    parser.add_argument("--memory", metavar="SIZE", help="of this machine to use, like 4GB [what is available]")
    parser.add_argument("--run-dir", type=Path, help="of shaper's run; the same one again resumes it")
    parser.add_argument("--history", metavar="FILE", help="begin with what earlier runs have left there [with nothing]")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, as arguments of `shaper.run`."""
    # An example shows how sizes are found: it would not where an earlier run had found them.
    return {**_given(options, "engine", "run_dir", *_OF_THE_ENGINE), "history": options.history or False}


def check(options: argparse.Namespace) -> None:
    """Refuse what no run could use, before anything is done.

    Raises:
        ShaperError: an option of the engine cannot be used, or `--out` cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself warns
        engine_of(options.engine, _given(options, *_OF_THE_ENGINE)).close()
    writable(options.out)


def writable(folder: Path) -> None:
    """Make a folder where it is not there.

    Raises:
        BadInput: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"--out {folder}: cannot be written")


def ended(name: str, run: Callable[[], int]) -> int:
    """Run an example and return its exit code; what is wrong is said in one line."""
    try:
        return run()
    except OSError as error:
        said = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    except (ShaperError, ValueError) as error:
        said = str(error)
    print(f"{name}: {said}", file=sys.stderr)
    return 2


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    found = {name: getattr(options, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
