# SPDX-License-Identifier: Apache-2.0
"""Bytes that arrived and were not parsed yet."""

from __future__ import annotations


class ReceiveBuffer:
    """A queue of bytes. Taking from the front is cheap: bytearray only moves its start."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        self._data += data

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, or fewer if fewer are there; they stay."""
        return bytes(self._data[:size])

    def peek_header(self) -> bytes:
        """As much as there is of the header whose length its third byte (HLEN) claims."""
        return self.peek(max(self._data[2] if len(self._data) > 2 else 0, 8))

    def take(self, size: int) -> bytes:
        """Remove and return exactly `size` bytes; the caller has checked the length."""
        data = self._data
        with memoryview(data) as view:
            taken = bytes(view[:size])
        del data[:size]
        return taken

    def skip(self, size: int) -> None:
        del self._data[:size]

    def clear(self) -> None:
        self._data.clear()
