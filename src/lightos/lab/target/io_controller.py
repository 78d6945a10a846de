# SPDX-License-Identifier: Apache-2.0
"""The I/O controller: one host's view of the cluster's subsystem through one node.

What it shows is asked of the `ClusterView` as it is now; what it remembers of it serves
only to tell the host what changed (asynchronous events, changed namespace list).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

from lightos.lab.controller.base import (
    CommandQueue,
    Controller,
    Handler,
    LogHandler,
    NamespaceFeature,
)
from lightos.lab.controller.outcome import Later, Outcome, Throttled
from lightos.lab.reservations.rules import Host
from lightos.lab.target.blocks import Blocks
from lightos.lab.target.held_writes import HeldWrites
from lightos.lab.target.host_reservations import HostReservations, Reserve
from lightos.lab.throttle import Direction, Throttles
from lightos.lab.traffic import Traffic
from lightos.lab.view import (
    BlockStore,
    ClusterChange,
    ClusterView,
    NamespaceView,
    NodeView,
    ReservationChange,
)
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    ALL_NAMESPACES,
    AsyncEvent,
    Cns,
    ControllerType,
    Feature,
    IoOpcode,
    LogPage,
    Status,
)
from lightos.nvme_tcp.errors import CommandFailed
from lightos.nvme_tcp.structures import (
    AnaGroupDescriptor,
    AnaLog,
    ConnectData,
    IdentifyController,
    IdentifyNamespace,
    IndependentNamespace,
    NvmController,
    SmartLog,
    encode_controller_list,
    encode_namespace_descriptors,
    encode_namespace_list,
)

MAX_IO_QUEUES = 32
ANA_TRANSITION_SECONDS = 10
MAX_DEALLOCATE_BLOCKS = 1 << 21
"""Of one range, so that a host which discards a whole volume does not hold up the others."""
_NVM_COMMAND_SET = 0
_THIN_PROVISIONING = 1 << 0
_SHARED = 1 << 0
_DEALLOCATED_READS_ZERO = 0b001
_WRITE_ZEROES_DEALLOCATES = 1 << 3
_RESERVATION_CAPABILITIES = 0xFF
"""Persistence, all six types, and Ignore Existing Key as since NVM Express 1.3."""


class IoController(Controller):
    """Admin commands of the I/O subsystem; the I/O commands themselves are in `Blocks`."""

    kind = ControllerType.IO
    async_events = (AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED, AsyncEvent.ANA_CHANGE)
    io_queue_limit = MAX_IO_QUEUES
    changeable_features: ClassVar[Mapping[int, int]] = {
        Feature.ARBITRATION: 0,
        Feature.POWER_MANAGEMENT: 0,
        Feature.TEMPERATURE_THRESHOLD: 0xFFFF,
        Feature.ERROR_RECOVERY: 0,
        Feature.VOLATILE_WRITE_CACHE: 1,
        Feature.NUMBER_OF_QUEUES: (MAX_IO_QUEUES - 1) << 16 | (MAX_IO_QUEUES - 1),
        Feature.WRITE_ATOMICITY: 0,
    }

    def __init__(
        self,
        view: ClusterView,
        store: BlockStore,
        node: NodeView,
        throttles: Throttles,
        traffic: Traffic,
        *,
        reserve: Reserve,
        held_writes: HeldWrites,
        controller_id: int,
        connect: ConnectData,
        host_address: str,
        keep_alive_ms: int,
        ended: Callable[[int], None],
    ) -> None:
        super().__init__(
            controller_id=controller_id,
            connect=connect,
            host_address=host_address,
            keep_alive_ms=keep_alive_ms,
            ended=ended,
        )
        self.view = view
        self.node = node
        self._throttles = throttles
        self._held_writes = held_writes
        self.blocks = Blocks(view, store, node.uuid, self.host_id, traffic)
        self.reservations = HostReservations(
            view, reserve, Host(self.host_id, self.host_nqn), self.blocks.namespace
        )
        self._store = store
        self._changed_nsids: set[int] = set()
        self._unsubscribe = view.subscribe(self._cluster_changed)
        self.blocks.namespaces = self._visible()

    def close(self) -> None:
        self.blocks.ended = True
        self._unsubscribe()
        super().close()

    def _visible(self) -> Mapping[int, NamespaceView]:
        return self.view.namespaces(self.host_nqn, self.host_address)

    def _cluster_changed(self, change: ClusterChange) -> None:
        before, after = self.blocks.namespaces, self._visible()
        self.blocks.namespaces = after
        changed = {nsid for nsid in change.nsids if before.get(nsid) != after.get(nsid)}
        if changed:
            self._changed_nsids |= changed
            self.events.notify(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
        if change.ana:
            self.events.notify(AsyncEvent.ANA_CHANGE)
        if change.reservation is not None and change.reservation.nsid in after:
            self._reservation_changed(after[change.reservation.nsid], change.reservation)

    def _reservation_changed(self, namespace: NamespaceView, change: ReservationChange) -> None:
        if self.host_id in change.aborted:
            failed = CommandFailed(Status.ABORTED_BY_PREEMPT_AND_ABORT)
            for queue in self.queues.values():
                if queue.queue_id:
                    queue.fail(lambda command: _moves_data(command, namespace.nsid), failed)
        if self.reservations.note(namespace, change):
            self.events.notify(AsyncEvent.RESERVATION_LOG_AVAILABLE)

    def _reset(self) -> None:
        super()._reset()
        self._changed_nsids.clear()
        self.io_queue_limit = MAX_IO_QUEUES
        self.blocks.write_cache = True
        self.reservations.reset()

    # ---- Identify

    def identity(self) -> IdentifyController:
        return dataclasses.replace(
            super().identity(),
            serial_number=self.view.serial_number,
            multi_path=1 << 0 | 1 << 1 | 1 << 3,  # several ports, several controllers, ANA
            ana_transition_seconds=ANA_TRANSITION_SECONDS,
            ana_capabilities=0x1F,  # every state may be reported
            max_ana_group_id=self.view.max_ana_group_id,
            ana_group_count=self.view.max_ana_group_id,
            namespace_count=self.view.max_namespaces,
            max_allowed_namespaces=self.view.max_namespaces,
            # Compare, Dataset Management, Write Zeroes, Save and Select, reservations
            command_support=1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5,
            volatile_write_cache=0b111,  # present; Flush of all namespaces works
        )

    def _namespace(self, command: Command) -> NamespaceView | None:
        """The namespace a command names; None if it exists but not for this host."""
        if not 1 <= command.nsid <= self.view.max_namespaces:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        return self.blocks.namespaces.get(command.nsid)

    def _active_namespace(self, command: Command) -> NamespaceView:
        namespace = self._namespace(command)
        if namespace is None:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        return namespace

    def _identify_namespace(self, command: Command) -> bytes:
        namespace = self._namespace(command)
        if namespace is None:
            return bytes(IdentifyNamespace.SIZE)
        blocks = namespace.size_bytes // namespace.block_size_bytes
        return IdentifyNamespace(
            size_blocks=blocks,
            capacity_blocks=blocks,
            used_blocks=min(blocks, self._used_bytes(namespace) // namespace.block_size_bytes),
            features=_THIN_PROVISIONING,
            sharing=_SHARED,
            reservation_capabilities=_RESERVATION_CAPABILITIES,
            deallocation=_DEALLOCATED_READS_ZERO | _WRITE_ZEROES_DEALLOCATES,
            ana_group_id=namespace.ana_group_id,
            nguid=namespace.uuid.bytes,
            format_data_shift=namespace.block_size_bytes.bit_length() - 1,
        ).encode()

    def _used_bytes(self, namespace: NamespaceView) -> int:
        try:
            return self._store.used_bytes(namespace.uuid)
        except (KeyError, OSError):
            # NUSE only informs; a volume whose disk fails still has its size and identity.
            return 0

    def _identify_independent(self, command: Command) -> bytes:
        namespace = self._namespace(command)
        if namespace is None:
            return bytes(IndependentNamespace.SIZE)
        return IndependentNamespace(
            features=_THIN_PROVISIONING,
            sharing=_SHARED,
            reservation_capabilities=_RESERVATION_CAPABILITIES,
            ana_group_id=namespace.ana_group_id,
            status=1,
        ).encode()

    def _identify_active(self, command: Command) -> bytes:
        if command.nsid >= ALL_NAMESPACES - 1:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        return encode_namespace_list(
            nsid for nsid in sorted(self.blocks.namespaces) if nsid > command.nsid
        )

    def _identify_active_nvm(self, command: Command) -> bytes:
        _require_nvm(command)
        return self._identify_active(command)

    def _identify_descriptors(self, command: Command) -> bytes:
        return encode_namespace_descriptors(self._active_namespace(command).uuid)

    def _identify_nvm_namespace(self, command: Command) -> bytes:
        _require_nvm(command)
        self._active_namespace(command)
        return bytes(4096)  # no extended LBA formats, no protection information

    def _identify_nvm_controller(self, command: Command) -> bytes:
        _require_nvm(command)
        return NvmController(max_range_blocks=MAX_DEALLOCATE_BLOCKS).encode()

    def _identify_controllers(self, command: Command) -> bytes:
        first = command.cdw10 >> 16
        return encode_controller_list([self.controller_id] if self.controller_id >= first else [])

    def _identify_command_sets(self, _command: Command) -> bytes:
        return (1 << _NVM_COMMAND_SET).to_bytes(8, "little").ljust(4096, b"\0")

    # ---- log pages

    def _smart_log(self, _command: Command) -> bytes:
        counted = self.blocks.counters
        return SmartLog(
            available_spare_percent=100,
            data_units_read=-(-counted.read_bytes // SmartLog.DATA_UNIT_BYTES),
            data_units_written=-(-counted.written_bytes // SmartLog.DATA_UNIT_BYTES),
            host_reads=counted.reads,
            host_writes=counted.writes,
        ).encode()

    def _changed_namespaces_log(self, _command: Command) -> bytes:
        nsids = sorted(self._changed_nsids)
        # More than 1024: the host is to look at all (Base, "Changed Namespace List").
        return encode_namespace_list(nsids if len(nsids) <= 1024 else [ALL_NAMESPACES])

    def _ana_log(self, command: Command) -> bytes:
        groups_only = bool(command.cdw10 >> 8 & 1)
        visible = self.blocks.namespaces
        log = AnaLog(
            self.view.ana_change_count(),
            tuple(
                AnaGroupDescriptor(
                    group.group_id,
                    group.state,
                    () if groups_only else tuple(sorted(visible.keys() & group.nsids)),
                    group.change_count,
                )
                for group in self.view.ana_groups(self.node.uuid)
            ),
        )
        # Hosts read, in parts, as much as the log could hold at most.
        longest = AnaLog.max_bytes(self.view.max_ana_group_id, self.view.max_namespaces)
        return log.encode().ljust(longest, b"\0")

    def _reservation_log(self, _command: Command) -> bytes:
        return self.reservations.page()

    def log_page_read(self, page: int) -> None:
        super().log_page_read(page)
        if page == LogPage.RESERVATION_NOTIFICATION:
            self.reservations.page_read()
        if page == LogPage.CHANGED_NAMESPACES:
            self._changed_nsids.clear()

    # ---- features

    def set_feature(self, queue: CommandQueue, number: int, value: int) -> int:
        match number:
            case Feature.NUMBER_OF_QUEUES:
                return self._set_number_of_queues(value)
            case Feature.WRITE_ATOMICITY | Feature.VOLATILE_WRITE_CACHE:
                value &= 1
        if number == Feature.VOLATILE_WRITE_CACHE:
            self.blocks.write_cache = bool(value)
        return super().set_feature(queue, number, value)

    def _set_number_of_queues(self, value: int) -> int:
        """Base, "Number of Queues (Feature Identifier 07h)"; both counts are 0's based."""
        if len(self.queues) > 1:
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        submission, completion = value & 0xFFFF, value >> 16
        if 0xFFFF in (submission, completion):
            raise CommandFailed(Status.INVALID_FIELD)
        granted = min(submission, completion, MAX_IO_QUEUES - 1)
        self.io_queue_limit = granted + 1
        self._features[Feature.NUMBER_OF_QUEUES] = granted << 16 | granted
        return granted << 16 | granted

    def _get_reservation_mask(self, nsid: int) -> int:
        return self.reservations.mask(self._namespace_of_feature(nsid))

    def _set_reservation_mask(self, nsid: int, value: int) -> int:
        self.reservations.set_mask(self._namespaces_of_feature(nsid), value)
        return 0

    def _get_reservation_persistence(self, nsid: int) -> int:
        return int(self.reservations.persists(self._namespace_of_feature(nsid)))

    def _set_reservation_persistence(self, nsid: int, value: int) -> Later:
        namespaces = self._namespaces_of_feature(nsid)
        return self.reservations.set_persists(namespaces, bool(value & 1))

    def _namespace_of_feature(self, nsid: int) -> NamespaceView:
        """Also one that this node does not serve: each controller of a host has its own mask."""
        if nsid == ALL_NAMESPACES:
            raise CommandFailed(Status.INVALID_FIELD)
        if nsid not in self.blocks.namespaces:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        return self.blocks.namespaces[nsid]

    def _namespaces_of_feature(self, nsid: int) -> list[NamespaceView]:
        if nsid == ALL_NAMESPACES:
            return list(self.blocks.namespaces.values())
        return [self._namespace_of_feature(nsid)]

    # ---- I/O commands

    def moment(self) -> int:
        return self.view.ana_change_count()

    def execute(self, queue: CommandQueue, command: Command) -> Outcome:
        if queue.queue_id and queue.late_since is not None:
            self.blocks.check_not_late(command.nsid, queue.late_since)
        return super().execute(queue, command)

    def _in_turn(
        self,
        direction: Direction,
        command: Command,
        run: Callable[[Command], Outcome],
        length_bytes: int,
    ) -> Outcome:
        """Run a command when its volume's rate limit allows. It is checked as it runs."""
        namespace = self.blocks.namespaces.get(command.nsid)
        lane = namespace and self._throttles.lane(namespace.uuid, direction)
        if not lane or lane.admit(length_bytes):
            return run(command)
        late = functools.partial(self._run_late, run, command, self.moment())
        return Throttled(lane, length_bytes, late)

    def _run_late(
        self, run: Callable[[Command], Outcome], command: Command, arrived_at: int
    ) -> Outcome:
        self.blocks.check_not_late(command.nsid, arrived_at)
        return run(command)

    def _read(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self._in_turn(Direction.READ, command, self.blocks.read, command.data_length)

    def _write(self, queue: CommandQueue, command: Command) -> Outcome:
        if self._held_writes.holding:
            awaited = functools.partial(queue.awaits, command)
            return self._held_writes.take(command, self.blocks.write(command, awaited))
        return self._in_turn(Direction.WRITE, command, self.blocks.write, command.data_length)

    def _compare(self, _queue: CommandQueue, command: Command) -> Outcome:
        """Counts as a write: it moves data from the host to the cluster."""
        return self._in_turn(Direction.WRITE, command, self.blocks.compare, command.data_length)

    def _write_zeroes(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self._in_turn(Direction.WRITE, command, self.blocks.write_zeroes, 0)

    def _dataset_management(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self._in_turn(Direction.WRITE, command, self.blocks.dataset_management, 0)

    def _flush(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self.blocks.flush(command)

    def _reservation_change(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self.reservations.change(command)

    def _reservation_report(self, _queue: CommandQueue, command: Command) -> Outcome:
        return self.reservations.report(command)

    io_commands: ClassVar[Mapping[int, Handler]] = {
        IoOpcode.FLUSH: _flush,
        IoOpcode.WRITE: _write,
        IoOpcode.READ: _read,
        IoOpcode.COMPARE: _compare,
        IoOpcode.WRITE_ZEROES: _write_zeroes,
        IoOpcode.DATASET_MANAGEMENT: _dataset_management,
        IoOpcode.RESERVATION_REGISTER: _reservation_change,
        IoOpcode.RESERVATION_REPORT: _reservation_report,
        IoOpcode.RESERVATION_ACQUIRE: _reservation_change,
        IoOpcode.RESERVATION_RELEASE: _reservation_change,
    }
    namespace_features: ClassVar[Mapping[int, NamespaceFeature]] = {
        Feature.RESERVATION_NOTIFICATION_MASK: NamespaceFeature(
            _get_reservation_mask, _set_reservation_mask
        ),
        Feature.RESERVATION_PERSISTENCE: NamespaceFeature(
            _get_reservation_persistence, _set_reservation_persistence
        ),
    }
    identify_pages: ClassVar[Mapping[int, LogHandler]] = {
        **Controller.identify_pages,
        Cns.NAMESPACE: _identify_namespace,
        Cns.ACTIVE_NAMESPACES: _identify_active,
        Cns.NAMESPACE_DESCRIPTORS: _identify_descriptors,
        Cns.COMMAND_SET_NAMESPACE: _identify_nvm_namespace,
        Cns.COMMAND_SET_CONTROLLER: _identify_nvm_controller,
        Cns.COMMAND_SET_ACTIVE_NAMESPACES: _identify_active_nvm,
        Cns.INDEPENDENT_NAMESPACE: _identify_independent,
        Cns.CONTROLLERS: _identify_controllers,
        Cns.COMMAND_SETS: _identify_command_sets,
    }
    log_pages: ClassVar[Mapping[int, LogHandler]] = {
        **Controller.log_pages,
        LogPage.SMART: _smart_log,
        LogPage.CHANGED_NAMESPACES: _changed_namespaces_log,
        LogPage.ANA: _ana_log,
        LogPage.RESERVATION_NOTIFICATION: _reservation_log,
    }


def _moves_data(command: Command, nsid: int) -> bool:
    """Whether an I/O command is one that reservations keep hosts from."""
    return command.nsid == nsid and command.opcode <= IoOpcode.DATASET_MANAGEMENT


def _require_nvm(command: Command) -> None:
    """The command set identifier (CSI, dword 11 bits 31:24) must be that of NVM."""
    if command.cdw11 >> 24 != _NVM_COMMAND_SET:
        raise CommandFailed(Status.INVALID_FIELD)
