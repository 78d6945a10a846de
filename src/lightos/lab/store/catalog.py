# SPDX-License-Identifier: Apache-2.0
"""Which layers there are, what lies under each, and which volume or snapshot names it.

A SQLite file: every change is one durable transaction, after which the caller changes what it
holds in memory. Contents and maps of layers are not in here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

_FORMAT = 1
_SPARE_BYTES = 256 * 1024
_SCHEMA = """
CREATE TABLE layer (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER REFERENCES layer,
    overlap_extents INTEGER NOT NULL
);
CREATE TABLE entry (
    uuid TEXT PRIMARY KEY,
    is_snapshot INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    layer INTEGER NOT NULL UNIQUE REFERENCES layer
);
CREATE TABLE last_run (boot_id TEXT NOT NULL, was_closed INTEGER NOT NULL);
INSERT INTO last_run VALUES ('', 1);
"""


class LayerRow(NamedTuple):
    id: int
    parent: int | None
    overlap_extents: int


class EntryRow(NamedTuple):
    uuid: UUID
    is_snapshot: bool
    size_bytes: int
    layer: int


class Catalog:
    """Not thread-safe: the caller holds the store's structure lock."""

    def __init__(self, path: Path) -> None:
        self._spare = path.with_name("spare")
        with _as_os_errors(path):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._path = path
            # The exclusive mode needs no shared memory file, whose pages could fault when the
            # disk is full; the small log keeps the file from growing between checkpoints.
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                "wal_autocheckpoint = 64",
                "cache_size = -512",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
            elif found != _FORMAT:
                self._db.close()
                raise ValueError(
                    f"{path} has format {found}, this version knows {_FORMAT}: "
                    "start with an empty directory, or with the version that wrote it"
                )
        self._keep_spare()

    def layers(self) -> list[LayerRow]:
        """All layers, parents before children."""
        rows = self._db.execute("SELECT id, parent, overlap_extents FROM layer ORDER BY id")
        return [LayerRow(*row) for row in rows]

    def entries(self) -> list[EntryRow]:
        rows = self._db.execute("SELECT uuid, is_snapshot, size_bytes, layer FROM entry")
        return [EntryRow(UUID(uuid), bool(snap), size, layer) for uuid, snap, size, layer in rows]

    def last_run(self) -> tuple[str, bool]:
        """The kernel's boot id when the store was last used, and whether it was closed then."""
        boot_id, was_closed = self._db.execute(
            "SELECT boot_id, was_closed FROM last_run"
        ).fetchone()
        return str(boot_id), bool(was_closed)

    def set_last_run(self, boot_id: str, *, was_closed: bool) -> None:
        self._db.execute("UPDATE last_run SET boot_id = ?, was_closed = ?", (boot_id, was_closed))

    @contextlib.contextmanager
    def transaction(self, *, frees_space: bool = False) -> Iterator[Catalog]:
        """All or nothing, durable when left. Raises OSError (ENOSPC, EIO).

        One that `frees_space` must work on a full disk: room for it was put aside before.
        """
        if frees_space:
            self._spare.unlink(missing_ok=True)
        try:
            with _as_os_errors(self._path):
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        finally:
            if frees_space:
                self._keep_spare()

    def add_layer(self, parent: int | None, overlap_extents: int) -> int:
        """The new layer's id; ids grow and are not used again."""
        cursor = self._db.execute(
            "INSERT INTO layer (parent, overlap_extents) VALUES (?, ?)", (parent, overlap_extents)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def set_layer(self, layer_id: int, parent: int | None, overlap_extents: int) -> None:
        self._db.execute(
            "UPDATE layer SET parent = ?, overlap_extents = ? WHERE id = ?",
            (parent, overlap_extents, layer_id),
        )

    def move_children(self, from_id: int, to_id: int) -> None:
        self._db.execute("UPDATE layer SET parent = ? WHERE parent = ?", (to_id, from_id))

    def remove_layer(self, layer_id: int) -> None:
        self._db.execute("DELETE FROM layer WHERE id = ?", (layer_id,))

    def add_entry(self, row: EntryRow) -> None:
        self._db.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?)",
            (str(row.uuid), row.is_snapshot, row.size_bytes, row.layer),
        )

    def set_entry_layer(self, uuid: UUID, layer_id: int) -> None:
        self._db.execute("UPDATE entry SET layer = ? WHERE uuid = ?", (layer_id, str(uuid)))

    def set_entry_size(self, uuid: UUID, size_bytes: int) -> None:
        self._db.execute("UPDATE entry SET size_bytes = ? WHERE uuid = ?", (size_bytes, str(uuid)))

    def remove_entry(self, uuid: UUID) -> None:
        self._db.execute("DELETE FROM entry WHERE uuid = ?", (str(uuid),))

    def integrity_problems(self) -> list[str]:
        (answer,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        return [] if answer == "ok" else [f"{self._path}: {answer}"]

    def close(self) -> None:
        self._db.close()

    def _keep_spare(self) -> None:
        # On a disk that is full already there is nothing to put aside; the next
        # transaction that frees space tries again.
        with contextlib.suppress(OSError), open(self._spare, "ab") as spare:
            os.posix_fallocate(spare.fileno(), 0, _SPARE_BYTES)


_SQLITE_ERRNO = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}


@contextlib.contextmanager
def _as_os_errors(path: Path) -> Iterator[None]:
    """SQLite's word for a full or failing disk, as the OSError that every other call raises."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        code = _SQLITE_ERRNO.get(exc.sqlite_errorcode & 0xFF)
        if code is None:
            raise
        raise OSError(code, f"{os.strerror(code)}: {exc}", str(path)) from exc
