"""Small disks for tests, which fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import needs


class Disk:
    """A file system of a few MiB, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def grow(self, size: str) -> None:
        """Make room."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    def fill(self) -> None:
        """Leave nothing."""
        with self._ballast.open("wb") as file:
            # In one call: a batch system that waits lets no other thread of this process run for up to a second.
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free)

    def empty(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Disk]:
    """Mount a new disk of `size`, for instance `2m`; needs root."""
    needs(os.geteuid() == 0, "mounting a small disk needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
