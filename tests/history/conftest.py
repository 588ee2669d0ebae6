"""Stores for the tests: a file, and a database on a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from shaper.history.place import Place, place
from tests.conftest import needs
from tests.history.postgres import programs, server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server; tests make databases of their own on it."""
    needs(programs(), "PostgreSQL (apt-get install postgresql)")
    with server() as url:
        yield url


@pytest.fixture
def database(postgres: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"t{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place where no history is yet."""
    asked = tmp_path / "h" / "history.sqlite" if request.param == "sqlite" else request.getfixturevalue("database")
    found = place(asked)
    assert found is not None
    return found
