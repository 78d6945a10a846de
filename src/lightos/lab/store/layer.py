# SPDX-License-Identifier: Apache-2.0
"""One layer: what was written while it was on top of a chain.

The map has one byte for each extent with the extent's state twice: bits 0-1 the *live* state,
changed right after the data is in the page cache, and bits 2-3 the *stable* state, set by a
flush once that data is on the disk. A killed process leaves the page cache alone, so the live
states hold; after a power loss the live states may be ahead of the data they speak of, so the
stable ones are taken instead (`revert_to_stable`). Either way no state points at data that is
not there, with no journal and no ordering but one: data before stable states.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator

from lightos.lab.store.files import DATA, MAP, LayerFiles
from lightos.lab.store.sparse import (
    allocated_bytes,
    next_data,
    punch_hole,
    sync_directory,
    sync_file,
    write_fully,
)

EXTENT_BYTES = 4096
EXTENT_SHIFT = 12
CHUNK_EXTENTS = 1024
"""Maps are read, cached and flushed in chunks of this many extents (4 MiB of a volume)."""

UNLIMITED = 1 << 62

ABSENT, WRITTEN, ZERO = range(3)
"""States of an extent: look in the parent, in this layer's data file, reads as zeroes."""

_LIVE = bytes(byte & 3 for byte in range(256))
_STABLE = bytes(byte >> 2 & 3 for byte in range(256))
_SET_LIVE = tuple(bytes(byte & 0x0C | state for byte in range(256)) for state in range(3))
_LIVE_TO_STABLE = bytes((byte & 3) * 5 for byte in range(256))
_STABLE_TO_LIVE = bytes((byte >> 2 & 3) * 5 for byte in range(256))
_SETTLED = bytes(state * 5 for state in range(3))
_NEEDS_DATA = bytes(WRITTEN in (byte & 3, byte >> 2 & 3) for byte in range(256))
_RUNS = re.compile(rb"\x00+|\x01+|\x02+")

Captured = dict[int, bytes]
"""Raw map bytes of each changed chunk, as they were when a flush began."""


