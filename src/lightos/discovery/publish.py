# SPDX-License-Identifier: Apache-2.0
"""Discovery files appear whole or not at all, and only under names made from a volume's UUID.

A file is written in its own folder (another folder may be another file system, and a move
across those is a copy that a watcher sees empty), synced, and renamed. Daemons ignore names
that start with `tmp.dc.`. Standard library only: os-brick's privileged half imports this module.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
from collections.abc import Iterator
from uuid import UUID

TEMPORARY_PREFIX = "tmp.dc."
_FILE_MODE = 0o644
_READ_LIMIT_BYTES = 1 << 20


class Outcome(enum.Enum):
    """What `publish` had to do."""

    CREATED = "created"
    REFRESHED = "refreshed"
    UNCHANGED = "unchanged"


def file_name(volume_uuid: UUID) -> str:
    """Name of a volume's discovery file, the same that every earlier connector used."""
    if not isinstance(volume_uuid, UUID):
        raise TypeError(f"a discovery file is named by a UUID, not by {volume_uuid!r}")
    return f"{volume_uuid}.conf"


def read(directory: str, volume_uuid: UUID) -> str | None:
    """Content of a volume's discovery file, None if there is none."""
    try:
        with open(
            os.path.join(directory, file_name(volume_uuid)), encoding="utf-8", errors="replace"
        ) as file:
            return file.read(_READ_LIMIT_BYTES)
    except FileNotFoundError:
        return None


def publish(directory: str, volume_uuid: UUID, content: str) -> Outcome:
    """Make a volume's discovery file hold `content`; durable when this returns.

    A file that already holds exactly that is left alone.
    Raises OSError (no folder, no right, no space); the previous file is then still whole.
    """
    name = file_name(volume_uuid)
    with _opened_directory(directory) as directory_fd, _temporary(directory_fd, name) as fd:
        earlier = read(directory, volume_uuid)
        if earlier == content:
            os.unlink(TEMPORARY_PREFIX + name, dir_fd=directory_fd)
            return Outcome.UNCHANGED
        os.ftruncate(fd, 0)
        os.fchmod(fd, _FILE_MODE)
        _write_all(fd, content.encode())
        os.fsync(fd)
        os.rename(TEMPORARY_PREFIX + name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        os.fsync(directory_fd)
        return Outcome.CREATED if earlier is None else Outcome.REFRESHED


def remove(directory: str, volume_uuid: UUID) -> bool:
    """Remove a volume's discovery file. Returns False if there was none."""
    try:
        with _opened_directory(directory) as directory_fd:
            os.unlink(file_name(volume_uuid), dir_fd=directory_fd)
            os.fsync(directory_fd)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _opened_directory(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _temporary(directory_fd: int, name: str) -> Iterator[int]:
    """The locked temporary file of `name`.

    The name is fixed, so a writer that died leaves at most one file and the next one reuses
    it; the lock keeps two live writers of one volume apart. Whoever waited for the lock may
    hold a file that was renamed or unlinked meanwhile, and starts over.
    """
    path = TEMPORARY_PREFIX + name
    while True:
        fd = os.open(
            path,
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            mode=0o600,
            dir_fd=directory_fd,
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_still_named(fd, path, directory_fd):
                try:
                    yield fd
                except OSError:
                    if _is_still_named(fd, path, directory_fd):
                        os.unlink(path, dir_fd=directory_fd)
                    raise
                return
        finally:
            os.close(fd)


def _is_still_named(fd: int, path: str, directory_fd: int) -> bool:
    try:
        named = os.stat(path, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
