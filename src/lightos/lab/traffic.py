# SPDX-License-Identifier: Apache-2.0
"""How much the lab is asked for: API calls by operation, TLS connections, reads and writes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(slots=True)
class IoCounters:
    """Commands that read and write, and the bytes of user data that they moved."""

    reads: int = 0
    read_bytes: int = 0
    writes: int = 0
    written_bytes: int = 0

    def add(self, other: IoCounters) -> None:
        self.reads += other.reads
        self.read_bytes += other.read_bytes
        self.writes += other.writes
        self.written_bytes += other.written_bytes

    def to_json(self) -> dict[str, int]:
        return {
            "reads": self.reads,
            "readBytes": self.read_bytes,
            "writes": self.writes,
            "writtenBytes": self.written_bytes,
        }


NO_REPLY = "none"


class Traffic:
    """Counts since the lab was started; they only grow."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self.replies: Counter[tuple[str, str]] = Counter()
        """By operation and HTTP status, or `NO_REPLY`."""
        self.connections = 0
        self._volumes: defaultdict[UUID, IoCounters] = defaultdict(IoCounters)
        self._gone = IoCounters()
        self.held_writes = self.path_refusals = 0

    def note_call(self, operation: str) -> None:
        """A call of the management API came in, whatever its answer will be."""
        self._calls[operation] += 1

    def note_reply(self, operation: str, code: str) -> None:
        """A call was answered, or its connection ended without a reply."""
        self.replies[operation, code] += 1

    def note_connection(self) -> None:
        """A TLS handshake was completed."""
        self.connections += 1

    def note_read(self, volume_uuid: UUID, length_bytes: int) -> None:
        """A host read so much of a volume."""
        counters = self._volumes[volume_uuid]
        counters.reads += 1
        counters.read_bytes += length_bytes

    def note_write(self, volume_uuid: UUID) -> None:
        """A host's command is to write to a volume."""
        self._volumes[volume_uuid].writes += 1

    def note_written(self, volume_uuid: UUID, length_bytes: int) -> None:
        """A host wrote so much to a volume."""
        self._volumes[volume_uuid].written_bytes += length_bytes

    def forget(self, volume_uuid: UUID) -> None:
        """A volume is gone; what it counted stays in the total."""
        self._gone.add(self._volumes.pop(volume_uuid, IoCounters()))

    def of(self, volume_uuid: UUID) -> IoCounters:
        """What a volume has counted."""
        return self._volumes.get(volume_uuid, IoCounters())

    def total(self) -> IoCounters:
        """What all volumes have counted, those that are gone included."""
        total = IoCounters()
        for counters in (self._gone, *self._volumes.values()):
            total.add(counters)
        return total

    def note_held_write(self) -> None:
        """A write came in, and the fault plan holds it."""
        self.held_writes += 1

    def note_path_refusal(self) -> None:
        """An I/O command was refused because its node is not, or not any more, the primary."""
        self.path_refusals += 1

    def to_json(self) -> dict[str, Any]:
        total = self.total()
        return {
            "calls": dict(sorted(self._calls.items())),
            "tlsConnections": self.connections,
            "readBytes": total.read_bytes,
            "writtenBytes": total.written_bytes,
            "heldWrites": self.held_writes,
            "pathRefusals": self.path_refusals,
        }
