"""How SQLite and PostgreSQL are connected to, so that several managers can write at once; what their errors mean."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from shaper.history.place import network_file_system

# How long others may hold the store before a call gives up.
BUSY_S = 5.0


def sqlite(path: Path, *, still: bool = False) -> Engine:
    """An engine for a file; writing transactions are begun as such, by the option `writes` of the connection.

    Args:
        still: read the file as it is, without locks and without the log that others may be writing.
    """
    name = f"{path.absolute().as_uri()}?mode=ro&immutable=1" if still else str(path)
    engine = create_engine(
        "sqlite://",
        poolclass=NullPool,
        creator=lambda: sqlite3.connect(name, timeout=BUSY_S, uri=still),
    )
    # A write-ahead log needs memory that all who use the file share, which those of several machines do not.
    mode = "WAL" if network_file_system(path) is None else "DELETE"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver thinks that they should
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN")
            return
        with suppress(DBAPIError):  # where others are at work it was set before
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one().upper() != mode:
                connection.exec_driver_sql(f"PRAGMA journal_mode={mode}")
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL" if mode == "WAL" else "PRAGMA synchronous=FULL")
        # Who reads first and writes then may find that another has written between, which no waiting helps.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgresql(url: str) -> Engine:
    """An engine for a URL of the psycopg driver; no statement and no lock is waited for longer than `BUSY_S`.

    Raises:
        ArgumentError, ValueError: it is none; the message may have a part of the password in it.
    """
    if url.count("@") > 1:
        raise ValueError("which of these ends the password")
    # A try for each address of the server; libpq takes no less than two seconds.
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": round(BUSY_S), "application_name": "shaper"}
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        for what in ("statement_timeout", "lock_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {what} = {round(1000 * BUSY_S)}")

    return engine


def why(error: DBAPIError) -> str:
    """What the driver says, and what to do about it."""
    said = line(error.orig if error.orig is not None else error)
    for sign, advice in (
        ("not a database", "move it away, and the next run begins a new one"),
        ("malformed", "move it away, and the next run begins a new one"),
        ("locked", f"others have held it for {BUSY_S:.0f} s"),
        ("readonly", "it is read-only; give another with SHAPER_HISTORY"),
        ("unable to open", "give another with SHAPER_HISTORY"),
        ("disk is full", "make room"),
    ):
        if sign in said:
            return f"{said} ({advice})"
    return said


def line(error: BaseException) -> str:
    """The first line of a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
