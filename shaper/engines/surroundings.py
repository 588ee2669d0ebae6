"""What a warm process was started in. Where that has changed, what it has loaded is not what tasks should find."""

from __future__ import annotations

import os
from pathlib import Path

from shaper.engines.package import own_modules
from shaper.monitor.pool import Place


def surroundings() -> tuple[Place, dict[str, str], dict[Path, tuple[int, int]]]:
    """The place and the environment of this process, and the files of the user's modules as they are now."""
    files = {path: path.stat() for _, path in own_modules()}
    return Place.here(), dict(os.environ), {path: (one.st_size, one.st_mtime_ns) for path, one in files.items()}
