# SPDX-License-Identifier: Apache-2.0
"""Bytes that arrived and were not parsed yet."""

from __future__ import annotations

from collections import deque


class ReceiveBuffer:
    """A queue of bytes, kept in the pieces in which they came.

    Pieces are joined only when something that spans them is taken, so every byte of a large
    PDU is copied once, however small the pieces were.
    """

    __slots__ = ("_pieces", "_size", "_start")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._start = 0
        """Bytes of the first piece that are gone."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        self._pieces.append(bytes(data))
        self._size += len(data)

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, or fewer if fewer are there; they stay."""
        start, size = self._start, min(size, self._size)
        if not size:
            return b""
        if start + size > len(self._pieces[0]):
            self._join(size)
            start = 0
        return self._pieces[0][start : start + size]

    def peek_header(self) -> bytes:
        """As much as there is of the header whose length its third byte (HLEN) claims."""
        common = self.peek(8)
        return self.peek(max(common[2], 8)) if len(common) > 2 else common

    def take(self, size: int) -> bytes:
        """Remove and return exactly `size` bytes; the caller has checked the length."""
        taken = self.peek(size)
        self.skip(size)
        return taken

    def skip(self, size: int) -> None:
        """Remove `size` bytes; the caller has checked the length."""
        pieces = self._pieces
        self._size -= size
        size += self._start
        while pieces and size >= len(pieces[0]):
            size -= len(pieces.popleft())
        self._start = size

    def clear(self) -> None:
        self._pieces.clear()
        self._start = self._size = 0

    def _join(self, size: int) -> None:
        """Make the first piece at least `size` bytes long, from its first byte on."""
        parts = [self._pieces.popleft()[self._start :]]
        self._start = 0
        joined = len(parts[0])
        while joined < size:
            parts.append(self._pieces.popleft())
            joined += len(parts[-1])
        self._pieces.appendleft(b"".join(parts))
