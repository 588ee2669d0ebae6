"""The store itself: one SQLite file, or tables of a PostgreSQL server. Several managers may write at once.

Every call opens a connection of its own and closes it: a run has two or three of them. Whatever goes wrong is one
`Unusable` with one line for the user.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, delete, func, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from shaper.history import connect, schema
from shaper.history.place import Place
from shaper.history.schema import DOCUMENTS, OBSERVATIONS, STAGE_RUNS, SUBJECTS
from shaper.history.subject import Subject

# What is kept: of each subject the last so many, of each workflow's category so many fingerprints, and subjects in all.
WINDOW, OBSERVATIONS_KEPT, FINGERPRINTS_KEPT, SUBJECTS_KEPT = 50, 400, 10, 1000

Row = Mapping[str, Any]


class Unusable(Exception):
    """The store cannot be read or written; the message is one line that says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one run adds about one subject.

    Args:
        documents: parameters of models by kind; each replaces the one that is there.
    """

    subject: Subject
    documents: Mapping[str, Row] = field(default_factory=dict)
    observations: Sequence[Row] = ()
    stage_runs: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What the store knows that is nearest to a subject.

    Args:
        exact: whether it is about the same code, versions and worker.
        runs: how many runs it is from.
    """

    exact: bool
    runs: int
    documents: Mapping[str, object]


