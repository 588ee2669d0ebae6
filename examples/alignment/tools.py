"""Runs bwa and samtools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from typing import IO, Any

from shaper.errors import BadInput


class ToolFailed(RuntimeError):
    """A program ended with an error; the message has its last words."""


def need(*programs: str) -> None:
    """Refuse to go on without these programs.

    Raises:
        BadInput: one is not installed.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise BadInput(f"{program} is not there; on Debian, as root: apt-get install bwa samtools")


def start(command: Sequence[str], errors: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program whose standard error goes to a file."""
    return subprocess.Popen(command, stderr=errors, **options)


def ended(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Wait for a program.

    Raises:
        ToolFailed: it ended with an error.
    """
    if process.wait() != 0:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        name = str(process.args[0] if isinstance(process.args, list | tuple) else process.args)
        raise ToolFailed(f"{name} ended with {process.returncode}: {said[-1] if said else 'it said nothing'}")
