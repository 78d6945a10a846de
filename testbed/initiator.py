# SPDX-License-Identifier: Apache-2.0
"""A plain user-space NVMe/TCP host over blocking sockets, for tests and figures.

with Initiator("127.0.0.1", 4420, subsystem_nqn, host_nqn="nqn.2014-08.org.example:h") as host:
    host.write(1, 0, b"..." )
    assert host.read(1, 0, 8) == b"..."
"""

from __future__ import annotations

import dataclasses
import socket
import uuid
from collections.abc import Iterable, Iterator
from typing import Self

from lightos.nvme_tcp import HostQueue, Reply, Settings, commands
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    AEC_BIT,
    ALL_NAMESPACES,
    DYNAMIC_CONTROLLER_ID,
    AcquireAction,
    AsyncEvent,
    Cns,
    Feature,
    LogPage,
    PersistenceChange,
    Property,
    RegisterAction,
    ReleaseAction,
    ReservationType,
)
from lightos.nvme_tcp.structures import (
    AcquireData,
    AnaLog,
    ConnectData,
    DatasetRange,
    DiscoveryLog,
    IdentifyController,
    IdentifyNamespace,
    RegisterData,
    RegistrantStatus,
    ReleaseData,
    ReservationNotification,
    ReservationReport,
    Structure,
    decode_namespace_descriptors,
    decode_namespace_list,
)

TIMEOUT_SECONDS = 20.0


class InitiatorError(Exception):
    """The controller ended a connection, or did not answer in time."""


