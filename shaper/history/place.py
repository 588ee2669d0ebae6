"""Where the history lies: what was asked for, or the user's data folder; and whether that is a network file system."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shaper.errors import BadInput

VARIABLE = "SHAPER_HISTORY"
OFF = "off"
_NAME = "history.sqlite"
_URL = re.compile(r"[a-z][a-z0-9+]*://", re.IGNORECASE)
_NETWORK = ("nfs", "nfs4", "lustre", "cifs", "smb3", "smbfs", "afs", "ncpfs", "gpfs", "beegfs", "ceph", "9p", "panfs")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or the URL of a PostgreSQL server; one of them is None."""

    path: Path | None = None
    url: str | None = None


def place(asked: bool | str | os.PathLike[str] | None) -> Place | None:
    """Return where the history lies; None where none is wanted.

    Args:
        asked: False: none; a path or a URL; None or True: what SHAPER_HISTORY says (`off` turns None off), or
            `shaper/history.sqlite` in the user's data folder.

    Raises:
        BadInput: a URL of something else than PostgreSQL, or a path that is a folder.
    """
    if asked is False:
        return None
    said = os.environ.get(VARIABLE, "")
    if asked is None and said.lower() == OFF:
        return None
    if asked is None or asked is True:
        if said and said.lower() != OFF:
            asked = said
        else:
            try:
                asked = _data_home() / "shaper" / _NAME
            except RuntimeError:  # an account without a home
                return None
    text = os.fspath(asked)
    if _URL.match(text):
        scheme = text.partition(":")[0].lower()
        if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
            raise BadInput(f"history: {scheme}://... is not known; give a file, or postgresql://USER@HOST/DATABASE")
        return Place(url="postgresql+psycopg:" + text.partition(":")[2])
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise BadInput(f"history {path} is a folder: give a file in it, for instance {path / _NAME}")
    return Place(path)


def _data_home() -> Path:
    home = os.environ.get("XDG_DATA_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    return Path(home) if home.startswith("/") else Path.home() / ".local" / "share"


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that a file lies on; None where it lies on this machine, or is not known."""
    with suppress(OSError, RuntimeError):  # a loop of links
        return network_type(path.resolve(), Path("/proc/self/mountinfo").read_text(errors="replace"))
    return None


def network_type(path: Path, mountinfo: str) -> str | None:
    """The same, told from the text of /proc/self/mountinfo.

    FUSE counts, whatever is behind it: its locks are what that makes of them.
    """
    found, longest = None, -1
    for point, kind in _mounts(mountinfo):
        # Of several on one point the last hides the others.
        if (path == point or point in path.parents) and len(point.parts) >= longest:
            found, longest = kind, len(point.parts)
    if found is None:
        return None
    network = found in _NETWORK or found == "fuse" or found == "fuseblk" or found.startswith("fuse.")
    return found if network else None


def _mounts(mountinfo: str) -> Iterator[tuple[Path, str]]:
    """Mount point and type of each line; see proc(5): six fields, optional ones, a dash, the type."""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if dash and len(fields) > 4:
            yield Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])), kinds[0]
