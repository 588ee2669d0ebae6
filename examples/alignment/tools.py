"""Runs bwa and samtools."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shaper.errors import BadInput, ShaperError


class ToolFailed(ShaperError):
    """A program ended with an error; the message has its last words."""


def need(*programs: str) -> None:
    """Refuse to go on without these programs.

    Raises:
        BadInput: one is not installed.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise BadInput(f"{program} is not there; on Debian, as root: apt-get install bwa samtools")


@contextmanager
def started(command: Sequence[str], **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside the block, and wait for it after; it is killed where the block raises.

    A program that ended because nobody reads it any more has not failed: who should have read it has, and says why.

    Args:
        command: of the program.
        pipes: `stdin` and `stdout` for subprocess.Popen.

    Raises:
        ToolFailed: it ended with an error.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stderr=errors, **pipes) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise
        if process.returncode not in (0, -signal.SIGPIPE):
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            how = process.returncode if process.returncode > 0 else signal.Signals(-process.returncode).name
            raise ToolFailed(f"{' '.join(command[:2])} ended with {how}: {said[-1] if said else 'it said nothing'}")


def run(*command: str) -> bytes:
    """Run a program and return what it wrote.

    Raises:
        ToolFailed: it ended with an error.
    """
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        return process.stdout.read()
