"""Options of examples that say where shaper runs them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--engine", default="local", help="local, workqueue or taskvine [%(default)s]")
    parser.add_argument("--port", type=int, help="that workers of workqueue and taskvine connect to")
    parser.add_argument("--cores", type=int, help="of this machine to use [all]")
    parser.add_argument("--memory", metavar="SIZE", help="of this machine to use, like 4GB [what is available]")
    parser.add_argument("--run-dir", type=Path, help="of shaper's run; the same one again resumes it")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, as arguments of `shaper.run`."""
    found = {name: getattr(options, name) for name in ("engine", "port", "cores", "memory", "run_dir")}
    return {name: value for name, value in found.items() if value is not None}
