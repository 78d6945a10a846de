# SPDX-License-Identifier: Apache-2.0
"""Persistent reservations as programs on Linux use them (linux/pr.h); runs inside, by `host.call`.

Keys travel as JSON numbers. Every function names a multipath head, and gives what the ioctl
returned: 0, or as the kernel's version has it a status of NVMe or of `enum pr_status`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

BLOCK_BYTES = 4096
IGNORE_KEY = 1 << 0


def register(device: str, old_key: int, new_key: int, flags: int = 0) -> int:
    return _ioctl(device, 200, struct.pack("<QQI4x", old_key, new_key, flags))


def reserve(device: str, key: int, reservation_type: int) -> int:
    return _ioctl(device, 201, struct.pack("<QI4x", key, reservation_type))


def release(device: str, key: int, reservation_type: int) -> int:
    return _ioctl(device, 202, struct.pack("<QI4x", key, reservation_type))


def preempt(device: str, key: int, their_key: int, reservation_type: int, abort: bool) -> int:
    number = 204 if abort else 203
    return _ioctl(device, number, struct.pack("<QQI4x", key, their_key, reservation_type))


def clear(device: str, key: int) -> int:
    return _ioctl(device, 205, struct.pack("<Q8x", key))


def write_block(device: str, byte: int) -> int:
    """Fill block 0, past the page cache; the errno of a write that failed, else 0."""
    with mmap.mmap(-1, BLOCK_BYTES) as block:
        block.write(bytes([byte]) * BLOCK_BYTES)
        descriptor = os.open(device, os.O_RDWR | os.O_DIRECT)
        try:
            os.pwritev(descriptor, [block], 0)
        except OSError as error:
            return int(error.errno or 0)
        finally:
            os.close(descriptor)
    return 0


def read_block(device: str) -> int:
    """The byte that block 0 is full of, past the page cache."""
    with mmap.mmap(-1, BLOCK_BYTES) as block:
        descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(descriptor, [block], 0)
        finally:
            os.close(descriptor)
        (byte,) = set(block[:])
        return byte


def write_until_refused(device: str, byte: int) -> int:
    """Write block 0 again and again; the errno that ends it."""
    while not (failed := write_block(device, byte)):
        pass
    return failed


def _ioctl(device: str, number: int, argument: bytes) -> int:
    """_IOW('p', number, argument); what is not a buffer that changes hides the result."""
    request = 1 << 30 | len(argument) << 16 | ord("p") << 8 | number
    descriptor = os.open(device, os.O_RDWR)
    try:
        return fcntl.ioctl(descriptor, request, bytearray(argument))
    finally:
        os.close(descriptor)
