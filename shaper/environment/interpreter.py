"""What an environment consists of, as its own interpreter tells it."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shaper.errors import BadInput

_PROBE = Path(__file__).with_name("probe.py")
_PROBE_S = 120.0
# A module of packed environments alone.
STARTUP = "_shaper_environment.py"
# Written by setuptools for `pip install -e`: a module that maps names of packages to where they lie.
_FINDER = "_finder.py"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python environment.

    Args:
        version: of Python, like 3.11.7.
        prefix, base_prefix: the environment, and the installation it was made from; equal where there is no other.
        executable: the interpreter of the installation.
        stdlib: the standard library.
        purelib: the site-packages of the environment.
        paths: where else packages are found, in order: what .pth files and system-site-packages bring.
        site_paths: those directories of packages that are looked at as a whole, with their .pth files.
        site_below: where a copy of the interpreter finds packages, relative to its root.
        distributions: the version of each installed package, by normalised name.
        moved: packages and modules that an editable installation maps to where they lie, by their dotted names.
        finders: files that make such a map; they do not travel.
        records: of what was installed when.
        machine: what its binaries are made for, and the oldest libc that they may find.
    """

    version: str
    prefix: Path
    base_prefix: Path
    executable: Path
    stdlib: Path
    purelib: Path
    paths: tuple[Path, ...]
    site_paths: frozenset[Path]
    site_below: Path
    distributions: Mapping[str, str]
    moved: Mapping[str, Path]
    finders: frozenset[Path]
    records: tuple[Path, ...]
    machine: str

    @property
    def series(self) -> str:
        """Like 3.11."""
        return ".".join(self.version.split(".")[:2])

    @property
    def is_conda(self) -> bool:
        """Whether conda made it."""
        return (self.prefix / "conda-meta").is_dir()

    @property
    def key(self) -> str:
        """The same for the same environment: its place, interpreter, packages and versions, when each was installed,
        and sizes and times of what is installed editable. Other files that were changed by hand are not seen."""
        seen: list[object] = [self.version, self.machine, str(self.prefix), sorted(self.distributions.items())]
        places = [self.executable, *self.records, self.prefix / "conda-meta" / "history"]
        for folder in [*self.paths, *self.moved.values()]:
            if folder not in self.site_paths:
                places += importable(folder) if folder.is_dir() else [folder]
        for place in sorted(set(places)):
            for path in sorted(files_below(place)):
                state = path.stat()
                seen.append((str(path), state.st_size, state.st_mtime_ns))
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def describe(python: Path | None = None) -> Interpreter:
    """Ask an interpreter; the one that runs by default.

    Args:
        python: an interpreter, or the directory of an environment.

    Raises:
        BadInput: there is none, or it has something that cannot travel, which the message names.
    """
    program = _program(python)
    told = json.loads(_ask(program, "-E", str(_PROBE)))
    if (Path(told["stdlib"]) / STARTUP).exists():
        raise BadInput(f"{told['prefix']} was unpacked from a tarball: use that tarball")
    own = Path(told["purelib"])
    executable = Path(told["executable"])
    root = Path("/shaper-root")
    below = Path(json.loads(_ask(executable, "-I", str(_PROBE), str(root)))).relative_to(root)
    moved, finders = _editable(told["editable"])
    return Interpreter(
        told["version"],
        Path(told["prefix"]),
        Path(told["base_prefix"]),
        executable,
        Path(told["stdlib"]),
        own,
        tuple(path for path in map(Path, told["paths"]) if path != own),
        frozenset(map(Path, told["site_paths"])),
        below,
        told["distributions"],
        moved,
        finders,
        tuple(map(Path, told["records"])),
        told["machine"],
    )


def importable(folder: Path) -> list[Path]:
    """Modules, packages and their metadata in a directory that may hold much else."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.suffix in (".dist-info", ".egg-info") or (path.name.isidentifier() and _has_modules(path)):
                found.append(path)
        elif path.suffix in (".py", ".so"):
            found.append(path)
    return found


def files_below(place: Path) -> Iterator[Path]:
    """Files that travel: not what version control or an interpreter keeps for itself."""
    if not place.is_dir():
        if place.exists():
            yield place
        return
    for path in sorted(place.iterdir()):
        if path.name not in (".git", "__pycache__"):
            yield from files_below(path)


def _has_modules(folder: Path) -> bool:
    return any(path.suffix in (".py", ".so") for path in files_below(folder))


def _program(python: Path | None) -> Path:
    if python is None:
        return Path(sys.executable)
    found = python / "bin" / "python3" if python.is_dir() else python
    if not found.is_file():
        raise BadInput(f"{python} is neither an interpreter nor an environment with bin/python3")
    return found


def _ask(program: Path, *words: str) -> str:
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{program} does not run: {error}") from error
    if done.returncode != 0:
        raise BadInput(f"{program} cannot tell what it holds: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout


def _editable(told: Mapping[str, list[str]]) -> tuple[dict[str, Path], frozenset[Path]]:
    """Where editable installations lie; those that are a path in a .pth file are among the paths already."""
    moved: dict[str, Path] = {}
    finders: set[Path] = set()
    for name, files in told.items():
        hooks = [Path(file) for file in files if file.endswith(".pth") and "import" in Path(file).read_text()]
        maps = [Path(file) for file in files if file.endswith(_FINDER)]
        mapped = [_mapping(path) for path in maps]
        if not any(file.endswith(".pth") for file in files) or len(hooks) != len(maps) or None in mapped:
            raise BadInput(
                f"{name} is installed editable in a way that cannot be packed: install it without -e, then pack again"
            )
        for one in mapped:
            moved.update(one or {})
        finders.update(maps, hooks)
    return moved, frozenset(finders)


def _mapping(finder: Path) -> dict[str, Path] | None:
    """The map of a setuptools finder; None where it is none, or has namespaces too."""
    found = {}
    for node in ast.parse(finder.read_text()).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and isinstance(node, ast.AnnAssign) and node.value is not None:
            found[target.id] = ast.literal_eval(node.value)
    if "MAPPING" not in found or found.get("NAMESPACES"):
        return None
    return {name: Path(place) for name, place in found["MAPPING"].items()}
