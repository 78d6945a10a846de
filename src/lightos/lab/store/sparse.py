# SPDX-License-Identifier: Apache-2.0
"""Sparse-file calls of Linux that the standard library leaves out, and a few it makes clumsy."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int


def punch_hole(fd: int, offset_bytes: int, length_bytes: int) -> None:
    """Free the range's blocks; it then reads as zeroes. The file keeps its length (fallocate(2)).

    On a file system without holes the blocks stay, which costs space and nothing else:
    callers never rely on the zeroes.
    """
    while _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset_bytes, length_bytes):
        code = ctypes.get_errno()
        if code == errno.EOPNOTSUPP:
            return
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def next_data(fd: int, offset_bytes: int) -> int | None:
    """The first offset from `offset_bytes` on that is not in a hole; None if only holes follow."""
    try:
        return os.lseek(fd, offset_bytes, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return None
        raise


def write_fully(fd: int, data: bytes | memoryview, offset_bytes: int) -> None:
    """pwrite(2) until all is written. A full disk may leave a part written before it raises."""
    written = os.pwrite(fd, data, offset_bytes)
    if written != len(data):
        rest = memoryview(data)
        while written != len(rest):
            written += os.pwrite(fd, rest[written:], offset_bytes + written)


def allocated_bytes(path: Path) -> int:
    """Disk space that a file takes, delayed allocation included; 0 if there is no such file."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def sync_file(path: Path) -> None:
    """fdatasync(2) through a descriptor of its own, so none has to be kept open for it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