def extents_in(length_bytes: int) -> int:
    """How many extents hold that many bytes, the last one perhaps in part."""
    return -(-length_bytes // EXTENT_BYTES)


def state_runs(states: bytes, first: int = 0) -> Iterator[tuple[int, int, int]]:
    """`(state, first extent, count)` of each run of equal states; `first` numbers the first."""
    for match in _RUNS.finditer(states):
        begin, end = match.span()
        yield states[begin], first + begin, end - begin


class Layer:
    """Every method but the `sync_` ones needs the store's I/O lock; extents are absolute.

    `overlap_extents`: the parent shows through below this extent only, so that what a shrink
    cut off, or a smaller snapshot never had, does not come back when the volume grows.
    """

    __slots__ = (
        "_changed_chunks",
        "_data_changed",
        "_files",
        "_is_new",
        "children",
        "flush_lock",
        "id",
        "overlap_extents",
        "parent",
        "stored",
    )

    def __init__(
        self,
        layer_id: int,
        parent: Layer | None,
        overlap_extents: int,
        files: LayerFiles,
        *,
        stored: bool = False,
        flushed: bool = True,
    ) -> None:
        self.id = layer_id
        self.parent = parent
        self.overlap_extents = overlap_extents
        self.children = 0
        self.flush_lock = threading.Lock()
        self.stored = stored
        self._files = files
        self._is_new = False
        self._data_changed = not flushed
        # What an earlier process left unflushed is not known: the first flush finds out (None).
        self._changed_chunks: set[int] | None = set() if flushed else None

    # --- data -----------------------------------------------------------------------------

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        data = os.pread(self._files.fd(self.id, DATA), length_bytes, offset_bytes)
        if len(data) != length_bytes:
            return self._read_rest(data, offset_bytes, length_bytes)
        return data

    def _read_rest(self, data: bytes, offset_bytes: int, length_bytes: int) -> bytes:
        fd = self._files.fd(self.id, DATA)
        while len(data) < length_bytes:
            more = os.pread(fd, length_bytes - len(data), offset_bytes + len(data))
            if not more:
                path = self._files.path(self.id, DATA)
                raise OSError(
                    errno.EIO,
                    f"{path} ends before byte {offset_bytes + length_bytes} that its map says "
                    "was written; the file was cut by someone else",
                )
            data += more
        return data

    def overwrite(self, offset_bytes: int, data: bytes | memoryview) -> None:
        """Write to extents that are WRITTEN; a part of one will do."""
        self._data_changed = True
        write_fully(self._files.fd(self.id, DATA), data, offset_bytes)

    def add(self, first: int, data: bytes | memoryview) -> None:
        """Write whole extents, WRITTEN before or not. If it fails, those that were not are not."""
        if not self.stored:
            self._create()
        self._data_changed = True
        count = len(data) >> EXTENT_SHIFT
        try:
            write_fully(self._files.fd(self.id, DATA), data, first << EXTENT_SHIFT)
            self.set_states(first, count, WRITTEN)
        except OSError:
            self._punch_unneeded(first, count)
            raise

    def punch(self, first: int, count: int) -> None:
        """Free the space of extents whose data nobody needs."""
        if self.stored:
            punch_hole(self._files.fd(self.id, DATA), first << EXTENT_SHIFT, count << EXTENT_SHIFT)

    def free_leftovers(self) -> None:
        """Free data that no state speaks of: its writer was killed in between."""
        fd = self._files.fd(self.id, DATA)
        position = 0
        while (found := next_data(fd, position)) is not None:
            first = found >> EXTENT_SHIFT
            count = min(extents_in(os.lseek(fd, found, os.SEEK_HOLE)) - first, CHUNK_EXTENTS)
            self._punch_unneeded(first, count)
            position = (first + count) << EXTENT_SHIFT

    def _punch_unneeded(self, first: int, count: int) -> None:
        raw = os.pread(self._files.fd(self.id, MAP), count, first).ljust(count, b"\0")
        for needed, at, length in state_runs(raw.translate(_NEEDS_DATA), first):
            if not needed:
                self.punch(at, length)

    # --- map ------------------------------------------------------------------------------

    def states(self, first: int, count: int) -> bytes:
        """Live states of `count` extents; shorter where the map ends, as all after is ABSENT."""
        if not self.stored:
            return b""
        return os.pread(self._files.fd(self.id, MAP), count, first).translate(_LIVE)

    def set_states(self, first: int, count: int, state: int) -> None:
        if not self.stored:
            self._create()
        fd = self._files.fd(self.id, MAP)
        old = os.pread(fd, count, first).ljust(count, b"\0")
        changed = range(first // CHUNK_EXTENTS, (first + count - 1) // CHUNK_EXTENTS + 1)
        if self._changed_chunks is not None:
            self._changed_chunks.update(changed)
        write_fully(fd, old.translate(_SET_LIVE[state]), first)

    def stable_states(self, first: int, count: int) -> bytes:
        """As `states`, but what the last flush made stable."""
        if not self.stored:
            return b""
        return os.pread(self._files.fd(self.id, MAP), count, first).translate(_STABLE)

    def next_stated(self, first: int) -> int | None:
        """An extent at or after `first` before which all are ABSENT; None: so are all after."""
        return next_data(self._files.fd(self.id, MAP), first) if self.stored else None

    def truncate(self, extents: int) -> None:
        """Drop every extent from `extents` on, durably: it can not come back if the map grows."""
        if not self.stored:
            return
        fd = self._files.fd(self.id, MAP)
        if os.fstat(fd).st_size > extents:
            os.ftruncate(fd, extents)
            os.fdatasync(fd)
        fd = self._files.fd(self.id, DATA)
        if os.fstat(fd).st_size > extents << EXTENT_SHIFT:
            os.ftruncate(fd, extents << EXTENT_SHIFT)

    def remove(self) -> None:
        """Forget all contents. A flush that is under way in another thread finds nothing to do."""
        if self.stored:
            self.stored = False
            self._files.remove(self.id)

    def used_bytes(self) -> int:
        """Disk space of both files."""
        if not self.stored:
            return 0
        return sum(allocated_bytes(self._files.path(self.id, kind)) for kind in (DATA, MAP))

    def _create(self) -> None:
        self._files.create(self.id)
        self.stored = self._is_new = True

    # --- stable storage -------------------------------------------------------------------

    @property
    def unflushed(self) -> bool:
        return self._data_changed or self._changed_chunks is None or bool(self._changed_chunks)

    def begin_flush(self) -> Captured:
        """Take note of what the flush has to make stable; what is changed from now on is not."""
        chunks = self._changed_chunks
        if chunks is None:
            chunks = set(self._unstable_chunks())
        fd = self._files.fd(self.id, MAP)
        captured = {chunk: os.pread(fd, CHUNK_EXTENTS, chunk * CHUNK_EXTENTS) for chunk in chunks}
        self._data_changed = False
        self._changed_chunks = set()
        return captured

    def sync_data(self) -> None:
        """Without the I/O lock: the data file of a flush, before its states are made stable."""
        self._sync(DATA)

    def settle(self, captured: Captured) -> None:
        """Make the captured live states the stable ones, now that their data is on the disk."""
        if not self.stored:
            return
        fd = self._files.fd(self.id, MAP)
        for chunk, before in captured.items():
            now = os.pread(fd, CHUNK_EXTENTS, chunk * CHUNK_EXTENTS)
            if now == before:
                settled = now.translate(_LIVE_TO_STABLE)
            else:
                # A resize may have cut the map meanwhile; zip() keeps to what is left of it.
                settled = bytes(
                    (old & 3) << 2 | new & 3 for old, new in zip(before, now, strict=False)
                )
            write_fully(fd, settled, chunk * CHUNK_EXTENTS)

    def sync_map(self) -> None:
        """Without the I/O lock: after `settle`."""
        self._sync(MAP)
        if self._is_new:
            sync_directory(self._files.directory)
            self._is_new = False

    def _sync(self, kind: int) -> None:
        try:
            sync_file(self._files.path(self.id, kind))
        except FileNotFoundError:
            if self.stored:
                raise

    def flush_failed(self, captured: Captured) -> None:
        self._data_changed = True
        if self._changed_chunks is not None:
            self._changed_chunks.update(captured)

    def revert_to_stable(self) -> None:
        """After a power loss: forget states whose data may not have reached the disk."""
        fd = self._files.fd(self.id, MAP)
        for chunk in self._unstable_chunks():
            raw = os.pread(fd, CHUNK_EXTENTS, chunk * CHUNK_EXTENTS)
            write_fully(fd, raw.translate(_STABLE_TO_LIVE), chunk * CHUNK_EXTENTS)
        os.fdatasync(fd)

    def _unstable_chunks(self) -> Iterator[int]:
        fd = self._files.fd(self.id, MAP)
        position = 0
        while (found := next_data(fd, position)) is not None:
            chunk = found // CHUNK_EXTENTS
            raw = os.pread(fd, CHUNK_EXTENTS, chunk * CHUNK_EXTENTS)
            if raw.translate(None, _SETTLED):
                yield chunk
            position = (chunk + 1) * CHUNK_EXTENTS
