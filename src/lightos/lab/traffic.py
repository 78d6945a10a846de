# SPDX-License-Identifier: Apache-2.0
"""How much comes in at the API addresses: calls by operation, and TLS connections."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Traffic:
    """Counts since the lab was started; they only grow."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._connections = 0

    def note_call(self, operation: str) -> None:
        """A call of the management API came in, whatever its answer will be."""
        self._calls[operation] += 1

    def note_connection(self) -> None:
        """A TLS handshake was completed."""
        self._connections += 1

    def to_json(self) -> dict[str, Any]:
        return {"calls": dict(sorted(self._calls.items())), "tlsConnections": self._connections}
