# SPDX-License-Identifier: Apache-2.0
"""The NVM commands of one controller: from logical blocks to bytes in the store.

Whether the host may have the namespace and whether this node serves it is asked again
right before every touch of the store, with nothing awaited in between: a node that lost
the primary role, or a host that lost a reservation, writes nothing any more, whatever was
under way.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from lightos.lab.controller.outcome import GatherSink, Later, Sink
from lightos.lab.reservations.rules import Access, conflicts
from lightos.lab.traffic import IoCounters, Traffic
from lightos.lab.view import AnaState, BlockStore, ClusterView, NamespaceView
from lightos.nvme_tcp.commands import FORCE_UNIT_ACCESS, Command
from lightos.nvme_tcp.constants import ALL_NAMESPACES, Status
from lightos.nvme_tcp.errors import CommandFailed
from lightos.nvme_tcp.structures import DatasetRange

logger = logging.getLogger(__name__)

DEALLOCATE_STEP_BYTES = 8 << 20
"""Holds the event loop for some milliseconds at most, if all of it was written."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DSM_DEALLOCATE = 1 << 2
_ANA_STATUS = {
    AnaState.INACCESSIBLE: Status.ANA_INACCESSIBLE,
    AnaState.PERSISTENT_LOSS: Status.ANA_PERSISTENT_LOSS,
    AnaState.CHANGE: Status.ANA_TRANSITION,
}


