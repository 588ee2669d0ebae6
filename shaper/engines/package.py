"""What every worker gets once: this package, and the modules of the user's that are not installed, as one zip."""

from __future__ import annotations

import site
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def package() -> bytes:
    """Return the zip; the same for the same files, so that its digest tells versions apart."""
    files = {str(path.relative_to(_ROOT.parent)): path for path in _ROOT.rglob("*.py")}
    for name, path in own_modules():
        files.setdefault(name, path)
    memory = BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return memory.getvalue()


def is_installed(path: Path) -> bool:
    """Whether a path belongs to this interpreter or its packages, and is not the user's own."""
    return not _roots().isdisjoint((path.resolve(), *path.resolve().parents))


@cache
def _roots() -> frozenset[Path]:
    keys = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    names = [*map(sysconfig.get_path, keys), sysconfig.get_config_var("DESTSHARED"), *site.getsitepackages()]
    return frozenset(Path(name).resolve() for name in [*names, site.getusersitepackages()] if name)


def own_modules() -> Iterator[tuple[str, Path]]:
    """Imported modules that are the user's own; of a package all its modules, since functions import late."""
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name == "__main__" or not origin or not origin.endswith(".py"):
            continue
        folder, _, file = origin.rpartition("/")
        own = _own_folder(folder)
        if own is None or not (own / file).is_file():
            continue
        relative = Path(*name.split("."))
        if file != "__init__.py":
            yield f"{relative}.py", own / file
            continue
        for inner in own.rglob("*.py"):
            yield str(relative / inner.relative_to(own)), inner


@cache
def _own_folder(folder: str) -> Path | None:
    """Where a folder of modules really is; None if they are installed, or ours."""
    path = Path(folder).resolve()
    return None if _ROOT in (path, *path.parents) or is_installed(path) else path
