"""Environments packed, unpacked elsewhere and run there with nothing set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from shaper.environment import inspect, pack, pack_spec
from shaper.environment.interpreter import describe
from shaper.environment.layout import entries
from shaper.errors import BadInput, EngineMissing
from tests.conftest import ROOT
from tests.environments import OF_SHAPER, SERIES, bare, copied, distribution, small, unpacked, venv

TELL = """
import json, os, ssl, sqlite3, subprocess, sys, numpy, only_there
child = subprocess.run([sys.executable, "-c", "import only_there; print(only_there.VALUE)"], stdout=subprocess.PIPE)
print(json.dumps({"prefix": sys.prefix, "path": sys.path, "executable": sys.executable, "child": child.stdout.decode(),
                  "sum": int(numpy.arange(4).sum()), "environ": dict(os.environ)}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shaper" / "environments"


def test_it_runs_elsewhere_with_nothing_set_once_the_original_is_gone(tmp_path: Path) -> None:
    small(tmp_path / "original")
    tarball = pack(tmp_path / "original")
    (tmp_path / "original").rename(tmp_path / "away")
    root = unpacked(tarball, tmp_path / "un packed")
    told = json.loads(bare(root / "bin" / "python3", "-c", TELL))
    assert (told["prefix"], told["executable"]) == (str(root), str(root / "bin" / "python3"))
    assert all(Path(path).is_relative_to(root) for path in told["path"] if path)
    assert (told["child"], told["sum"]) == ("42\n", 6)
    assert "LD_LIBRARY_PATH" not in told["environ"]  # programs of the system run with their own libraries
    # Its scripts find it beside themselves, also by the PATH and through links.
    assert bare(root / "bin" / "only-there", "said") == "42 said"
    assert bare("only-there", path=f"{root}/bin:/usr/bin:/bin") == "42"
    (tmp_path / "link").symlink_to(root / "bin" / f"python{SERIES}")
    assert bare(tmp_path / "link", "-c", "import sys; print(sys.prefix)") == str(root)
    with pytest.raises(BadInput, match="was unpacked from a tarball: use that tarball"):
        pack(root)
    # What the caller has set for another Python is not seen; its own libraries are given back.
    theirs = {"PATH": "/usr/bin:/bin", "PYTHONHOME": "/nowhere", "LD_LIBRARY_PATH": "/mine", "HOME": str(tmp_path)}
    say = "import os, site; print(os.environ['LD_LIBRARY_PATH'], site.ENABLE_USER_SITE)"
    words = [root / "bin" / "python3", "-c", say]
    assert subprocess.run(words, env=theirs, capture_output=True, text=True, check=True).stdout == "/mine False\n"


def test_the_same_environment_is_packed_once_and_a_changed_one_again(tmp_path: Path, cache: Path) -> None:
    packages = small(tmp_path / "original")
    first = pack(tmp_path / "original")
    written = first.stat().st_mtime_ns
    assert pack(tmp_path / "original" / "bin" / "python3") == first
    assert first.stat().st_mtime_ns == written
    before = inspect(first)
    assert before.python == SERIES
    assert before.distributions["only-there"] == "1.0"
    assert {*OF_SHAPER} <= before.distributions.keys()
    # Reproducible to the byte.
    assert pack(tmp_path / "original", anew=True) == first
    assert first.stat().st_mtime_ns != written
    assert inspect(first).digest == before.digest
    distribution(packages, "another", "2.0")
    second = pack(tmp_path / "original")
    assert list(cache.glob("*.tar.gz")) == [second] != [first]
    assert inspect(second).distributions["another"] == "2.0"


def test_what_is_installed_editable_travels_as_it_is_now(tmp_path: Path) -> None:
    packages = venv(tmp_path / "original")
    source = tmp_path / "source"
    for folder in ("by_path", "data", ".git"):
        (source / folder).mkdir(parents=True)
        (source / folder / "table.txt").write_text("kept")
    (source / "by_path" / "__init__.py").write_text("VALUE = 1\n")
    (source / "by_map.py").write_text("VALUE = 2\n")
    by_path = distribution(packages, "by-path", "1.0")
    (packages / "by_path.pth").write_text(f"{source}\n")
    by_map = distribution(packages, "by-map", "1.0")
    (packages / "__editable___by_map_finder.py").write_text(
        f"MAPPING: dict[str, str] = {{'mapped': {str(source / 'by_map.py')!r}}}\n"
        "NAMESPACES: dict[str, list[str]] = {}\ndef install(): pass\n"
    )
    (packages / "__editable__.by_map.pth").write_text("import __editable___by_map_finder as f; f.install()\n")
    for info, files in (
        (by_path, ["by_path.pth"]),
        (by_map, ["__editable__.by_map.pth", "__editable___by_map_finder.py"]),
    ):
        (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
        with (info / "RECORD").open("a") as record:
            record.writelines(f"{file},,\n" for file in files)
    first = pack(tmp_path / "original")
    assert pack(tmp_path / "original") == first
    (source / "by_path" / "__init__.py").write_text("VALUE = 10\n")
    second = pack(tmp_path / "original")
    assert second != first
    source.rename(tmp_path / "away")
    root = unpacked(second, tmp_path / "unpacked")
    say = "import by_path, mapped, os; print(by_path.VALUE, mapped.VALUE, os.listdir(by_path.__path__[0]))"
    said = bare(root / "bin" / "python3", "-B", "-c", say)
    assert said.startswith("10 2 ")
    assert "table.txt" in said
    assert not list(root.rglob("data")) + list(root.rglob(".git"))


def test_an_editable_installation_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    packages = venv(tmp_path / "original")
    info = distribution(packages, "hooked", "1.0")
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///src", "dir_info": {"editable": True}}))
    (packages / "hooked.pth").write_text("import sys\n")
    with (info / "RECORD").open("a") as record:
        record.write("hooked.pth,,\n")
    with pytest.raises(BadInput, match=r"^hooked is installed editable in a way .*: install it without -e"):
        pack(tmp_path / "original")


def test_what_system_site_packages_bring_travels_behind_the_environments_own(tmp_path: Path) -> None:
    packages = venv(tmp_path / "original", "--system-site-packages")
    distribution(packages, "only-there", "1.0")
    found = describe(tmp_path / "original")
    if not [path for path in found.paths if any(path.iterdir())]:
        pytest.skip("the interpreter's own installation has no packages")
    files = {str(entry.there): entry.source for entry in entries(found)}
    assert f"{found.site_below}/only_there-1.0.dist-info/METADATA" in files
    startup = files[f"lib/python{SERIES}/_shaper_environment.py"]
    for number, path in enumerate(found.paths, 1):
        assert isinstance(startup, bytes)
        assert f"('lib/paths/{number}', True)".encode() in startup
        theirs = {f"lib/paths/{number}/{one.relative_to(path)}" for one in path.glob("*/__init__.py")}
        assert theirs <= files.keys()


def wheel(name: str, folder: Path) -> None:
    """An installed distribution as the wheel that it came from."""
    copied(name, folder / name)
    version = next((folder / name).glob("*.dist-info")).name.removesuffix(".dist-info")
    tag = next(
        line.removeprefix("Tag: ")
        for line in (folder / name / f"{version}.dist-info" / "WHEEL").read_text().splitlines()
        if line.startswith("Tag: ")
    )
    with zipfile.ZipFile(folder / f"{version}-{tag}.whl", "w") as archive:
        for path in sorted((folder / name).rglob("*")):
            archive.write(path, path.relative_to(folder / name))


def test_a_requirements_file_becomes_an_environment(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in (*OF_SHAPER, "packaging"):
        wheel(name, tmp_path / "wheels")
    spec = tmp_path / "requirements.txt"
    spec.write_text("--no-index\n--find-links wheels\npackaging\n")
    tarball = inspect(pack_spec(spec))
    assert {*OF_SHAPER, "packaging"} <= tarball.distributions.keys()
    written = tarball.path.stat().st_mtime_ns
    assert pack_spec(spec).stat().st_mtime_ns == written
    spec.write_text("--no-index\n--find-links wheels\nno-such-package\n")
    with pytest.raises(BadInput, match=r"pip cannot install .*requirements.txt: ERROR: .*no-such-package"):
        pack_spec(spec)


def test_a_conda_environment_needs_conda_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv(tmp_path / "original")
    (tmp_path / "original" / "conda-meta").mkdir()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(EngineMissing, match="conda install -c conda-forge conda-pack"):
        pack(tmp_path / "original")


def tarball_of(path: Path, *names: str) -> Path:
    """A tarball of empty files."""
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), BytesIO())
    return path


def test_a_tarball_of_others_is_understood_by_what_it_holds(tmp_path: Path) -> None:
    packages = "lib/python3.9/site-packages"
    path = tarball_of(
        tmp_path / "conda.tar.gz",
        "lib/python3.9/os.py",
        f"{packages}/Foo_Bar-1.0.dist-info/METADATA",
        f"{packages}/old-2.0-py3.9.egg-info/PKG-INFO",
        f"{packages}/foo_bar/_vendor/inner-3.0.dist-info/METADATA",
    )
    found = inspect(path)
    assert (found.python, found.distributions) == ("3.9", {"foo-bar": "1.0", "old": "2.0"})
    assert found.differing({"python": "3.9", "Foo.Bar": "1.00", "missing": "1"}) == ""
    assert found.differing({"python": "3.11", "old": "2.1"}) == "python 3.9 (wanted: 3.11), old 2.0 (wanted: 2.1)"


def test_what_is_no_whole_environment_is_named(tmp_path: Path) -> None:
    whole = tarball_of(tmp_path / "whole.tar.gz", *(f"lib/python3.9/{number}" for number in range(2000)), "x/os.py")
    (tmp_path / "half.tar.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.tar.gz").write_text("no tarball")
    for path, said in (
        (whole, "holds no Python"),
        (tmp_path / "half.tar.gz", "is not a whole tar.gz file"),
        (tmp_path / "text.tar.gz", "is not a whole tar.gz file"),
        (tmp_path / "none.tar.gz", "cannot be read: No such file"),
        (tmp_path, "is not a file"),
    ):
        with pytest.raises(BadInput, match=said):
            inspect(path)
    with pytest.raises(BadInput, match="is neither an interpreter nor an environment"):
        pack(tmp_path)


def test_the_command_prints_where_it_is(tmp_path: Path) -> None:
    venv(tmp_path / "original")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "shaper",
            "env",
            "pack",
            f"--python={tmp_path}/original",
            f"--output={tmp_path}/a.tar.gz",
        ],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}/a.tar.gz\n"
    assert f"packing {tmp_path}/original (Python {SERIES}." in done.stderr
    assert inspect(tmp_path / "a.tar.gz").python == SERIES
