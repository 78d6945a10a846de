# SPDX-License-Identifier: Apache-2.0
"""Discovery files appear whole or not at all, and only under names that are safe.

A file is written in its own folder (another folder may be another file system, and a move
across those is a copy that a watcher sees empty), synced, and renamed. Daemons ignore names
that start with `tmp.dc.`. A volume's file has a name made from its UUID, and nothing but that
UUID is taken from whoever asks; `publish_as` is for people who choose a name themselves.
Standard library only: os-brick's privileged half imports this module.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
from collections.abc import Callable, Iterator
from uuid import UUID

TEMPORARY_PREFIX = "tmp.dc."
_FILE_MODE = 0o644
_READ_LIMIT_BYTES = 1 << 20
_NAME_MAX_BYTES = 200
"""With the prefix of the temporary file it must still be a name (255 bytes)."""


class Outcome(enum.Enum):
    """What `update` had to do."""

    CREATED = "created"
    REFRESHED = "refreshed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


def is_discovery_file(name: str) -> bool:
    """Whether a file of this name counts: not one being written, hidden, or an editor's backup."""
    return not name.startswith((TEMPORARY_PREFIX, ".")) and not name.endswith("~")


def validated_name(name: str) -> str:
    """Return `name` if a discovery file can bear it, else raise `ValueError`."""
    if not name or "/" in name or not name.isprintable() or len(name.encode()) > _NAME_MAX_BYTES:
        raise ValueError(f"{name!r} is no file name")
    if not is_discovery_file(name):
        raise ValueError(f"files named like {name!r} are not read by a discovery client")
    return name


def file_name(volume_uuid: UUID) -> str:
    """Name of a volume's discovery file, the same that every earlier connector used."""
    if not isinstance(volume_uuid, UUID):
        raise TypeError(f"a discovery file is named by a UUID, not by {volume_uuid!r}")
    return f"{volume_uuid}.conf"


def volumes(directory: str) -> list[UUID]:
    """Those that have a discovery file. Raises OSError."""
    found = []
    for name in os.listdir(directory):
        with contextlib.suppress(ValueError):
            volume_uuid = UUID(name.removesuffix(".conf"))
            if name == file_name(volume_uuid):
                found.append(volume_uuid)
    return found


def read(directory: str, volume_uuid: UUID) -> str | None:
    """Content of a volume's discovery file, None if there is none."""
    return _read(directory, file_name(volume_uuid))


def _read(directory: str, name: str) -> str | None:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
            return file.read(_READ_LIMIT_BYTES)
    except FileNotFoundError:
        return None


def update(
    directory: str, volume_uuid: UUID, change: Callable[[str | None], str | None]
) -> Outcome:
    """Make a volume's discovery file hold what `change` makes of it; durable when this returns.

    `change` gets the content, None for no file, and gives the one that is wanted; no other
    writer comes between. A file that already holds exactly that is left alone.
    Raises OSError (no folder, no right, no space); the previous file is then still whole.
    """
    return _update(directory, file_name(volume_uuid), change)


def publish_as(directory: str, name: str, content: str) -> Outcome:
    """As `update`, under a name that somebody chose. Raises ValueError for one that is none."""
    return _update(directory, validated_name(name), lambda _: content)


def remove_as(directory: str, name: str) -> bool:
    """Remove what `publish_as` made. Returns False if there was none; ValueError as there."""
    try:
        return _update(directory, validated_name(name), lambda _: None) is Outcome.REMOVED
    except FileNotFoundError:
        return False


def _update(directory: str, name: str, change: Callable[[str | None], str | None]) -> Outcome:
    with _opened_directory(directory) as directory_fd, _temporary(directory_fd, name) as fd:
        earlier = _read(directory, name)
        wanted = change(earlier)
        if wanted is None or wanted == earlier:
            if wanted != earlier:
                os.unlink(name, dir_fd=directory_fd)
                os.fsync(directory_fd)
            os.unlink(TEMPORARY_PREFIX + name, dir_fd=directory_fd)
            return Outcome.UNCHANGED if wanted == earlier else Outcome.REMOVED
        os.ftruncate(fd, 0)
        os.fchmod(fd, _FILE_MODE)
        _write_all(fd, wanted.encode())
        os.fsync(fd)
        os.rename(TEMPORARY_PREFIX + name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        os.fsync(directory_fd)
        return Outcome.CREATED if earlier is None else Outcome.REFRESHED


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