class Store:
    """A place that can be read and written.

    Args:
        steps: of the schema; other ones only in tests.

    Attributes:
        left_out: rows that were read and make no sense.
    """

    def __init__(self, place: Place, steps: Sequence[schema.Step] = schema.STEPS) -> None:
        self.place = place
        self._steps = steps
        self._engine: Engine | None = None
        self._ready = False
        self.left_out = 0

    @property
    def name(self) -> str:
        """The path or the URL, without a password."""
        if self.place.url is None:
            return str(self.place.path)
        try:
            url = self._made().url.difference_update_query(["password", "sslpassword"])
            return url.render_as_string(hide_password=True).replace("+psycopg", "")
        except Unusable:
            return "postgresql://..."

    # -- what runs do ---------------------------------------------------------------------------------------------

    def find(self, subjects: Sequence[Subject]) -> list[Found | None]:
        """What to begin each of these with: the same fingerprint, else the same code, else the same workflow.

        Raises:
            Unusable: the store cannot be read.
        """
        if self.place.path is not None and not self.place.path.exists():
            return [None] * len(subjects)
        with self._reading() as connection:
            return [self._find(connection, subject) for subject in subjects]

    def _find(self, connection: Connection, subject: Subject) -> Found | None:
        t = SUBJECTS.c
        same_code = (t.code == subject.code) if subject.code else (t.fingerprint == subject.fingerprint)
        query = (
            select(SUBJECTS)
            .where(t.category == subject.category, or_(same_code, t.workflow == subject.workflow))
            .order_by(
                (t.fingerprint == subject.fingerprint).desc(),
                same_code.desc(),
                (t.workflow == subject.workflow).desc(),
                t.last_unix_s.desc(),
            )
            .limit(1)
        )
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        kept = connection.execute(select(DOCUMENTS).where(DOCUMENTS.c.subject == row["id"])).mappings()
        documents = {item["kind"]: _parsed(item["body"]) for item in kept}
        return Found(row["fingerprint"] == subject.fingerprint, row["runs"], documents)

    def add(self, run: str, entries: Sequence[Entry], now_s: float | None = None) -> None:
        """Add what a run has shown, all of it or nothing, and let go what is beyond the window.

        Raises:
            Unusable: the store cannot be written.
        """
        at_s = time.time() if now_s is None else now_s
        with self._writing() as connection:
            for entry in sorted(entries, key=lambda entry: entry.subject.category):
                self._add(connection, run, entry, at_s)
            _prune_subjects(connection)

    def _add(self, connection: Connection, run: str, entry: Entry, at_s: float) -> None:
        subject = entry.subject
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        new = insert(SUBJECTS).values(
            workflow=subject.workflow,
            category=subject.category,
            fingerprint=subject.fingerprint,
            code=subject.code,
            worker=subject.worker,
            versions=json.dumps(dict(subject.versions)),
            first_unix_s=at_s,
            last_unix_s=at_s,
            runs=1,
        )
        upsert = new.on_conflict_do_update(
            index_elements=["workflow", "category", "fingerprint"],
            set_={"last_unix_s": func.max(SUBJECTS.c.last_unix_s, at_s), "runs": SUBJECTS.c.runs + 1}
            if connection.dialect.name == "sqlite"
            else {"last_unix_s": func.greatest(SUBJECTS.c.last_unix_s, at_s), "runs": SUBJECTS.c.runs + 1},
        )
        number = connection.execute(upsert.returning(SUBJECTS.c.id)).scalar_one()
        for kind, body in entry.documents.items():
            row = {"body": json.dumps(body, separators=(",", ":"), allow_nan=False), "updated_unix_s": at_s}
            document = insert(DOCUMENTS).values(subject=number, kind=kind, **row)
            connection.execute(document.on_conflict_do_update(index_elements=["subject", "kind"], set_=row))
        for table, rows, most in (
            (OBSERVATIONS, entry.observations, OBSERVATIONS_KEPT),
            (STAGE_RUNS, entry.stage_runs, WINDOW),
        ):
            if rows:
                connection.execute(table.insert(), [{"subject": number, "run": run, **row} for row in rows])
            newest = select(table.c.id).where(table.c.subject == number)
            newest = newest.order_by(table.c.at_unix_s.desc(), table.c.id.desc()).limit(most)
            connection.execute(delete(table).where(table.c.subject == number, table.c.id.not_in(newest)))

    # -- what people ask ------------------------------------------------------------------------------------------

    def subjects(self) -> list[dict[str, Any]]:
        """All subjects, the latest first, each with its versions.

        Raises:
            Unusable: the store cannot be read.
        """
        rows = self._rows(SUBJECTS, select(SUBJECTS).order_by(SUBJECTS.c.last_unix_s.desc(), SUBJECTS.c.id))
        return [{**row, "versions": _parsed(row["versions"])} for row in rows]

    def documents(self, subject: int) -> dict[str, object]:
        """The parameters of models of a subject, by kind."""
        query = select(DOCUMENTS).where(DOCUMENTS.c.subject == subject).order_by(DOCUMENTS.c.kind)
        rows = self._rows(DOCUMENTS, query)
        return {row["kind"]: _parsed(row["body"]) for row in rows}

    def stage_runs(self, subject: int) -> list[dict[str, Any]]:
        """The stage runs of a subject, the oldest first."""
        return self._of(STAGE_RUNS, subject)

    def observations(self, subject: int) -> list[dict[str, Any]]:
        """The observations of a subject, the oldest first."""
        return self._of(OBSERVATIONS, subject)

    def _of(self, table: Table, subject: int) -> list[dict[str, Any]]:
        query = select(table).where(table.c.subject == subject).order_by(table.c.at_unix_s, table.c.id)
        rows = self._rows(table, query)
        return [{key: value for key, value in row.items() if key not in ("id", "subject")} for row in rows]

    def _rows(self, table: Table, query: Select[Any]) -> list[dict[str, Any]]:
        """The rows of a query that make sense: a file of SQLite can hold anything in any column."""
        if self.place.path is not None and not self.place.path.exists():
            return []
        with self._reading() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        sound = [row for row in found if all(schema.makes_sense(column, row[column.name]) for column in table.c)]
        self.left_out += len(found) - len(sound)
        return sound

    def forget(self, subjects: Collection[int] | None) -> None:
        """Remove subjects and all that is about them; None removes everything.

        Raises:
            Unusable: the store cannot be written.
        """
        some = delete(SUBJECTS) if subjects is None else delete(SUBJECTS).where(SUBJECTS.c.id.in_(subjects))
        with self._writing() as connection:
            connection.execute(some)

    # -- connections ----------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._migrated()
        with self._said(), self._made().connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._said():
            if self.place.path is not None:
                self.place.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._made().connect().execution_options(writes=True) as connection, connection.begin():
                schema.migrate(connection, self._steps)
                if connection.dialect.name == "postgresql":
                    # Two that touch the same rows in another order would wait for each other.
                    connection.execute(text("LOCK TABLE subjects IN SHARE ROW EXCLUSIVE MODE"))
                yield connection
        self._ready = True

    def _migrated(self) -> None:
        """Bring an older store up to date before it is read."""
        if self._ready:
            return
        with self._said():
            try:
                done = self._number()
            except DBAPIError as error:
                if self.place.path is None or not re.search("readonly|unable to open", str(error.orig)):
                    raise
                # To read a file that has a write-ahead log another is made beside it, which its folder may not allow.
                self._engine = connect.sqlite(self.place.path, still=True)
                done = self._number()
        if done != len(self._steps):
            with self._writing():
                pass
        self._ready = True

    def _number(self) -> int:
        with self._made().connect() as connection, connection.begin():
            return schema.number(connection)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn whatever the database says into one line."""
        try:
            yield
        except schema.Newer as error:
            raise Unusable(
                f"{self.name} was made by a newer version of shaper (schema {error}): update this one"
            ) from None
        except DBAPIError as error:
            raise Unusable(f"{self.name} cannot be used: {connect.why(error)}") from error
        except (SQLAlchemyError, OSError) as error:
            raise Unusable(f"{self.name} cannot be used: {connect.line(error)}") from error

    def _made(self) -> Engine:
        if self._engine is None:
            url = self.place.url
            try:
                self._engine = connect.postgresql(url) if url else connect.sqlite(self.place.path or Path())
            except ModuleNotFoundError as error:
                raise Unusable("PostgreSQL needs a driver: pip install 'shaper[postgres]'") from error
            except (ArgumentError, ValueError):  # which may quote a password
                raise Unusable(
                    "that is no URL of PostgreSQL: write postgresql://USER@HOST:PORT/DATABASE, "
                    "and in a password %40 for @, %3A for :, %2F for /"
                ) from None
        return self._engine


def _prune_subjects(connection: Connection) -> None:
    t = SUBJECTS.c
    rank = func.row_number().over(partition_by=(t.workflow, t.category), order_by=(t.last_unix_s.desc(), t.id.desc()))
    ranked = select(t.id, rank.label("rank")).subquery()
    connection.execute(delete(SUBJECTS).where(t.id.in_(select(ranked.c.id).where(ranked.c.rank > FINGERPRINTS_KEPT))))
    newest = select(t.id).order_by(t.last_unix_s.desc(), t.id.desc()).limit(SUBJECTS_KEPT)
    connection.execute(delete(SUBJECTS).where(t.id.not_in(newest)))


def _parsed(body: object) -> object:
    try:
        return json.loads(body) if isinstance(body, str) else None
    except (ValueError, RecursionError):
        return None
