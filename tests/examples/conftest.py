"""A small generated dataset that the tests of the physics example share."""

from __future__ import annotations

import pytest

pytest.importorskip("coffea", reason="the physics example needs the coffea extra")

from examples.topeft.generate import Manifest, Settings, generate

COEFFICIENTS = 3


@pytest.fixture(scope="session")
def topeft_data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six files, one per process, with three coefficients."""
    folder = tmp_path_factory.mktemp("topeft")
    return generate(Settings(events=9_000, files=6, coefficients=COEFFICIENTS, seed=7), folder, workers=1)
