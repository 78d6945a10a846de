# SPDX-License-Identifier: Apache-2.0
"""How much the lab is asked for: API calls by operation, TLS connections, bytes of user data."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Traffic:
    """Counts since the lab was started; they only grow."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._connections = 0
        self._read_bytes = self._written_bytes = 0
        self._held_writes = self._path_refusals = 0

    def note_call(self, operation: str) -> None:
        """A call of the management API came in, whatever its answer will be."""
        self._calls[operation] += 1

    def note_connection(self) -> None:
        """A TLS handshake was completed."""
        self._connections += 1

    def note_read(self, length_bytes: int) -> None:
        """A host read so much of a volume."""
        self._read_bytes += length_bytes

    def note_written(self, length_bytes: int) -> None:
        """A host wrote so much to a volume."""
        self._written_bytes += length_bytes

    def note_held_write(self) -> None:
        """A write came in, and the fault plan holds it."""
        self._held_writes += 1

    def note_path_refusal(self) -> None:
        """An I/O command was refused because its node is not, or not any more, the primary."""
        self._path_refusals += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": dict(sorted(self._calls.items())),
            "tlsConnections": self._connections,
            "readBytes": self._read_bytes,
            "writtenBytes": self._written_bytes,
            "heldWrites": self._held_writes,
            "pathRefusals": self._path_refusals,
        }
