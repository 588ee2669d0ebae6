"""A look at local workers just after they were started: those that have ended already, and why."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shaper.monitor import sample

_MOST_S = 3.0
_EVERY_S = 0.02
_LAST_BYTES, _LAST_LINES = 2000, 3
# The directory that a worker makes for itself, after it has read its options and its password.
_WORKSPACE = "worker-"


@dataclass(frozen=True, slots=True)
class Watched:
    """A local worker, or the shell that makes ready for it.

    Args:
        output: where both write.
    """

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def up(self) -> bool:
        """Whether it has begun to look for its manager."""
        for pid in (self.process.pid, *sample.descendants(self.process.pid)):
            with suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink().name.startswith(_WORKSPACE):
                    return True
        return False

    @property
    def why(self) -> str:
        """The end of what was said, or the exit code, in one line."""
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - _LAST_BYTES))
        lines = [line.strip() for line in self.output.read().decode(errors="replace").splitlines() if line.strip()]
        return "; ".join(lines[-_LAST_LINES:]) or f"exit code {self.process.returncode}"


def ended(watched: Sequence[Watched], most_s: float = _MOST_S) -> list[Watched]:
    """Wait until each has ended or is up, or for `most_s`; return those that have ended."""
    end_s = time.monotonic() + most_s
    while True:
        left = [one for one in watched if one.process.poll() is None]
        if all(one.up for one in left) or time.monotonic() >= end_s:
            return [one for one in watched if one not in left]
        time.sleep(_EVERY_S)
