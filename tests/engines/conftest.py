"""An environment that is packed once for all tests that deliver it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shaper.environment import pack
from tests.environments import small


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tarball whose original is not where it was; where it is now is its name without `.tar.gz`."""
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        small(folder / "original")
        tarball = pack(folder / "original").rename(folder / "environment.tar.gz")
        (folder / "original").rename(folder / "environment")
        yield tarball
