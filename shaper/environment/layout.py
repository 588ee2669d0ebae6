"""Which file of an environment goes where in its tarball.

    bin/python3, python, python3.11   shell scripts that start the interpreter below wherever this lies
    bin/...                           the environment's scripts, which find their interpreter beside them
    libexec/python3.11                the interpreter
    lib/python3.11/                   the standard library
    lib/python3.11/site-packages/     the environment's packages (dist-packages where the interpreter looks there)
    lib/paths/1/, ...                 what .pth files, editable installations and system-site-packages bring
    lib/bundled/                      shared libraries of the system that all these need

The interpreter finds its library by looking upwards from itself, so nothing in it names a place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from shaper.environment import libraries
from shaper.environment.interpreter import STARTUP, Interpreter, importable

_PATHS, _BUNDLED = PurePath("lib/paths"), PurePath("lib/bundled")
# Of the standard library: large, and without a use on a worker; and what needs the graphical system or NIS.
_LEFT_OUT = {"ensurepip", "idlelib", "test", "tests", "tkinter", "turtledemo", "site-packages", "dist-packages"}
_LEFT_OUT_MODULES = ("_tkinter.", "nis.")
_OF_THE_PREFIX = ("bin", "etc", "lib", "libexec", "share")
_PYTHON = """#!/bin/sh
# Starts the interpreter of the environment that this file lies in, with its own libraries and packages alone.
me=$0
while [ -h "$me" ]; do
    to=$(readlink "$me")
    case $to in
    /*) me=$to ;;
    *) me=${{me%/*}}/$to ;;
    esac
done
case $me in
/*) ;;
*) me=$PWD/$me ;;
esac
root=${{me%/*}}
root=${{root%/bin}}
unset PYTHONHOME
export PYTHONNOUSERSITE=1
export SHAPER_LIBRARY_PATH="${{LD_LIBRARY_PATH-}}"
export LD_LIBRARY_PATH="$root/lib/bundled${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
exec "$root/libexec/python{series}" "$@"
"""
_STARTUP = '''"""Makes this environment whole where it lies; imported when its interpreter starts."""

import os
import site
import sys

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.executable = sys._base_executable = os.path.join(root, "bin", "python3")
# The libraries are for this process alone, not for programs of the system that it starts.
if "SHAPER_LIBRARY_PATH" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("SHAPER_LIBRARY_PATH")
    if not os.environ["LD_LIBRARY_PATH"]:
        del os.environ["LD_LIBRARY_PATH"]
for folder, whole in {folders}:
    if whole:
        site.addsitedir(os.path.join(root, folder))
    else:
        sys.path.append(os.path.join(root, folder))
'''
_SCRIPT = b"""#!/bin/sh
'''exec' "${0%/*}/python3" "$0" "$@"
' '''
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tarball.

    Args:
        there: its path in the tarball.
        source: the file, or what is in it.
    """

    there: PurePath
    source: Path | bytes
    executable: bool = False


def entries(found: Interpreter) -> list[Entry]:
    """Every file, sorted by where it goes."""
    stdlib = found.stdlib.relative_to(found.base_prefix)
    name = f"python{found.series}"
    folders: list[tuple[str, bool]] = []
    all_entries = [
        *(Entry(PurePath("bin", one), _PYTHON.format(series=found.series).encode(), True) for one in _names(name)),
        Entry(PurePath("libexec", name), found.executable, True),
        *_standard_library(found, stdlib),
        *_packages(found, found.purelib, PurePath(found.site_below)),
        *_rest_of_prefix(found),
    ]
    for number, path in enumerate(found.paths, 1):
        there = _PATHS / str(number)
        folders.append((str(there), path in found.site_paths))
        if path in found.site_paths:
            all_entries += _packages(found, path, there)
        else:
            for one in importable(path):
                all_entries += _tree(found, one, there / one.name)
    if found.moved:
        there = _PATHS / "editable"
        folders.append((str(there), False))
        for dotted, place in found.moved.items():
            ending = place.suffix if place.is_file() else ""
            all_entries += _tree(found, place, there.joinpath(*dotted.split(".")).with_suffix(ending))
    # The last .pth file that is read.
    all_entries.append(Entry(found.site_below / "~shaper.pth", f"import {PurePath(STARTUP).stem}\n".encode()))
    all_entries.append(Entry(stdlib / STARTUP, _STARTUP.format(folders=folders).encode()))
    binaries = [entry.source for entry in all_entries if isinstance(entry.source, Path) and _is_binary(entry)]
    own = (found.prefix, *found.paths)
    all_entries += [Entry(_BUNDLED / name, path) for name, path in libraries.needed(binaries, own).items()]
    return sorted({str(entry.there): entry for entry in all_entries}.values(), key=lambda entry: str(entry.there))


def _names(name: str) -> tuple[str, ...]:
    return "python", "python3", name


def _standard_library(found: Interpreter, there: PurePath) -> Iterator[Entry]:
    for entry in _tree(found, found.stdlib, there):
        parts = entry.there.relative_to(there).parts
        needs_more = parts[0] == "lib-dynload" and parts[-1].startswith(_LEFT_OUT_MODULES)
        if not (needs_more or _LEFT_OUT.intersection(parts) or parts[0].startswith("config-")):
            yield entry


def _packages(found: Interpreter, folder: Path, there: PurePath) -> Iterator[Entry]:
    """A directory of packages; of its .pth files the lines that name no other place."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path in found.finders:
            continue
        if path.suffix == ".pth" and path.is_file():
            lines = [line for line in path.read_text().splitlines() if not line.startswith("/")]
            if any(line.strip() and not line.startswith("#") for line in lines):
                yield Entry(there / path.name, "".join(f"{line}\n" for line in lines).encode())
            continue
        yield from _tree(found, path, there / path.name)


def _rest_of_prefix(found: Interpreter) -> Iterator[Entry]:
    """Scripts and data that packages have brought into a virtual environment."""
    if found.prefix == found.base_prefix:
        return
    for name in _OF_THE_PREFIX:
        folder = found.prefix / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if name == "bin" and path.name.lower().startswith(("python", "activate")):
                continue
            if name == "lib" and path.name == f"python{found.series}":
                continue
            for entry in _tree(found, path, PurePath(name, path.name)):
                yield _relocated(entry, found.prefix) if name == "bin" else entry


def _relocated(entry: Entry, prefix: Path) -> Entry:
    """A script whose first line names the interpreter of the environment looks beside itself for it instead."""
    assert isinstance(entry.source, Path)
    data = entry.source.read_bytes()
    first, _, rest = data.partition(b"\n")
    python = str(prefix / "bin" / "python").encode()
    if first == b"#!/bin/sh" and rest.startswith((b"'''exec' " + python, b"'''exec' \"" + python)):
        rest = rest.split(b"\n", 2)[2]
    elif not first.startswith(b"#!" + python):
        return entry
    return Entry(entry.there, _SCRIPT + rest, True)


def _tree(found: Interpreter, path: Path, there: PurePath) -> Iterator[Entry]:
    """A file, or a directory with all that is below; links become what they point at."""
    if path.is_file():
        if path.parent.name != "__pycache__" or path.name.endswith(f".cpython-{found.series.replace('.', '')}.pyc"):
            yield Entry(there, path, bool(path.stat().st_mode & 0o100))
    elif path.is_dir() and path.name != ".git":
        if path.is_symlink() and path.resolve() in path.absolute().parents:
            return
        for inner in sorted(path.iterdir()):
            yield from _tree(found, inner, there / inner.name)


def _is_binary(entry: Entry) -> bool:
    return ".so" in entry.there.suffixes or entry.there.parts[0] == "libexec"
