# SPDX-License-Identifier: Apache-2.0
"""A volume read as what the cluster says is written in it, and zeroes elsewhere.

The API does not say how long the blocks of ListChangedBlocks are, whether the last one of a range
is part of it, and what the bitmaps mean. So a range is read whole, its end included, and an answer
that does not fit the volume is not used at all.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from lightos.api.models import LbaRange, Volume
from lightos.openstack.cinder.manage import hosts_with_access

BLOCK_BYTES = 4096
"""What a block must be to be known: also the unit in which clusters round sizes."""


class Implausible(Exception):
    """An answer that cannot be about this volume, or not in blocks of 4096 bytes."""


class Stretch(NamedTuple):
    """Bytes of a volume from `start` up to, and without, `end`."""

    start: int
    end: int


class Source(Protocol):
    """A binary file that can be read at any place."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def obstacle(volume: Volume) -> str:
    """Why what is written in a volume cannot be known well enough; empty when it can."""
    if hosts := hosts_with_access(volume):
        return f"hosts have access to it: {', '.join(hosts)}"
    if volume.sector_size_bytes != BLOCK_BYTES:
        return f"its sectors have {volume.sector_size_bytes} bytes, not {BLOCK_BYTES}"
    return ""


def written_stretches(answer: Iterable[LbaRange], size_bytes: int) -> list[Stretch]:
    """What to read of a volume, in order and apart.

    :raises Implausible: for a range that ends beyond the volume or before it begins, and where
        there is none, which a cluster that knows nothing would say, too.
    """
    stretches: list[Stretch] = []
    for start, end in sorted(_stretch(each, size_bytes) for each in answer):
        if stretches and start <= stretches[-1].end:
            stretches[-1] = Stretch(stretches[-1].start, max(stretches[-1].end, end))
        else:
            stretches.append(Stretch(start, end))
    if not stretches:
        raise Implausible("nothing is written in it")
    return stretches


def _stretch(found: LbaRange, size_bytes: int) -> Stretch:
    blocks = -(-size_bytes // BLOCK_BYTES)
    # An end of `blocks` is that of a cluster that leaves the last block out.
    if not found.lba_start <= found.lba_end <= blocks or found.lba_start == blocks:
        raise Implausible(
            f"blocks {found.lba_start} to {found.lba_end} are told of a volume of {blocks}"
        )
    return Stretch(
        found.lba_start * BLOCK_BYTES, min(size_bytes, (found.lba_end + 1) * BLOCK_BYTES)
    )


def pieces(written: Sequence[Stretch], whole: Stretch) -> Iterator[tuple[Stretch, bool]]:
    """Cut `whole` at the edges of what is written, and say of each piece whether it is."""
    position = whole.start
    first = bisect.bisect_right(written, position, key=lambda stretch: stretch.end)
    for index in range(first, len(written)):
        start, end = max(position, written[index].start), min(written[index].end, whole.end)
        if start >= end:
            break
        if position < start:
            yield Stretch(position, start), False
        yield Stretch(start, end), True
        position = end
    if position < whole.end:
        yield Stretch(position, whole.end), False


class SparseReader(io.RawIOBase):
    """A volume as a file to be read once, from its beginning to its end.

    Of `source`, only what is written is read. OSError where that ends too soon.
    """

    def __init__(self, source: Source, written: Sequence[Stretch], size_bytes: int) -> None:
        super().__init__()
        self._source = source
        self._written = written
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer, or as much of it as there is left."""
        start = self._position
        with memoryview(buffer) as whole_buffer, whole_buffer.cast("B") as view:
            end = min(start + len(view), self._size_bytes)
            for piece, is_written in pieces(self._written, Stretch(start, end)):
                part = view[piece.start - start : piece.end - start]
                if is_written:
                    self._read_from_source(piece.start, part)
                else:
                    part[:] = bytes(len(part))
        self._position = end
        return end - start

    def _read_from_source(self, offset: int, part: memoryview) -> None:
        self._source.seek(offset)
        while part:
            count = self._source.readinto(part)
            if not count:
                raise OSError(f"the volume ends before its {self._size_bytes} bytes")
            part = part[count:]