class Blocks:
    """Reads and writes the namespaces that one host sees through one node."""

    def __init__(
        self,
        view: ClusterView,
        store: BlockStore,
        node_uuid: UUID,
        host_id: bytes,
        traffic: Traffic,
    ) -> None:
        self.namespaces: Mapping[int, NamespaceView] = {}
        self.write_cache = True
        """Volatile Write Cache feature; without it every write is flushed."""
        self.counters = IoCounters()
        """What the host has read and written here, for the SMART log."""
        self.ended = False
        """The association is over: nothing that is still under way may touch the store."""
        self._view = view
        self._store = store
        self._node_uuid = node_uuid
        self._host_id = host_id
        self._traffic = traffic

    def read(self, command: Command) -> bytes:
        namespace = self._accessible(command.nsid, Access.READ)
        offset, length = _range(command.start_block, command.block_count, namespace)
        if length != command.data_length:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        try:
            data = self._store.read(namespace.uuid, offset, length)
        except (KeyError, ValueError, OSError) as error:
            raise _store_failed(error, Status.UNRECOVERED_READ_ERROR) from error
        self.counters.reads += 1
        self.counters.read_bytes += length
        self._traffic.note_read(namespace.uuid, length)
        return data

    def write(self, command: Command, awaited: Callable[[], bool] = lambda: True) -> Sink:
        """`awaited` tells, when the data is to be written, whether the host still waits for it."""
        flush = not self.write_cache or bool(command.cdw12 >> 16 & FORCE_UNIT_ACCESS)

        def touch(uuid: UUID, offset: int, data: bytes) -> None:
            if not awaited():
                raise CommandFailed(Status.ABORT_REQUESTED)
            self._write_piece(uuid, offset, data)

        sink = self._sink(command, Access.WRITE, touch, flush=flush)
        self.counters.writes += 1
        self._traffic.note_write(self.namespaces[command.nsid].uuid)
        return sink

    def compare(self, command: Command) -> Sink:
        return self._sink(command, Access.READ, self._compare_piece, flush=False)

    def write_zeroes(self, command: Command) -> Later:
        # The store reads deallocated ranges as zeroes, so DEAC changes nothing here.
        namespace = self._accessible(command.nsid, Access.WRITE)
        extent = _range(command.start_block, command.block_count, namespace)
        durable = bool(command.cdw12 >> 16 & FORCE_UNIT_ACCESS) or not self.write_cache
        return self._deallocate(namespace, [extent], durable=durable)

    def dataset_management(self, command: Command) -> Sink:
        count = (command.cdw10 & 0xFF) + 1
        self._accessible(command.nsid, Access.WRITE)
        return GatherSink(
            command, count * DatasetRange.SIZE, lambda data: self._dataset_ranges(command, data)
        )

    def flush(self, command: Command) -> Later:
        if command.nsid == ALL_NAMESPACES:
            found = [view for view in self.namespaces.values() if self._serves(view)]
            for namespace in found:
                self._check_reservation(namespace, Access.WRITE)
        else:
            found = [self._accessible(command.nsid, Access.WRITE)]
        return self.flush_uuids([namespace.uuid for namespace in found])

    async def flush_uuids(self, uuids: Iterable[UUID]) -> None:
        """Bring volumes to stable storage; raises CommandFailed."""
        for uuid in uuids:
            try:
                await asyncio.to_thread(self._store.flush, uuid)
            except (KeyError, OSError) as error:
                raise _store_failed(error, Status.WRITE_FAULT) from error

    # ---- the way to the store

    def _serves(self, namespace: NamespaceView) -> bool:
        state = self._view.ana_state(self._node_uuid, namespace.ana_group_id)
        return state not in _ANA_STATUS

    def namespace(self, nsid: int) -> NamespaceView:
        """The namespace, if this host may have it through this node now."""
        namespace = self.namespaces.get(nsid)
        if namespace is None:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        state = self._view.ana_state(self._node_uuid, namespace.ana_group_id)
        if state in _ANA_STATUS:
            self._traffic.note_path_refusal()
            raise CommandFailed(_ANA_STATUS[state], do_not_retry=False)
        if self.ended:
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        return namespace

    def _check_reservation(self, namespace: NamespaceView, access: Access) -> None:
        reservation = self._view.reservation(namespace.uuid)
        if reservation is not None and conflicts(reservation, self._host_id, access):
            raise CommandFailed(Status.RESERVATION_CONFLICT)

    def _accessible(self, nsid: int, access: Access) -> NamespaceView:
        """The namespace, if no reservation keeps this host out of it either."""
        namespace = self.namespace(nsid)
        self._check_reservation(namespace, access)
        return namespace

    def check_not_late(self, nsid: int, arrived_at: int) -> None:
        """Raise CommandFailed if the primary role moved since a command came.

        Its host may have sent it on another path meanwhile, and written something newer there,
        even if the role has come back since. `arrived_at` is the `ana_change_count` of then.
        """
        namespace = self.namespaces.get(nsid)
        if namespace and self._view.ana_moved_at(namespace.ana_group_id) > arrived_at:
            self._traffic.note_path_refusal()
            raise CommandFailed(Status.ANA_TRANSITION, do_not_retry=False)

    def _sink(
        self,
        command: Command,
        access: Access,
        touch: Callable[[UUID, int, bytes], None],
        *,
        flush: bool,
    ) -> _BlockSink:
        namespace = self._accessible(command.nsid, access)
        offset, length = _range(command.start_block, command.block_count, namespace)
        if length != command.data_length:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        return _BlockSink(
            self,
            namespace,
            access,
            offset,
            touch,
            flush=flush,
            arrived_at=self._view.ana_change_count(),
        )

    def recheck(self, namespace: NamespaceView, access: Access, arrived_at: int) -> None:
        """Raise CommandFailed unless `namespace` is still the volume this host may access."""
        if self._accessible(namespace.nsid, access).uuid != namespace.uuid:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        self.check_not_late(namespace.nsid, arrived_at)

    def _write_piece(self, uuid: UUID, offset: int, data: bytes) -> None:
        try:
            self._store.write(uuid, offset, data)
        except (KeyError, ValueError, OSError) as error:
            raise _store_failed(error, Status.WRITE_FAULT) from error
        self.counters.written_bytes += len(data)
        self._traffic.note_written(uuid, len(data))

    def _compare_piece(self, uuid: UUID, offset: int, data: bytes) -> None:
        try:
            stored = self._store.read(uuid, offset, len(data))
        except (KeyError, ValueError, OSError) as error:
            raise _store_failed(error, Status.UNRECOVERED_READ_ERROR) from error
        if stored != data:
            raise CommandFailed(Status.COMPARE_FAILURE)

    async def _deallocate(
        self, namespace: NamespaceView, extents: Iterable[tuple[int, int]], *, durable: bool = False
    ) -> None:
        """Deallocate piece by piece, so that other commands get their turn in between."""
        step = DEALLOCATE_STEP_BYTES
        arrived_at = self._view.ana_change_count()
        for first, length in extents:
            for offset in range(first, first + length, step):
                self.recheck(namespace, Access.WRITE, arrived_at)
                try:
                    piece = min(first + length - offset, step)
                    self._store.deallocate(namespace.uuid, offset, piece)
                except (KeyError, ValueError, OSError) as error:
                    raise _store_failed(error, Status.WRITE_FAULT) from error
                await asyncio.sleep(0)
        if durable:
            await self.flush_uuids([namespace.uuid])

    def _dataset_ranges(self, command: Command, data: bytes) -> int | Later:
        if not command.cdw11 & _DSM_DEALLOCATE:
            return 0  # the other attributes are hints
        namespace = self._accessible(command.nsid, Access.WRITE)
        ranges = [
            DatasetRange.decode(data[at : at + DatasetRange.SIZE])
            for at in range(0, len(data), DatasetRange.SIZE)
        ]
        extents = [
            _range(entry.start_block, entry.block_count, namespace)
            for entry in ranges
            if entry.block_count
        ]
        return self._deallocate(namespace, extents)


