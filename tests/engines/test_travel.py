"""Proxies and extra files that travel to real workers."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from shaper.engines.batch import Batch
from shaper.errors import BadInput
from shaper.types import Code
from tests.engines.test_environments import MAKERS, act, add, ask, below, empty_handed, seen, task
from tests.engines.workers import PROGRAMS, Worker, free_port, needs_engine, until

SECRET = "-----BEGIN RSA PRIVATE KEY----- of the tests"


@pytest.fixture(params=list(MAKERS))
def name(request: pytest.FixtureRequest) -> str:
    needs_engine(request.param)
    return str(request.param)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A proxy, and files to travel."""
    folder = tmp_path / "of the user"
    folder.mkdir()
    (folder / "proxy").write_text(SECRET)
    (folder / "proxy").chmod(0o600)
    (folder / "corrections.json").write_text("[1, 2]")
    (folder / "their_module.py").write_text("VALUE = 7\n")
    return {
        "x509_proxy": folder / "proxy",
        "extra_input_files": [folder / "corrections.json", str(folder / "their_module.py")],
    }


@pytest.fixture
def engine(name: str, tmp_path: Path, given: dict[str, Any]) -> Iterator[Batch]:
    made = opened(MAKERS[name](port=free_port(), **given), tmp_path / "run")
    yield made
    made.close()


def opened(engine: Batch, folder: Path) -> Batch:
    engine.run_dir = folder
    folder.mkdir()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cloudpickle.register_pickle_by_value(sys.modules[act.__module__])
    engine.open("s", Code("s", cloudpickle.dumps((act, add)), "f"))
    return engine


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def look() -> tuple[str, int, str, int]:
    """What a function finds of them."""
    import their_module

    proxy = Path(os.environ["X509_USER_PROXY"])
    mode = stat.S_IMODE(proxy.stat().st_mode)
    # Not the secret itself: results are kept.
    return digest(proxy.read_text()), mode, Path("corrections.json").read_text(), their_module.VALUE


def test_functions_find_the_proxy_and_the_files(engine: Batch, tmp_path: Path) -> None:
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path) as worker:
        assert ask(engine, 4, look) == [(digest(SECRET), 0o600, "[1, 2]", 7)] * 4
        # The key is in no file that we keep, and on no worker once its tasks are over.
        assert engine.run_dir is not None
        assert not holding(engine.run_dir)
        until(lambda: engine.wait(0.1) == [] and not holding(worker.folder))


def holding(folder: Path) -> list[Path]:
    """Files with the secret."""
    found = []
    for path in below(folder):
        with suppress(OSError):  # a directory, or gone meanwhile
            if SECRET.encode() in path.read_bytes():
                found.append(path)
    return found


def test_a_proxy_that_is_renewed_is_the_one_that_travels(engine: Batch, tmp_path: Path, given: dict[str, Any]) -> None:
    with Worker(PROGRAMS[engine.name], engine.system.port, tmp_path):
        assert ask(engine, 1, look)[0][0] == digest(SECRET)
        renewed = tmp_path / "renewed"
        renewed.write_text(SECRET + ", renewed")
        renewed.chmod(0o600)
        renewed.rename(given["x509_proxy"])
        engine.submit(task(2, look))
        seen(engine, 1)
        assert engine.fetch("1.2")[0] == digest(SECRET + ", renewed")  # type: ignore[index]


def test_they_travel_with_an_environment_too(name: str, given: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    for delivery in ("worker", "task"):
        engine = opened(
            MAKERS[name](port=free_port(), environment=packed, delivery=delivery, **given), tmp_path / delivery
        )
        try:
            with empty_handed(engine, tmp_path / delivery):
                assert ask(engine, 2, look) == [(digest(SECRET), 0o600, "[1, 2]", 7)] * 2
        finally:
            engine.close()


def test_a_proxy_that_others_can_read_is_refused(name: str, given: dict[str, Any]) -> None:
    given["x509_proxy"].chmod(0o640)
    with pytest.raises(BadInput, match=r"proxy holds a key and others can read it: chmod 600"):
        MAKERS[name](**given)
