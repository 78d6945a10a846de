# SPDX-License-Identifier: Apache-2.0
"""The store: volumes and snapshots by UUID, read and written in bytes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from lightos.lab.store.catalog import Catalog, EntryRow
from lightos.lab.store.chain import NOWHERE, Chain, ChainIndex, code_runs, different_runs
from lightos.lab.store.check import problems
from lightos.lab.store.files import LayerFiles
from lightos.lab.store.flush import flush_layers
from lightos.lab.store.layer import (
    ABSENT,
    CHUNK_EXTENTS,
    EXTENT_BYTES,
    EXTENT_SHIFT,
    ZERO,
    Layer,
    extents_in,
)
from lightos.lab.store.merge import Merger, Shared
from lightos.lab.store.tree import Entry, Tree, lineage

SECTOR_BYTES = 512
_CHUNK_BYTES = CHUNK_EXTENTS * EXTENT_BYTES
_CHUNK_MASK = CHUNK_EXTENTS - 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ThinStore:
    """A `BlockStore` (lightos.lab.view) in a directory of its own, which it makes if need be.

    One process at a time: a second one gets `BlockingIOError`. Any thread may call anything.
    `read`, `write` and `deallocate` hold the I/O lock for the time of their system calls on the
    page cache; `flush` waits for the disk without it, so I/O goes on meanwhile. What changes
    volumes and snapshots is one at a time (the structure lock) and waits for the disk: call it,
    and `flush`, in a worker thread. Lock order: structure, flush locks bottom-up, I/O.

    A write that returned survives the end of the process at any instant; with a `flush` after
    it, also that of the machine. Changes of volumes and snapshots survive both once they
    return. A write that a crash cut short leaves each sector old or new.
    """

    def __init__(
        self, directory: Path, *, max_open_files: int = 256, max_cached_chunks: int = 8192
    ) -> None:
        """`max_cached_chunks`: of 4 MiB of a volume each; one takes 2 KiB of memory."""
        layers_directory = directory / "layers"
        layers_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._structure = threading.RLock()
        self._io = threading.RLock()
        self._closed = False
        self._lock_fd = _lock_directory(directory)
        try:
            self._catalog = Catalog(directory / "catalog.sqlite")
            self._files = LayerFiles(layers_directory, max_open_files)
            self._index = ChainIndex(max_cached_chunks)
            self._tree = Tree()
            self._load()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._merger = Merger(
            Shared(self._structure, self._io, self._tree, self._catalog, self._index)
        )
        self._merger.add(self._tree.layers.values())

    # --- volumes and snapshots -------------------------------------------------------------

    def create_volume(self, uuid: UUID, size_bytes: int) -> None:
        _check_size(size_bytes)
        with self._structure:
            self._check_new(uuid)
            self._add_volume(uuid, size_bytes, parent=None, overlap_bytes=0)

    def create_snapshot(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None:
        """Freeze the volume's contents, every write that returned included, under a name."""
        with self._structure:
            self._check_new(snapshot_uuid)
            volume = self._volume(volume_uuid)
            # Most of what is to reach the disk does so before the volume gets a new top layer,
            # the rest (what was written in between) after.
            self._flush_lineage(volume.layer)
            frozen, size_bytes = volume.layer, volume.size_bytes
            overlap = extents_in(size_bytes)
            with self._catalog.transaction() as change:
                top = self._new_layer(frozen, overlap)
                change.set_entry_layer(volume_uuid, top.id)
                change.add_entry(EntryRow(snapshot_uuid, True, size_bytes, frozen.id))
            with self._io:
                chain = volume.chain
                self._tree.add_layer(top)
                self._tree.rename(volume, top)
                self._tree.name(Entry(snapshot_uuid, frozen, size_bytes, is_snapshot=True))
                if chain is not None:
                    volume.chain = self._index.extended(chain, top)
            self._flush_lineage(frozen)

    def clone_snapshot(self, snapshot_uuid: UUID, volume_uuid: UUID, size_bytes: int) -> None:
        """A volume that starts with the snapshot's contents, then zeroes up to its size.

        Raises ValueError if the volume would be smaller than the snapshot.
        """
        _check_size(size_bytes)
        with self._structure:
            self._check_new(volume_uuid)
            snapshot = self._snapshot(snapshot_uuid)
            if size_bytes < snapshot.size_bytes:
                raise ValueError(
                    f"a clone of snapshot {snapshot_uuid} takes at least its "
                    f"{snapshot.size_bytes} bytes, not {size_bytes}"
                )
            self._add_volume(
                volume_uuid, size_bytes, parent=snapshot.layer, overlap_bytes=snapshot.size_bytes
            )

    def roll_back(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None:
        """Give the volume the snapshot's contents; what was written since is gone.

        The volume keeps its size: contents beyond a smaller snapshot read as zeroes, those of
        a larger one are cut (`resize_volume` first to have them all).
        """
        with self._structure:
            volume = self._volume(volume_uuid)
            snapshot = self._snapshot(snapshot_uuid)
            overlap_bytes = min(volume.size_bytes, snapshot.size_bytes)
            old = volume.layer
            unneeded = self._tree.unneeded_from(old)
            with self._catalog.transaction(frees_space=True) as change:
                top = self._layer_over(snapshot.layer, overlap_bytes)
                change.set_entry_layer(volume_uuid, top.id)
                for layer in unneeded:
                    change.remove_layer(layer.id)
            with self._io:
                self._tree.add_layer(top)
                self._tree.rename(volume, top)
                self._drop(unneeded)
            self._merger.add(lineage(old))

    def resize_volume(self, uuid: UUID, size_bytes: int) -> None:
        """Grow with zeroes, or shrink and lose what is beyond the new size for good."""
        _check_size(size_bytes)
        with self._structure:
            volume = self._volume(uuid)
            top = volume.layer
            if size_bytes > volume.size_bytes:
                self._clear_beyond(volume)
                with self._catalog.transaction() as change:
                    change.set_entry_size(uuid, size_bytes)
                with self._io:
                    volume.size_bytes = size_bytes
            elif size_bytes < volume.size_bytes:
                overlap = min(top.overlap_extents, extents_in(size_bytes))
                with self._catalog.transaction(frees_space=True) as change:
                    change.set_entry_size(uuid, size_bytes)
                    change.set_layer(top.id, top.parent.id if top.parent else None, overlap)
                with self._io:
                    volume.size_bytes = size_bytes
                    top.overlap_extents = overlap
                    volume.chain = None
                    # Should this not happen, growing does it first.
                    top.truncate(extents_in(size_bytes))
                self._merger.retry()

    def delete(self, uuid: UUID) -> None:
        """Forget a volume or snapshot; clones and snapshots of it are not affected.

        Space that is at once not referred to is freed at once; a layer that stays because
        others build on it is folded into its only child, if it has one, in the background.
        """
        with self._structure:
            entry = self._entry(uuid)
            layer = entry.layer
            unneeded = self._tree.unneeded_from(layer)
            with self._catalog.transaction(frees_space=True) as change:
                change.remove_entry(uuid)
                for gone in unneeded:
                    change.remove_layer(gone.id)
            ancestors = lineage(layer)
            with self._io:
                self._tree.unname(entry)
                self._drop(unneeded)
            self._merger.add(ancestors)

    def uuids(self) -> frozenset[UUID]:
        with self._io:
            return frozenset(self._tree.entries)

    def used_bytes(self, uuid: UUID) -> int:
        """Disk space of what was written to this volume since its last snapshot, or of what
        this snapshot holds that older ones do not; maps included."""
        with self._io:
            return self._entry(uuid).layer.used_bytes()

    def is_untouched(self, uuid: UUID) -> bool:
        """Whether nothing was written to a volume since it was made, or, to what is on top of a
        snapshot, since that was taken."""
        with self._io:
            entry = self._entry(uuid)
            own = self._tree.children(entry.layer) if entry.is_snapshot else [entry.layer]
            return not any(layer.stored for layer in own)

    def total_used_bytes(self) -> int:
        """Disk space of all volumes and snapshots; the catalog (< 1 MiB) comes on top."""
        with self._io:
            return sum(layer.used_bytes() for layer in self._tree.layers.values())

    # --- I/O -------------------------------------------------------------------------------

    def read(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> bytes:
        """Of a volume or a snapshot."""
        with self._io:
            entry = self._entry(uuid)
            _check_range(entry, offset_bytes, length_bytes)
            chain = entry.chain or self._chain(entry)
            if offset_bytes % _CHUNK_BYTES + length_bytes <= _CHUNK_BYTES:
                return self._read_piece(chain, offset_bytes, length_bytes)
            return b"".join(
                self._read_piece(chain, offset, length)
                for offset, length in _pieces(offset_bytes, length_bytes)
            )

    def write(self, uuid: UUID, offset_bytes: int, data: bytes | memoryview) -> None:
        """Raises OSError: ENOSPC leaves the old contents where the extents were not yet the
        volume's own, and each sector old or new where they were; EROFS for a snapshot."""
        if not isinstance(data, bytes):
            data = memoryview(data).cast("B")
        length_bytes = len(data)
        with self._io:
            entry = self._writable(uuid, offset_bytes, length_bytes)
            chain = entry.chain or self._chain(entry)
            if offset_bytes % _CHUNK_BYTES + length_bytes <= _CHUNK_BYTES:
                if length_bytes:
                    self._write_piece(chain, offset_bytes, data)
                return
            whole = memoryview(data)
            for offset, length in _pieces(offset_bytes, length_bytes):
                begin = offset - offset_bytes
                self._write_piece(chain, offset, whole[begin : begin + length])

    def deallocate(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> None:
        """Make the range read as zeroes and free the space of whole extents.

        Takes time for what is written in the range, not for its length. Raises as `write` does;
        on a full disk only a range that a snapshot holds too can fail.
        """
        position, end = offset_bytes, offset_bytes + length_bytes
        with self._io:
            self._writable(uuid, offset_bytes, length_bytes)
        while position < end:
            # Other calls get their turn between chunks.
            with self._io:
                entry = self._writable(uuid, position, end - position)
                chain = entry.chain or self._chain(entry)
                length = min(end - position, _CHUNK_BYTES - position % _CHUNK_BYTES)
                self._deallocate_piece(chain, position, length)
                position += length
                if position < end:
                    found = chain.next_stated(position >> EXTENT_SHIFT) << EXTENT_SHIFT
                    position = max(position, found)
        self._merger.retry()

    def differences(
        self, uuid: UUID, base_uuid: UUID | None, offset_bytes: int
    ) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Where a volume or snapshot does not have its data in common with another one.

        Without a base: where it has data at all. Piece by piece `(position, [(offset, length),
        ...])`, what was found before `position`, from `offset_bytes` (whole extents) on. Other
        calls get their turn in between.
        """
        position = offset_bytes
        while (found := self._next_differences(uuid, base_uuid, position)) is not None:
            position, ranges = found
            yield position, ranges

    def flush(self, uuid: UUID) -> None:
        """Return once every write before it is on stable storage; `fdatasync` as needed."""

        def layers() -> Sequence[Layer]:
            return lineage(self._entry(uuid).layer)

        flush_layers(self._io, layers)

    # --- the rest --------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until the background has folded what can be folded."""
        self._merger.wait_idle()

    def verify(self) -> list[str]:
        """Check that catalog, maps, data files and caches agree; the problems found, as text.

        Reads every map: for tests and for a doubtful disk, not for every start.
        """
        with self._structure, self._io:
            return problems(self._catalog, self._files, self._tree, self._index)

    def close(self) -> None:
        """Flush what this process wrote, then let go of the directory. Once is enough."""
        self._merger.stop()
        with self._structure:
            if self._closed:
                return
            self._closed = True
            try:
                for entry in self._tree.entries.values():
                    self._flush_lineage(entry.layer)
                # Only a promise that the next start need not look for what was not flushed.
                with contextlib.suppress(OSError), self._catalog.transaction() as change:
                    boot_id, _ = change.last_run()
                    change.set_last_run(boot_id, was_closed=True)
            finally:
                with self._io:
                    self._tree.entries.clear()
                    self._files.close()
                self._catalog.close()
                os.close(self._lock_fd)

    # --- inside: structure -----------------------------------------------------------------

    def _load(self) -> None:
        boot_id = _BOOT_ID.read_text().strip()
        last_boot_id, was_closed = self._catalog.last_run()
        stored_layers = self._files.stored_layers()
        for layer_id, parent_id, overlap in self._catalog.layers():
            parent = None if parent_id is None else self._tree.layers[parent_id]
            stored = layer_id in stored_layers
            layer = Layer(
                layer_id,
                parent,
                overlap,
                self._files,
                stored=stored,
                flushed=was_closed or not stored,
            )
            self._tree.add_layer(layer)
            if stored and not was_closed:
                self._files.complete(layer_id)
                if boot_id != last_boot_id:
                    layer.revert_to_stable()
                layer.free_leftovers()
        for uuid, is_snapshot, size_bytes, layer_id in self._catalog.entries():
            layer = self._tree.layers[layer_id]
            self._tree.name(Entry(uuid, layer, size_bytes, is_snapshot=is_snapshot))
        for orphan in stored_layers - self._tree.layers.keys():
            self._files.remove(orphan)
        if was_closed or boot_id != last_boot_id:
            with self._catalog.transaction(frees_space=True) as change:
                change.set_last_run(boot_id, was_closed=False)

    def _add_volume(
        self, uuid: UUID, size_bytes: int, *, parent: Layer | None, overlap_bytes: int
    ) -> None:
        with self._catalog.transaction() as change:
            layer = self._layer_over(parent, overlap_bytes)
            change.add_entry(EntryRow(uuid, False, size_bytes, layer.id))
        with self._io:
            self._tree.add_layer(layer)
            self._tree.name(Entry(uuid, layer, size_bytes, is_snapshot=False))

    def _drop(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            self._tree.remove_layer(layer)

    def _entry(self, uuid: UUID) -> Entry:
        entry = self._tree.entries.get(uuid)
        if entry is None:
            raise KeyError(f"no volume or snapshot {uuid} in the store")
        return entry

    def _volume(self, uuid: UUID) -> Entry:
        entry = self._entry(uuid)
        if entry.is_snapshot:
            raise KeyError(f"{uuid} is a snapshot, not a volume")
        return entry

    def _snapshot(self, uuid: UUID) -> Entry:
        entry = self._entry(uuid)
        if not entry.is_snapshot:
            raise KeyError(f"{uuid} is a volume, not a snapshot")
        return entry

    def _check_new(self, uuid: UUID) -> None:
        if uuid in self._tree.entries:
            raise FileExistsError(errno.EEXIST, f"the store already has {uuid}")

    def _new_layer(self, parent: Layer | None, overlap: int) -> Layer:
        layer_id = self._catalog.add_layer(parent.id if parent else None, overlap)
        with self._io:
            # The last transaction may have failed, and left files under the same id.
            self._files.remove(layer_id)
        return Layer(layer_id, parent, overlap, self._files)

    def _layer_over(self, parent: Layer | None, overlap_bytes: int) -> Layer:
        """A new layer, in the catalog only, through which `overlap_bytes` of the parent show."""
        layer = self._new_layer(parent, extents_in(overlap_bytes))
        if overlap_bytes % EXTENT_BYTES:
            with self._io:
                self._clear_tail(self._index.chain(layer), overlap_bytes)
            flush_layers(self._io, lambda: [layer])
        return layer

    def _clear_beyond(self, volume: Entry) -> None:
        """Before a volume grows: have nothing left beyond its size, neither of a shrink that
        was cut short nor in the last extent."""
        with self._io:
            volume.layer.truncate(extents_in(volume.size_bytes))
            volume.chain = None
            if volume.size_bytes % EXTENT_BYTES:
                self._clear_tail(self._chain(volume), volume.size_bytes)
        self._flush_lineage(volume.layer)

    def _clear_tail(self, chain: Chain, size_bytes: int) -> None:
        """Zero the rest of the extent in which `size_bytes` end, if anything is there."""
        self._clear_part(chain, size_bytes, -size_bytes % EXTENT_BYTES)

    def _flush_lineage(self, layer: Layer) -> None:
        """Only under the structure lock, which keeps the layer where it is."""
        flush_layers(self._io, lambda: lineage(layer))

    # --- inside: I/O, under the I/O lock; a piece lies in one chunk ------------------------

    def _chain(self, entry: Entry) -> Chain:
        entry.chain = self._index.chain(entry.layer)
        return entry.chain

    def _next_differences(
        self, uuid: UUID, base_uuid: UUID | None, offset_bytes: int
    ) -> tuple[int, list[tuple[int, int]]] | None:
        """Those in the next chunk that holds anything, as `differences` gives them."""
        with self._io:
            entries = [self._entry(each) for each in (uuid, base_uuid) if each is not None]
            chains = [entry.chain or self._chain(entry) for entry in entries]
            first = min(chain.next_stated(offset_bytes >> EXTENT_SHIFT) for chain in chains)
            size_bytes = entries[0].size_bytes
            chunk, begin = divmod(first, CHUNK_EXTENTS)
            count = min(CHUNK_EXTENTS - begin, extents_in(size_bytes) - first)
            if count <= 0:
                return None
            codes, base_codes = (array("H", bytes(2 * count)) for _ in range(2))
            for entry, chain, into in zip(entries, chains, (codes, base_codes), strict=False):
                own = max(0, min(count, extents_in(entry.size_bytes) - first))
                # Not by way of the index, which would then drop what is in use.
                into[:own] = chain.read_codes(chunk)[begin : begin + own]
            shared_code = chains[0].shared_code(chains[1]) if base_uuid else NOWHERE
        # The end of the last extent, not of the volume: the next look begins there.
        return (first + count) << EXTENT_SHIFT, [
            (at << EXTENT_SHIFT, min(length << EXTENT_SHIFT, size_bytes - (at << EXTENT_SHIFT)))
            for at, length in different_runs(codes, base_codes, shared_code, first)
        ]

    def _writable(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> Entry:
        entry = self._entry(uuid)
        _check_range(entry, offset_bytes, length_bytes)
        if entry.is_snapshot:
            raise OSError(errno.EROFS, f"{uuid} is a snapshot, which is never written")
        return entry

    def _codes(self, chain: Chain, offset_bytes: int, length_bytes: int) -> array[int]:
        """A copy of the codes of the extents that hold the range."""
        chunk, first = divmod(offset_bytes >> EXTENT_SHIFT, CHUNK_EXTENTS)
        count = extents_in(offset_bytes % EXTENT_BYTES + length_bytes)
        return self._index.codes(chain, chunk)[first : first + count]

    def _read_piece(self, chain: Chain, offset_bytes: int, length_bytes: int) -> bytes:
        codes = self._codes(chain, offset_bytes, length_bytes)
        if len(codes) <= 1:
            code = codes[0] if codes else NOWHERE
            if code == NOWHERE:
                return bytes(length_bytes)
            return chain.layers[code - 1].read(offset_bytes, length_bytes)
        position, end = offset_bytes, offset_bytes + length_bytes
        extents_start = offset_bytes & -EXTENT_BYTES
        parts = []
        for code, first, count in code_runs(codes):
            run_end = min(end, extents_start + ((first + count) << EXTENT_SHIFT))
            length = run_end - position
            if code == NOWHERE:
                parts.append(bytes(length))
            else:
                parts.append(chain.layers[code - 1].read(position, length))
            position = run_end
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _write_piece(self, chain: Chain, offset_bytes: int, data: bytes | memoryview) -> None:
        codes = self._codes(chain, offset_bytes, len(data))
        own = chain.top_code
        if codes.count(own) == len(codes):
            chain.top.overwrite(offset_bytes, data)
            return
        # A new extent is written whole: what the data leaves of the first and the last one
        # comes from where it is now.
        head = offset_bytes % EXTENT_BYTES
        tail = -(offset_bytes + len(data)) % EXTENT_BYTES
        start = offset_bytes - head
        if head or tail:
            before = self._read_piece(chain, start, head)
            after = self._read_piece(chain, offset_bytes + len(data), tail)
            data = b"".join((before, data, after))
        first = start >> EXTENT_SHIFT
        try:
            chain.top.add(first, data)
        except OSError:
            # A part of the map may have been written.
            self._index.forget(chain, offset_bytes // _CHUNK_BYTES)
            raise
        self._set_codes(chain, first, len(codes), own)

    def _set_codes(self, chain: Chain, first: int, count: int, code: int) -> None:
        chunk, begin = divmod(first, CHUNK_EXTENTS)
        codes = self._index.codes(chain, chunk)
        codes[begin : begin + count] = array("H", (code,)) * count

    def _deallocate_piece(self, chain: Chain, offset_bytes: int, length_bytes: int) -> None:
        end = offset_bytes + length_bytes
        whole_begin = min(end, offset_bytes + -offset_bytes % EXTENT_BYTES)
        whole_end = max(whole_begin, end & -EXTENT_BYTES)
        self._clear_part(chain, offset_bytes, whole_begin - offset_bytes)
        self._clear_part(chain, whole_end, end - whole_end)
        if whole_begin == whole_end:
            return
        codes = self._codes(chain, whole_begin, whole_end - whole_begin)
        if codes.count(NOWHERE) == len(codes):
            return
        first, count = whole_begin >> EXTENT_SHIFT, len(codes)
        # Without a parent there is nothing to hide, and an absent extent needs no map.
        chain.top.punch(first, count)
        chain.top.set_states(first, count, ZERO if chain.top.parent else ABSENT)
        self._set_codes(chain, first, count, NOWHERE)

    def _clear_part(self, chain: Chain, offset_bytes: int, length_bytes: int) -> None:
        """Zero a part of one extent, which takes no space if it reads as zeroes anyway."""
        if length_bytes and self._codes(chain, offset_bytes, length_bytes)[0] != NOWHERE:
            self._write_piece(chain, offset_bytes, bytes(length_bytes))


def _pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int]]:
    """A range, cut where chunks end: `(offset, length)`."""
    end = offset_bytes + length_bytes
    while offset_bytes < end:
        length = min(end - offset_bytes, _CHUNK_BYTES - offset_bytes % _CHUNK_BYTES)
        yield offset_bytes, length
        offset_bytes += length


def _check_size(size_bytes: int) -> None:
    if size_bytes <= 0 or size_bytes % SECTOR_BYTES:
        raise ValueError(f"a size is a positive multiple of {SECTOR_BYTES} bytes, not {size_bytes}")


def _check_range(entry: Entry, offset_bytes: int, length_bytes: int) -> None:
    if (offset_bytes | length_bytes) % SECTOR_BYTES or offset_bytes < 0 or length_bytes < 0:
        raise ValueError(
            f"offset {offset_bytes} and length {length_bytes} must be multiples of {SECTOR_BYTES}"
        )
    if offset_bytes + length_bytes > entry.size_bytes:
        raise ValueError(
            f"{length_bytes} bytes at {offset_bytes} of {entry.uuid} end beyond its "
            f"{entry.size_bytes} bytes"
        )


def _lock_directory(directory: Path) -> int:
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno != errno.EWOULDBLOCK:
            raise
        raise BlockingIOError(
            errno.EWOULDBLOCK,
            "the store is in use by another process: end that one first",
            str(directory),
        ) from exc
    return fd
