"""Killing anything at any moment loses no element and counts none twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.chaos import run_with_kills
from tests.engines.chaos_script import SOURCES

SCRIPT = str(Path(__file__).with_name("chaos_script.py"))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_result_is_whole_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    # Other chunk sizes on every second seed: a resumed run must not depend on how the killed one cut.
    out, kills = run_with_kills([SCRIPT, str(tmp_path / "run"), "0" if seed % 2 else "700", "local"], seed)
    assert kills.tasks + kills.managers > 0
    assert out.split() == [
        str(sum(sum(range(count)) for count in SOURCES.values())),
        str(sum(SOURCES.values())),
    ]
