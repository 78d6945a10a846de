# SPDX-License-Identifier: Apache-2.0
"""The discovery.d folder: what its files say now, and a file descriptor that tells of changes.

The watch is set before the first listing, so no file can appear between the two unseen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from inotify_simple import INotify, flags  # type: ignore[import-untyped]

from lightos.discovery.entries import DiscoveryEntry, DiscoveryFile, LineError, parse
from lightos.discovery.publish import is_discovery_file

_FILE_SIZE_LIMIT_BYTES = 1 << 20
_KEPT_ENTRIES = 1 << 14
"""Of a file that is rewritten and stays bad, the latest: more than one file can hold."""
_CHANGES = (
    flags.CREATE
    | flags.CLOSE_WRITE
    | flags.MODIFY
    | flags.ATTRIB
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_FOLDER_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.UNMOUNT


class FolderLost(Exception):
    """The watched folder was removed or moved away."""


class DiscoveryFolder:
    """Every discovery file of a folder, kept current by `refresh`.

    A file that turns bad gives up none of its earlier entries until it is corrected or
    removed: a slip of an operator's pen must not cut I/O. What one that was bad from the start
    asked for before is not known, see `is_understood`.

    Raises OSError when constructed on a folder that cannot be watched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, DiscoveryFile] = {}
        self._once_good: set[str] = set()
        self._inotify = INotify(nonblocking=True)
        try:
            self._inotify.add_watch(path, _CHANGES)
            self._refresh_all()
        except OSError:
            self._inotify.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inotify.close()

    def fileno(self) -> int:
        """Readable when something changed; then call `refresh`."""
        return int(self._inotify.fileno())

    @property
    def entries(self) -> Mapping[str, tuple[DiscoveryEntry, ...]]:
        return {name: file.entries for name, file in self._files.items()}

    @property
    def errors(self) -> tuple[LineError, ...]:
        """Every bad line and unreadable file, by name."""
        return tuple(error for name in sorted(self._files) for error in self._files[name].errors)

    @property
    def is_understood(self) -> bool:
        """Whether each file was free of errors at least once, so `entries` lacks none of them."""
        return self._files.keys() <= self._once_good

    def refresh(self) -> bool:
        """Read again what changed since the last call; True if any file differs now.

        Raises:
            FolderLost: the folder is gone; what it said last stays readable.
        """
        before = dict(self._files)
        events = self._inotify.read(timeout=0)
        if any(event.mask & _FOLDER_GONE for event in events):
            raise FolderLost(f"{self._path} was removed or moved away")
        if any(event.mask & flags.Q_OVERFLOW for event in events):
            self._refresh_all()
        else:
            for name in {event.name for event in events if event.name}:
                self._refresh_one(name)
        return self._files != before

    def _refresh_all(self) -> None:
        for name in {*self._files, *os.listdir(self._path)}:
            self._refresh_one(name)

    def _refresh_one(self, name: str) -> None:
        if not is_discovery_file(name):
            return
        read = _read(self._path / name)
        if read is None:
            self._files.pop(name, None)
            self._once_good.discard(name)
            return
        if not read.errors:
            self._once_good.add(name)
        earlier = self._files.get(name, DiscoveryFile()).entries if read.errors else ()
        entries = tuple(dict.fromkeys((*read.entries, *earlier)))[:_KEPT_ENTRIES]
        self._files[name] = DiscoveryFile(entries, read.errors)


def read_folder(path: Path) -> dict[str, DiscoveryFile]:
    """What each discovery file of a folder says now, by name. OSError for one not to be listed."""
    found = {name: _read(path / name) for name in os.listdir(path) if is_discovery_file(name)}
    return {name: read for name, read in found.items() if read is not None}


def _read(path: Path) -> DiscoveryFile | None:
    """None for a folder, and for a file that is gone; one that cannot be read has that error."""
    try:
        return parse(read_discovery_file(path), path.name)
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        unreadable = LineError(path.name, 0, f"unreadable: {error.strerror}")
        return DiscoveryFile(errors=(unreadable,))


def read_discovery_file(path: Path) -> str:
    """What a discovery file holds. OSError for one that is none, or too large to be one."""
    # O_NONBLOCK: opening a FIFO that someone put here must not stop the daemon.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > _FILE_SIZE_LIMIT_BYTES:
            raise OSError(0, f"larger than {_FILE_SIZE_LIMIT_BYTES} bytes")
        return file.read(_FILE_SIZE_LIMIT_BYTES).decode("utf-8", errors="surrogateescape")
