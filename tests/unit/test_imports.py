"""Imports point one way, and the pure rooms know no clock, process, file or chance."""

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "shaper"

BASE = {"types", "errors", "units"}
CORE = BASE | {"dataset", "work", "reduction"}
ALLOWED = {
    "types": {"errors"},
    "errors": set(),
    "units": {"errors"},
    "dataset": BASE,
    "work": BASE,
    "reduction": BASE | {"work"},
    "pieces": CORE,
    "account": CORE | {"pieces"},
    "ledger": CORE | {"pieces", "account"},
    "models": CORE | {"models"},
    "policy": CORE | {"models", "policy"},
    "phases": CORE,
    "loop": CORE | {"ledger", "phases", "models", "policy", "engines"},
    "scheduling": BASE | {"scheduling"},
    "monitor": BASE | {"monitor"},
    "engines": BASE | {"monitor", "engines", "environment"},
    "environment": BASE | {"environment"},
    "journal": CORE | {"ledger"},
    "records": CORE | {"models", "ledger"},
    "history": CORE | {"models", "pieces", "report", "history"},
    "tally": CORE | {"models", "records"},
    "report": CORE | {"models", "ledger", "records", "tally", "report"},
    "code": BASE,
    "failed": BASE | {"models"},
    "arrivals": CORE | {"ledger"},
    "readers": CORE | {"readers"},
}
PURE = ("types", "errors", "units", "dataset", "work", "reduction", "pieces", "account", "ledger", "phases", "loop")
PURE += ("models", "policy", "scheduling")
IMPURE = {"time", "os", "sys", "subprocess", "socket", "logging", "random", "pathlib", "io", "threading", "tempfile"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "shaper" else {module}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("shaper.")}
    assert rooms - ALLOWED.get(room, rooms) - {room} == set()
    if room in PURE:
        assert {name.split(".")[0] for name in imported(path)} & IMPURE == set()


def test_only_the_outer_rooms_import_journal_and_records() -> None:
    outer = {"api", "session", "coffea", "cli", "report", "tally", "simulation", "__init__", "__main__"}
    for path in FILES:
        if room_of(path) not in outer | {"journal", "records"}:
            assert not {"shaper.journal", "shaper.records"} & imported(path), path


def test_the_loop_takes_no_engine_but_their_common_interface() -> None:
    engines = {name for name in imported(PACKAGE / "loop.py") if name.startswith("shaper.engines")}
    assert engines == {"shaper.engines.engine"}


def test_scheduling_needs_nothing_but_numpy() -> None:
    standard = sys.stdlib_module_names
    for path in (PACKAGE / "scheduling").rglob("*.py"):
        others = {name.split(".")[0] for name in imported(path)} - standard - {"shaper"}
        assert others <= {"numpy"}, path
