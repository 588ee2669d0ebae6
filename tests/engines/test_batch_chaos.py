"""Killing anything at any moment loses no element and counts none twice: on real batch systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.batch_chaos import ACTIONS, Churn, servers
from tests.engines.chaos_script import SOURCES
from tests.engines.workers import needs_engine, until

SCRIPT = str(Path(__file__).with_name("chaos_script.py"))
WHOLE = [str(sum(sum(range(count)) for count in SOURCES.values())), str(sum(SOURCES.values()))]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("engine", ["workqueue", "taskvine"])
def test_the_result_is_whole_whatever_is_killed(tmp_path: Path, engine: str, seed: int) -> None:
    needs_engine(engine)
    # Other chunk sizes on every second seed: a resumed run must not depend on how the killed one cut.
    script = [SCRIPT, str(tmp_path / "run"), "0" if seed % 2 else "700"]
    churn = Churn(engine, script, tmp_path, seed, ACTIONS)
    assert churn.run(deadline_s=240.0).split() == WHOLE
    assert churn.done.total() > 0
    until(lambda: not servers(tmp_path))