class _BlockSink:
    """Hands whole blocks on as they arrive; a host may cut its PDUs anywhere."""

    __slots__ = (
        "_access",
        "_arrived_at",
        "_blocks",
        "_flush",
        "_namespace",
        "_offset",
        "_rest",
        "_touch",
    )

    def __init__(
        self,
        blocks: Blocks,
        namespace: NamespaceView,
        access: Access,
        offset: int,
        touch: Callable[[UUID, int, bytes], None],
        *,
        flush: bool,
        arrived_at: int,
    ) -> None:
        self._arrived_at = arrived_at
        self._blocks = blocks
        self._namespace = namespace
        self._access = access
        self._offset = offset
        self._touch = touch
        self._flush = flush
        self._rest = b""

    def write(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        excess = len(data) % self._namespace.block_size_bytes
        if excess:
            self._rest = data[-excess:]
            data = data[:-excess]
        else:
            self._rest = b""
        if data:
            self._blocks.recheck(self._namespace, self._access, self._arrived_at)
            self._touch(self._namespace.uuid, self._offset, data)
            self._offset += len(data)

    def finish(self) -> int | Later:
        return self._blocks.flush_uuids([self._namespace.uuid]) if self._flush else 0


def _range(start: int, count: int, namespace: NamespaceView) -> tuple[int, int]:
    """Offset and length in bytes of logical blocks."""
    offset = start * namespace.block_size_bytes
    length = count * namespace.block_size_bytes
    if offset + length > namespace.size_bytes:
        raise CommandFailed(Status.LBA_OUT_OF_RANGE)
    return offset, length


def _store_failed(error: Exception, fault: Status) -> CommandFailed:
    """What the host is told of an exception of the store."""
    if isinstance(error, KeyError):
        return CommandFailed(Status.INVALID_NAMESPACE)
    if isinstance(error, ValueError):
        return CommandFailed(Status.LBA_OUT_OF_RANGE)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return CommandFailed(Status.CAPACITY_EXCEEDED)
    logger.error("the store failed: %s", error)
    return CommandFailed(fault, do_not_retry=False)
