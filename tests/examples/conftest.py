"""A small generated dataset that the tests of the physics example share."""

from __future__ import annotations

from typing import Any

import pytest

from shaper.engines import debian

# coffea imports TaskVine where there is one; where warnings are errors, as here, that ends a Python 3.13.
debian.load("ndcctools.taskvine")


@pytest.fixture(scope="session")
def topeft_data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The manifest of six files, one per process, with three coefficients."""
    from examples.topeft.generate import Settings, generate  # other examples are tested without coffea

    folder = tmp_path_factory.mktemp("topeft")
    return generate(Settings(events=9_000, files=6, coefficients=3, seed=7), folder, workers=1)
