# SPDX-License-Identifier: Apache-2.0
"""The cluster's metadata on disk: one SQLite file, each commit on stable storage.

WAL with synchronous=FULL syncs the log on every commit, so what was acknowledged survives
`kill -9` and power loss alike. Records are read whole at start; afterwards the file is only
written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from lightos.lab.errors import Internal, LabError
from lightos.lab.records import Record

R = TypeVar("R", bound=Record)

SCHEMA_VERSION = 1
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """Holds records by kind and UUID; opened by one process, used by one thread at a time."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the file at `path` (`:memory:` in tests).

        Raises LabError when it cannot be opened, is no database, or is of another version.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as cause:
            damaged = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
            fix = "restore it" if damaged else "free space and check permissions,"
            raise LabError(
                f"cannot use the cluster's metadata in {path}: {cause}; "
                f"{fix} or choose another --state-dir"
            ) from cause

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise LabError(
                f"{self._path} was written by another version of the lab (schema {version}, "
                f"this one reads {SCHEMA_VERSION}); use that version or another --state-dir"
            )
        execute(
            "CREATE TABLE IF NOT EXISTS record "
            "(kind TEXT, uuid TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, uuid)) WITHOUT ROWID"
        )
        execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")

    def load(self, record_type: type[R]) -> list[R]:
        """Every record of one type. Raises LabError for a body that cannot be read."""
        query = "SELECT uuid, body FROM record WHERE kind = ? ORDER BY uuid"
        try:
            rows = self._connection.execute(query, (record_type.kind,)).fetchall()
        except sqlite3.Error as cause:
            raise LabError(
                f"{self._path} is damaged: {cause}; restore it or choose another --state-dir"
            ) from cause
        records = []
        for uuid, body in rows:
            try:
                records.append(record_type.from_json(json.loads(body)))
            except (KeyError, TypeError, ValueError) as cause:
                raise LabError(
                    f"{self._path} is damaged: {record_type.kind} {uuid} cannot be read "
                    f"({cause!r}); restore the file or choose another --state-dir"
                ) from cause
        return records

    def commit(self, put: Iterable[Record] = (), drop: Iterable[Record] = ()) -> None:
        """Write and remove records in one transaction, on stable storage when this returns.

        Raises Internal, with nothing changed, when the disk is full or fails.
        """
        execute, executemany = self._connection.execute, self._connection.executemany
        try:
            execute("BEGIN IMMEDIATE")
            executemany(
                "DELETE FROM record WHERE kind = ? AND uuid = ?",
                [(record.kind, str(record.uuid)) for record in drop],
            )
            executemany(
                "INSERT OR REPLACE INTO record VALUES (?, ?, ?)",
                [(record.kind, str(record.uuid), json.dumps(record.to_json())) for record in put],
            )
            execute("COMMIT")
        except sqlite3.Error as cause:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise Internal(
                f"the lab cannot write its metadata in {self._path}: {cause}; "
                "free space on that disk and try again"
            ) from cause

    def close(self) -> None:
        self._connection.close()
