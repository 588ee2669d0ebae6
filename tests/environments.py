"""Small environments for tests: what a worker needs of shaper, and a package that no other environment has."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

OF_SHAPER = ("numpy", "cloudpickle", "threadpoolctl")
SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"


def venv(folder: Path, *options: str) -> Path:
    """A virtual environment without packages; return its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", *options, folder], check=True)
    return folder / "lib" / f"python{SERIES}" / "site-packages"


def small(folder: Path) -> Path:
    """One with what a warm server needs, `only_there` and its script; without the network. Return its site-packages."""
    packages = venv(folder)
    for name in OF_SHAPER:
        copied(name, packages)
    distribution(packages, "only-there", "1.0")
    (packages / "only_there.py").write_text("VALUE = 42\n")
    script = folder / "bin" / "only-there"
    script.write_text(f"#!{folder}/bin/python3\nimport only_there, sys\nprint(only_there.VALUE, *sys.argv[1:])\n")
    script.chmod(0o755)
    return packages


def copied(name: str, target: Path) -> None:
    """The files of an installed distribution, without its tests."""
    for file in importlib.metadata.files(name) or ():
        if not {"..", "__pycache__", "tests"} & set(file.parts):
            there = target / file
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(str(file.locate())), there)


def distribution(packages: Path, name: str, version: str) -> Path:
    """Metadata of an installed distribution."""
    folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text(f"{folder.name}/METADATA,,\n{folder.name}/RECORD,,\n")
    return folder


def bare(*words: str | Path, path: str = "/usr/bin:/bin") -> str:
    """Run a command with nothing but a PATH set; return what it printed."""
    done = subprocess.run(words, env={"PATH": path}, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def unpacked(tarball: Path, folder: Path) -> Path:
    """A directory with what is in a tarball."""
    folder.mkdir()
    bare("tar", "-xzf", tarball, "-C", folder)
    return Path(os.path.realpath(folder))
