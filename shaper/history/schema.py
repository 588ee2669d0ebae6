"""The tables of the history, and the steps that bring an older store to them.

The steps are plain functions, run in one transaction with the number of the last one: there are few, they must run
within a user's run without a folder of scripts, and two managers may begin them at once. Alembic would be a second
dependency with a configuration of its own for this. A step, once released, is never changed; a new one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    text,
)

METADATA = MetaData()

NUMBER = Table("schema_number", METADATA, Column("number", Integer, nullable=False))

# One workflow's category under one fingerprint: what all other rows are about.
SUBJECTS = Table(
    "subjects",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("workflow", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("code", String(64), nullable=False),
    Column("worker", Text, nullable=False),
    Column("versions", Text, nullable=False),  # JSON object: package -> version
    Column("first_unix_s", Float, nullable=False),
    Column("last_unix_s", Float, nullable=False),
    Column("runs", Integer, nullable=False),
    UniqueConstraint("workflow", "category", "fingerprint", name="one_subject"),
)

# Parameters of models, by kind ("beliefs", ...): JSON, with a version of its own for each kind.
DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("subject", ForeignKey("subjects.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("body", Text, nullable=False),
    Column("updated_unix_s", Float, nullable=False),
)

OBSERVATIONS = Table(
    "observations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("subject", ForeignKey("subjects.id", ondelete="CASCADE"), nullable=False),
    Column("run", String(32), nullable=False),
    Column("at_unix_s", Float, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("work", String(8), nullable=False),  # process or merge
    Column("size", Float, nullable=False),  # elements; KiB of a merge
    Column("outcome", String(16), nullable=False),
    Column("wall_s", Float),
    Column("cpu_s", Float),
    Column("memory_mib", Float),
    Column("cores", Integer, nullable=False),
    Column("given_mib", Integer, nullable=False),
    Index("observations_of", "subject", "at_unix_s"),
)

STAGE_RUNS = Table(
    "stage_runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("subject", ForeignKey("subjects.id", ondelete="CASCADE"), nullable=False),
    Column("run", String(32), nullable=False),
    Column("stage", Text, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("s", Integer, nullable=False),
    Column("elements", Integer, nullable=False),
    Column("load", Float, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("tasks", Integer, nullable=False),
    Column("chunksize", Float, nullable=False),
    Column("task_mib", Float, nullable=False),
    Column("engine", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("at_unix_s", Float, nullable=False),
    Index("stage_runs_of", "subject", "at_unix_s"),
)


def _what_runs_begin_with(connection: Connection) -> None:
    METADATA.create_all(connection, [SUBJECTS, DOCUMENTS, OBSERVATIONS])


def _what_parallelism_is_learnt_from(connection: Connection) -> None:
    METADATA.create_all(connection, [STAGE_RUNS])


Step = Callable[[Connection], None]
STEPS: Sequence[Step] = (_what_runs_begin_with, _what_parallelism_is_learnt_from)

_MOST = 1e18
_LATEST_UNIX_S = 1e11  # a clock may be wrong, but no year has five digits


def makes_sense(column: Column[Any], value: object) -> bool:
    """Whether a value may stand in a column: of its type, and neither negative nor a time that cannot be shown."""
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, String):
        return isinstance(value, str)
    number = isinstance(value, int if isinstance(column.type, Integer) else int | float)
    return number and 0 <= value <= (_LATEST_UNIX_S if column.name.endswith("_unix_s") else _MOST)  # type: ignore[operator]


# Of the advisory lock under which PostgreSQL runs the steps; any number that nobody else uses.
_LOCK = 0x5348_4150_4552


class Newer(Exception):
    """The store has a schema that this version does not know."""


def number(connection: Connection) -> int:
    """The number of the last step that a store has seen; 0 for one that is new."""
    if not inspect(connection).has_table(NUMBER.name):
        return 0
    return connection.execute(select(NUMBER.c.number)).scalar_one_or_none() or 0


def migrate(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Run the steps that a store has not seen, in the transaction of the connection, which must be a writing one.

    Raises:
        Newer: it has seen more than there are.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    done = number(connection)
    if done > len(steps):
        raise Newer(done)
    if done == len(steps):
        return
    METADATA.create_all(connection, [NUMBER])
    for step in steps[done:]:
        step(connection)
    connection.execute(NUMBER.delete())
    connection.execute(NUMBER.insert().values(number=len(steps)))
