"""What all tests share: where optional data lies, and skips that are failures in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
