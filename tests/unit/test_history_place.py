"""Where the history lies, and whether that is a network file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaper.errors import BadInput
from shaper.history.place import Place, network_file_system, network_type, place
from tests.conftest import needs

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw,relatime shared:5 master:2 - nfs4 server:/export rw,vers=4.2
31 30 8:2 / /home/me/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:40 / /lustre rw,flock - lustre 10.0.0.1@o2ib:/scratch rw
33 22 0:41 / /afs rw - afs AFS rw
34 22 0:42 / /mnt/win rw - cifs //pc/share rw
35 22 0:43 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
36 22 0:44 / /over rw - nfs old:/ rw
37 22 0:45 / /over rw - tmpfs tmpfs rw
broken line
38 22 0:46 /
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/h.sqlite", None),
        ("/home/me/.local/share/shaper/history.sqlite", "nfs4"),
        ("/home", "nfs4"),
        ("/homework/h.sqlite", None),
        ("/home/me/local disk/h.sqlite", None),
        ("/lustre/me/h", "lustre"),
        ("/afs/cern.ch/h", "afs"),
        ("/mnt/win/h", "cifs"),
        ("/mnt/ssh/h", "fuse.sshfs"),
        ("/over/h", None),
    ],
)
def test_the_innermost_mount_decides(path: str, kind: str | None) -> None:
    assert network_type(Path(path), MOUNTS) == kind


def test_without_mounts_nothing_is_said() -> None:
    assert network_type(Path("/x"), "") is None


def test_the_mounts_of_this_machine_can_be_read(tmp_path: Path) -> None:
    assert network_file_system(Path("/proc/self/status")) is None
    network_file_system(tmp_path / "h")


def test_a_link_leads_to_the_file_system_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(Path("/dev/shm").is_dir(), "a file system that is no disk")
    monkeypatch.setattr("shaper.history.place._NETWORK", ("tmpfs",))
    link = tmp_path / "link"
    link.symlink_to("/dev/shm")
    found = place(link / "none" / "h.sqlite")
    assert found is not None
    assert found.path is not None
    assert network_file_system(found.path) == "tmpfs"
    link.unlink()
    link.symlink_to(link)
    assert network_file_system(link) is None


def test_the_users_data_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAPER_HISTORY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert place(None) == Place(tmp_path / ".local/share/shaper/history.sqlite")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert place(None) == Place(tmp_path / ".local/share/shaper/history.sqlite")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert place(None) == place(True) == Place(tmp_path / "data/shaper/history.sqlite")
    assert place(False) is None


def test_an_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAPER_HISTORY", "off")
    assert place(None) is None
    assert place(True) is not None
    assert place(tmp_path / "a") == Place(tmp_path / "a")
    monkeypatch.setenv("SHAPER_HISTORY", str(tmp_path / "b"))
    assert place(None) == Place(tmp_path / "b")
    assert place(tmp_path / "a") == Place(tmp_path / "a")
    assert place(False) is None


@pytest.mark.parametrize("url", ["postgresql://me@host/db", "postgres://me@host/db", "postgresql+psycopg://me@host/db"])
def test_a_url_is_of_postgresql(url: str) -> None:
    assert place(url) == Place(url="postgresql+psycopg://me@host/db")


def test_what_cannot_be_a_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mysql://\.\.\. is not known; give a file, or postgresql://"):
        place("mysql://me@host/db")
    with pytest.raises(BadInput, match="is a folder: give a file in it"):
        place(tmp_path)