class QueueSocket:
    """One queue on its own blocking socket."""

    def __init__(
        self,
        address: str,
        port: int,
        settings: Settings | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.queue = HostQueue(settings)
        self.socket = socket.create_connection((address, port), timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies: dict[int, Reply] = {}
        self.socket.sendall(self.queue.initiate())
        while not self.queue.ready:
            self._receive()

    def connect(self, command: Command, data: ConnectData) -> int:
        """Fabrics Connect; returns the controller id."""
        reply = self.run(command, data.encode()).check("connect")
        return reply.completion.result & 0xFFFF

    def submit(self, command: Command, data: bytes = b"") -> int:
        """Send a command and return its id; `wait` gives the reply."""
        cid, written = self.queue.submit(command, data)
        self.socket.sendall(written)
        return cid

    def wait(self, cid: int) -> Reply:
        while cid not in self._replies:
            self._receive()
        return self._replies.pop(cid)

    def run(self, command: Command, data: bytes = b"") -> Reply:
        return self.wait(self.submit(command, data))

    def pipeline(self, jobs: Iterable[tuple[Command, bytes]], depth: int) -> Iterator[Reply]:
        """Run many commands with up to `depth` outstanding; replies in order of completion."""
        jobs = iter(jobs)
        batch = bytearray()
        more = True
        while True:
            while more and self.queue.outstanding < depth:
                job = next(jobs, None)
                if job is None:
                    more = False
                    break
                batch += self.queue.submit(*job)[1]
            if batch:
                self.socket.sendall(batch)
                batch.clear()
            if not self.queue.outstanding:
                return
            yield from self._replies_received()

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> None:
        for reply in self._replies_received():
            self._replies[reply.cid] = reply

    def _replies_received(self) -> list[Reply]:
        data = self.socket.recv(1 << 18)
        try:
            replies = self.queue.receive(data)
        finally:
            answer = self.queue.data_to_send()
            if answer:
                self.socket.sendall(answer)
        if self.queue.closed and not replies:
            raise InitiatorError(self.queue.closed_because)
        return replies


class Initiator:
    """One host's association with one controller: an admin queue and I/O queues."""

    def __init__(
        self,
        address: str,
        port: int,
        subsystem_nqn: str,
        *,
        host_nqn: str,
        host_id: bytes | None = None,
        io_queues: int = 1,
        queue_size: int = 128,
        keep_alive_ms: int = 0,
        disable_sq_flow: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self.subsystem_nqn = subsystem_nqn
        self.block_sizes: dict[int, int] = {}
        self.io: list[QueueSocket] = []
        self.admin = QueueSocket(address, port, settings)
        identity = ConnectData(
            host_id=host_id or uuid.uuid5(uuid.NAMESPACE_URL, host_nqn).bytes,
            controller_id=DYNAMIC_CONTROLLER_ID,
            subsystem_nqn=subsystem_nqn,
            host_nqn=host_nqn,
        )
        try:
            self.controller_id = self.admin.connect(
                commands.connect(queue_id=0, queue_size=32, keep_alive_ms=keep_alive_ms), identity
            )
            self.enable()
            if io_queues:
                wanted = io_queues - 1
                self.set_feature(Feature.NUMBER_OF_QUEUES, wanted << 16 | wanted)
            identity = dataclasses.replace(identity, controller_id=self.controller_id)
            for number in range(1, io_queues + 1):
                queue = QueueSocket(address, port, settings)
                self.io.append(queue)
                command = commands.connect(
                    queue_id=number, queue_size=queue_size, disable_sq_flow=disable_sq_flow
                )
                queue.connect(command, identity)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for queue in (*self.io, self.admin):
            queue.close()

    # ---- admin

    def enable(self) -> None:
        """CC: enable, 64-byte SQ and 16-byte CQ entries; then CSTS must say ready."""
        self.admin.run(commands.property_set(Property.CC, 4 << 20 | 6 << 16 | 1)).check("enable")
        if not self.get_property(Property.CSTS) & 1:
            raise InitiatorError("the controller is not ready after it was enabled")

    def get_property(self, name: Property) -> int:
        return self.admin.run(commands.property_get(name)).check(name.name).completion.result

    def set_feature(self, feature: Feature, value: int, *, nsid: int = 0) -> int:
        reply = self.admin.run(commands.set_features(feature, value, nsid=nsid))
        return reply.check(f"set {feature.name}").completion.result

    def get_feature(self, feature: Feature, select: int = 0, *, nsid: int = 0) -> int:
        reply = self.admin.run(commands.get_features(feature, select=select, nsid=nsid))
        return reply.check(f"get {feature.name}").completion.result

    def identify(self, cns: Cns, nsid: int = 0) -> bytes:
        return self.admin.run(commands.identify(cns, nsid=nsid)).check(cns.name).data

    def identify_controller(self) -> IdentifyController:
        return IdentifyController.decode(self.identify(Cns.CONTROLLER))

    def identify_namespace(self, nsid: int) -> IdentifyNamespace:
        return IdentifyNamespace.decode(self.identify(Cns.NAMESPACE, nsid))

    def namespace_ids(self) -> tuple[int, ...]:
        return decode_namespace_list(self.identify(Cns.ACTIVE_NAMESPACES))

    def namespace_descriptors(self, nsid: int) -> dict[int, bytes]:
        return decode_namespace_descriptors(self.identify(Cns.NAMESPACE_DESCRIPTORS, nsid))

    def log_page(
        self,
        page: LogPage,
        length: int,
        offset: int = 0,
        *,
        specific: int = 0,
        retain: bool = False,
    ) -> bytes:
        command = commands.get_log_page(
            page, length=length, offset=offset, specific=specific, retain_event=retain
        )
        return self.admin.run(command).check(page.name).data

    def ana_log(self) -> AnaLog:
        identity = self.identify_controller()
        longest = AnaLog.max_bytes(identity.ana_group_count, identity.max_allowed_namespaces)
        return AnaLog.decode(self.log_page(LogPage.ANA, longest))

    def changed_namespaces(self) -> tuple[int, ...]:
        return decode_namespace_list(self.log_page(LogPage.CHANGED_NAMESPACES, 4096))

    def discovery_log(self) -> DiscoveryLog:
        _, count = DiscoveryLog.decode_header(self.log_page(LogPage.DISCOVERY, 16, retain=True))
        return DiscoveryLog.decode(self.log_page(LogPage.DISCOVERY, 1024 * (1 + count)))

    def watch(self, *events: AsyncEvent) -> int:
        """Ask for these events; returns the id of the request that will tell of the first."""
        enabled = sum(AEC_BIT.get(event, 0) for event in events)
        self.set_feature(Feature.ASYNC_EVENT_CONFIGURATION, enabled)
        return self.admin.submit(commands.async_event_request())

    def event(self, cid: int) -> AsyncEvent:
        return AsyncEvent(self.admin.wait(cid).check("event").completion.result)

    def reservation_notification(self) -> ReservationNotification:
        """The oldest that was not read."""
        page = self.log_page(LogPage.RESERVATION_NOTIFICATION, ReservationNotification.SIZE)
        return ReservationNotification.decode(page)

    def keep_alive(self) -> None:
        self.admin.run(commands.keep_alive()).check("keep alive")

    # ---- I/O, on the first I/O queue

    def block_size(self, nsid: int) -> int:
        if nsid not in self.block_sizes:
            self.block_sizes[nsid] = 1 << self.identify_namespace(nsid).format_data_shift
        return self.block_sizes[nsid]

    def read(self, nsid: int, start: int, count: int) -> bytes:
        command = commands.read(nsid, start, count, block_size=self.block_size(nsid))
        return self.io[0].run(command).check(f"read of block {start}").data

    def write(
        self,
        nsid: int,
        start: int,
        data: bytes,
        *,
        in_capsule: bool = False,
        force_unit_access: bool = False,
    ) -> None:
        size = self.block_size(nsid)
        command = commands.write(
            nsid,
            start,
            len(data) // size,
            block_size=size,
            force_unit_access=force_unit_access,
        )
        if in_capsule:
            command = commands.in_capsule(command)
        self.io[0].run(command, data).check(f"write of block {start}")

    def compare(self, nsid: int, start: int, data: bytes) -> None:
        size = self.block_size(nsid)
        command = commands.compare(nsid, start, len(data) // size, block_size=size)
        self.io[0].run(command, data).check(f"compare of block {start}")

    def write_zeroes(self, nsid: int, start: int, count: int) -> None:
        self.io[0].run(commands.write_zeroes(nsid, start, count)).check("write zeroes")

    def deallocate(self, nsid: int, ranges: Iterable[tuple[int, int]]) -> None:
        """Deallocate (first block, number of blocks) ranges."""
        data = b"".join(
            DatasetRange(start_block=start, block_count=count).encode() for start, count in ranges
        )
        command = commands.deallocate(nsid, len(data) // DatasetRange.SIZE)
        self.io[0].run(commands.in_capsule(command), data).check("deallocate")

    def flush(self, nsid: int = ALL_NAMESPACES) -> None:
        self.io[0].run(commands.flush(nsid)).check("flush")

    # ---- reservations

    def register(
        self,
        nsid: int,
        new_key: int = 0,
        *,
        current_key: int | None = 0,
        action: RegisterAction = RegisterAction.REGISTER,
        persistence: PersistenceChange = PersistenceChange.NONE,
    ) -> None:
        """Register, unregister or replace; a current key of None is ignored by the controller."""
        command = commands.reservation_register(
            nsid, action, ignore_existing_key=current_key is None, persistence=persistence
        )
        self._reserve(command, RegisterData(current_key or 0, new_key))

    def acquire(
        self,
        nsid: int,
        key: int,
        reservation_type: ReservationType,
        *,
        action: AcquireAction = AcquireAction.ACQUIRE,
        preempt_key: int = 0,
    ) -> None:
        command = commands.reservation_acquire(nsid, action, reservation_type)
        self._reserve(command, AcquireData(key, preempt_key))

    def release(self, nsid: int, key: int, reservation_type: ReservationType) -> None:
        command = commands.reservation_release(nsid, ReleaseAction.RELEASE, reservation_type)
        self._reserve(command, ReleaseData(key))

    def clear_reservation(self, nsid: int, key: int) -> None:
        self._reserve(commands.reservation_release(nsid, ReleaseAction.CLEAR), ReleaseData(key))

    def reservation_report(self, nsid: int) -> ReservationReport:
        def read(length: int) -> bytes:
            command = commands.reservation_report(nsid, length=length)
            return self.io[0].run(command).check("reservation report").data

        count = ReservationReport.decode_count(read(ReservationReport.HEADER_BYTES))
        length = ReservationReport.HEADER_BYTES + count * RegistrantStatus.SIZE
        return ReservationReport.decode(read(length))

    def _reserve(self, command: Command, data: Structure) -> None:
        self.io[0].run(commands.in_capsule(command), data.encode()).check("reservation command")
