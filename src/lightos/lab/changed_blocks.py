# SPDX-License-Identifier: Apache-2.0
"""Which logical blocks of a snapshot differ from another one, page by page (ListChangedBlocks).

The contract leaves open what a logical block and the end of a range are. In the lab a block is a
sector of the volume, `lba_end` is the last block of the range, and a range has no bitmap, because
all its blocks differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.models.snapshots import ChangedBlocks, LbaRange
from lightos.lab.errors import Internal, NotFound
from lightos.lab.records import SnapshotRecord
from lightos.lab.view import BlockStore

RANGES_PER_PAGE = 1024
"""A page ends with the first piece of the store that brings it to as many."""
PIECES_PER_PAGE = 4096
"""Pieces of 4 MiB that are looked at for one page, at most."""


@dataclass(frozen=True)
class Comparison:
    """A snapshot and what it is compared with (None: with nothing at all), from a block on."""

    snapshot: SnapshotRecord
    base: SnapshotRecord | None
    offset_lba: int


def changed_blocks(store: BlockStore, comparison: Comparison) -> ChangedBlocks:
    """The page that begins at the comparison's offset. Waits for the disk: call it in a thread.

    Raises NotFound, when a snapshot was deleted meanwhile, and Internal (disk).
    """
    snapshot, base = comparison.snapshot, comparison.base
    sector_bytes = snapshot.sector_size_bytes
    pieces = store.differences(
        snapshot.uuid, base.uuid if base else None, comparison.offset_lba * sector_bytes
    )
    found: list[tuple[int, int]] = []
    position = snapshot.size_bytes
    try:
        for number, (looked_at, ranges) in enumerate(pieces, start=1):
            for offset, length in ranges:
                start = found.pop()[0] if found and found[-1][1] == offset else offset
                found.append((start, offset + length))
            if len(found) >= RANGES_PER_PAGE or number == PIECES_PER_PAGE:
                position = looked_at
                break
    except KeyError:
        raise NotFound(f"snapshot {snapshot.name}, or its base, was deleted meanwhile") from None
    except OSError as cause:
        raise Internal(
            f"the lab cannot read what snapshot {snapshot.name} holds: {cause}; check that disk"
        ) from cause
    return ChangedBlocks(
        next_offset_lba=position // sector_bytes if position < snapshot.size_bytes else 0,
        ranges=tuple(
            LbaRange(lba_start=start // sector_bytes, lba_end=end // sector_bytes - 1)
            for start, end in found
        ),
    )
