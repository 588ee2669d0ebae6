"""What all tests share: where optional data lies, and skips that are failures in CI."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that; its tests need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def needs(condition: object, reason: str) -> None:
    """Skip a test for what this machine lacks; in CI, which installs everything, that is a failure."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"not available in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real files beside the checkout; tests that use it are skipped where it is not."""
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return data


@pytest.fixture(autouse=True, scope="session")
def own_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Managers and workers of the tests share a password of their own, and leave the user's alone."""
    path = tmp_path_factory.mktemp("password") / "password"
    path.write_text("of the tests")
    path.chmod(0o600)
    before = os.environ.get("SHAPER_PASSWORD_FILE")
    os.environ["SHAPER_PASSWORD_FILE"] = str(path)
    yield
    if before is None:
        del os.environ["SHAPER_PASSWORD_FILE"]
    else:
        os.environ["SHAPER_PASSWORD_FILE"] = before


@pytest.fixture(autouse=True, scope="session")
def no_history() -> Iterator[None]:
    """Tests begin with nothing known and leave the user's history alone; those of the history say where theirs is."""
    before = os.environ.get("SHAPER_HISTORY")
    os.environ["SHAPER_HISTORY"] = "off"
    yield
    if before is None:
        del os.environ["SHAPER_HISTORY"]
    else:
        os.environ["SHAPER_HISTORY"] = before


_status = 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    global _status
    _status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """TaskVine 7.14 may crash while the interpreter is taken down, after a manager whose disk was full."""
    if "ndcctools.taskvine" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)
