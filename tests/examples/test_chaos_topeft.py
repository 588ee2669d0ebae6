"""The physics example ends with the right histograms whatever is killed while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coffea")

from tests.engines.chaos import run_with_kills
from tests.examples.chaos_topeft import analyse


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from examples.topeft.generate import Settings, generate

    folder = tmp_path_factory.mktemp("chaos")
    generate(Settings(events=9_000, files=6, coefficients=3, seed=7), folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def expected(data: Path) -> dict[str, Any]:
    from coffea.processor import IterativeExecutor

    return analyse(data, IterativeExecutor(status=False))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_histograms_are_whole_whatever_is_killed(
    tmp_path: Path, data: Path, expected: dict[str, Any], seed: int
) -> None:
    script = ["-m", "tests.examples.chaos_topeft", str(data), str(tmp_path / "run")]
    # The first seconds go into imports; kills there would only show that a process can be started again.
    out, kills = run_with_kills(script, seed, spare_s=3.0)
    found = json.loads(out.splitlines()[-1])
    assert kills.tasks + kills.managers > 0
    assert found["events"] == expected["events"]
    assert set(found["bins"]) == set(expected["bins"])
    for category, bins in expected["bins"].items():
        np.testing.assert_allclose(found["bins"][category], bins, rtol=1e-9, atol=1e-9 * max(map(abs, bins), default=0))
