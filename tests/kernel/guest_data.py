# SPDX-License-Identifier: Apache-2.0
"""Data of a block device in a guest, past its page cache; called by `host.call`."""

from __future__ import annotations

import mmap
import os
import random

BLOCK_BYTES = 1 << 20


def write(device: str, offset: int, seed: int) -> None:
    """Write a block of random bytes that `seed` gives."""
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, BLOCK_BYTES) as block:  # whole pages, as O_DIRECT wants
            block.write(_content(seed))
            written = os.pwritev(fd, [block], offset)
    finally:
        os.close(fd)
    assert written == BLOCK_BYTES


def holds(device: str, offset: int, seed: int) -> bool:
    """Whether the block is the one that `write` wrote there."""
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, BLOCK_BYTES) as block:
            return os.preadv(fd, [block], offset) == BLOCK_BYTES and block.read() == _content(seed)
    finally:
        os.close(fd)


def _content(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK_BYTES)
