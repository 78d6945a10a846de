# SPDX-License-Identifier: Apache-2.0
"""Header and data digests: CRC32C, sent little-endian (Transport 3.3.1.1, "Digests")."""

from __future__ import annotations

import struct

import google_crc32c

DIGEST_BYTES = 4
_pack = struct.Struct("<I").pack


def digest(data: bytes) -> bytes:
    """The four digest bytes that follow `data` on the wire."""
    return _pack(google_crc32c.value(data))
