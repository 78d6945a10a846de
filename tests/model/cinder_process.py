# SPDX-License-Identifier: Apache-2.0
"""cinder-volume in a process that can be killed at any moment, and started again.

Its operations are those of `testbed.cinder.volume_manager.VolumeManager`. What Cinder believes is
read from its database, by another process and without Cinder.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SPEED = 50
"""How many times shorter the driver sleeps: the 40 s that it waits for a change are 0.8 s."""
START_SECONDS = 60.0
SECONDS_BETWEEN_REFRESHES = 60.0
"""Of the statistics, as Cinder has it by default."""
HOUSEKEEPING_THREAD = "lightos-housekeeping"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.model.preloaded"])


class FastTime:
    """Stands in for the `time` module in `lightos.waiting`, which alone reads a clock.

    Only sleep is shortened: a machine that is slow does not make the driver run out of time.
    """

    def __init__(self) -> None:
        self._saved_seconds = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return time.monotonic() + self._saved_seconds

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / SPEED)
        self.skip(seconds - seconds / SPEED)

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        with self._lock:
            self._saved_seconds += seconds


def finish_housekeeping() -> None:
    """Wait until the driver has looked for what operations left, if it does."""
    for thread in threading.enumerate():
        if thread.name == HOUSEKEEPING_THREAD:
            thread.join()


class CinderDied(BaseException):
    """The process ended by itself, or did not start.

    No Exception, because hypothesis would try again what only the log can explain.
    """


def _serve(
    connection: Connection, folder: Path, lab: Mapping[str, Any], options: Mapping[str, object]
) -> None:
    """Carry out (method, arguments) until the pipe closes; answer each with its error or None."""
    from lightos import waiting
    from testbed.cinder.volume_manager import VolumeManager

    manager = VolumeManager(folder, lab)
    try:
        manager.start(options)
        finish_housekeeping()
        clock = FastTime()
        waiting.time = clock  # type: ignore[assignment]
        connection.send(None)
        while True:
            method, arguments = connection.recv()
            if method == "stats":
                clock.skip(SECONDS_BETWEEN_REFRESHES)
            try:
                getattr(manager, method)(**arguments)
                finish_housekeeping()
            except Exception as error:  # noqa: BLE001 - whatever Cinder was told is the answer
                connection.send(f"{type(error).__name__}: {error}")
            else:
                connection.send(None)
    except EOFError:
        os._exit(0)  # Cinder's threads would keep the process
    except Exception as error:  # noqa: BLE001 - told to whoever started this
        connection.send(f"start: {type(error).__name__}: {error}")
        os._exit(1)


class CinderProcess:
    """One cinder-volume; `options` are the driver's, beside those of the driver guide."""

    def __init__(self, folder: Path, lab: Mapping[str, Any], options: Mapping[str, object]) -> None:
        self._arguments = (folder, lab, options)
        self._process: Any = None
        self._connection: Connection

    def start(self) -> None:
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(
            target=_serve, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_SECONDS):
            raise CinderDied(f"no sign of life after {START_SECONDS:g} s")
        if error := self.receive():
            raise CinderDied(error)

    def send(self, method: str, **arguments: object) -> None:
        """Begin an operation."""
        self._connection.send((method, arguments))

    def is_done(self, timeout_seconds: float = 0) -> bool:
        """Whether the operation's answer has come."""
        return self._connection.poll(timeout_seconds)

    def receive(self) -> str | None:
        """The operation's error, or None; CinderDied."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise CinderDied("in the middle of an operation") from None

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.join()
        self._connection.close()


@dataclass(frozen=True)
class VolumeRow:
    id: str
    status: str
    size: int
    type_id: str
    provider_id: str | None

    @property
    def name(self) -> str:
        return f"volume-{self.id}"


@dataclass(frozen=True)
class SnapshotRow:
    id: str
    volume_id: str
    status: str
    volume_size: int

    @property
    def name(self) -> str:
        return f"snapshot-{self.id}"


@dataclass(frozen=True)
class AttachmentRow:
    """`host` is empty for one whose connector Cinder never recorded."""

    id: str
    volume_id: str
    status: str
    host: str


@dataclass(frozen=True)
class CinderView:
    """What Cinder believes: everything that it does not count as deleted, oldest first."""

    volumes: tuple[VolumeRow, ...]
    snapshots: tuple[SnapshotRow, ...]
    attachments: tuple[AttachmentRow, ...]
    type_ids: tuple[str, ...]
    """Of the types that `make_type` made."""

    @classmethod
    def read(cls, database: Path) -> CinderView:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:

            def rows(columns: str, table: str) -> list[tuple[Any, ...]]:
                # S608: both are literals below.
                query = f"SELECT {columns} FROM {table} WHERE deleted = 0 ORDER BY rowid"
                return connection.execute(query).fetchall()

            return cls(
                tuple(
                    VolumeRow(*row)
                    for row in rows("id, status, size, volume_type_id, provider_id", "volumes")
                ),
                tuple(
                    SnapshotRow(*row)
                    for row in rows("id, volume_id, status, volume_size", "snapshots")
                ),
                tuple(
                    AttachmentRow(*row)
                    for row in rows(
                        "id, volume_id, attach_status, "
                        "coalesce(json_extract(connector, '$.nqn'), '')",
                        "volume_attachment",
                    )
                ),
                tuple(
                    type_id
                    for type_id, name in rows("id, name", "volume_types")
                    if name.startswith("type-")
                ),
            )
