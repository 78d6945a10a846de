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

from lightos.api.models.snapshots import LbaRange
from lightos.api.models.volumes import Volume
from lightos.openstack.cinder.manage import hosts_with_access

BLOCK_BYTES = 4096
"""What a block must be to be known: also the unit in which clusters round sizes."""
READ_BYTES = 1 << 20
"""What a reader is to be asked for at once, when nothing is read ahead for it."""


class NotKnown(Exception):
    """What is written in a volume is not known well enough to leave the rest out."""


class Stretch(NamedTuple):
    """Bytes of a volume from `start` up to, and without, `end`."""

    start: int
    end: int


class Written(NamedTuple):
    """What to read of a volume, in order and apart, and how large it is."""

    stretches: Sequence[Stretch]
    size_bytes: int


class Source(Protocol):
    """A binary file that can be read at any place."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def check(volume: Volume) -> None:
    """See that a volume is one whose written blocks can be known.

    :raises NotKnown: when a host may be writing to it, or a block may be something else.
    """
    if hosts := hosts_with_access(volume):
        raise NotKnown(f"hosts have access to it: {', '.join(hosts)}")
    if volume.sector_size_bytes != BLOCK_BYTES:
        raise NotKnown(f"its sectors have {volume.sector_size_bytes} bytes, not {BLOCK_BYTES}")


def written(answer: Iterable[LbaRange], size_bytes: int) -> Written:
    """What to read of a volume, by the cluster's answer.

    :raises NotKnown: for a range that ends beyond the volume or before it begins, and where there
        is none, which a cluster that knows nothing would say, too.
    """
    stretches: list[Stretch] = []
    for start, end in sorted(_stretch(each, size_bytes) for each in answer):
        if stretches and start <= stretches[-1].end:
            stretches[-1] = Stretch(stretches[-1].start, max(stretches[-1].end, end))
        else:
            stretches.append(Stretch(start, end))
    if not stretches:
        raise NotKnown("the cluster tells of nothing that is written in it")
    return Written(stretches, size_bytes)


def _stretch(found: LbaRange, size_bytes: int) -> Stretch:
    blocks = -(-size_bytes // BLOCK_BYTES)
    # An end of `blocks` is that of a cluster that leaves the last block out.
    if not found.lba_start <= found.lba_end <= blocks or found.lba_start == blocks:
        raise NotKnown(
            f"the cluster tells of blocks {found.lba_start} to {found.lba_end} of {blocks}"
        )
    return Stretch(
        found.lba_start * BLOCK_BYTES, min(size_bytes, (found.lba_end + 1) * BLOCK_BYTES)
    )


def pieces(stretches: Sequence[Stretch], whole: Stretch) -> Iterator[tuple[Stretch, bool]]:
    """Cut `whole` at the edges of what is written, and say of each piece whether it is."""
    position = whole.start
    first = bisect.bisect_right(stretches, position, key=lambda stretch: stretch.end)
    for index in range(first, len(stretches)):
        start, end = max(position, stretches[index].start), min(stretches[index].end, whole.end)
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

    Of `source`, only what is written is read. OSError where that is not as large as it should be.
    """

    def __init__(self, source: Source, written: Written) -> None:
        super().__init__()
        size_bytes = source.seek(0, io.SEEK_END)
        if size_bytes != written.size_bytes:
            raise OSError(f"the volume has {size_bytes} bytes here, not {written.size_bytes}")
        self._source = source
        self._written = written
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer, or as much of it as there is left."""
        view = memoryview(buffer).cast("B")
        start = self._position
        end = min(start + len(view), self._written.size_bytes)
        for piece, is_written in pieces(self._written.stretches, Stretch(start, end)):
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
                raise OSError(f"the volume ends before its {self._written.size_bytes} bytes")
            part = part[count:]
