# SPDX-License-Identifier: Apache-2.0
"""Conversations that keep the rules, PDU by PDU: what the mutator starts from.

They are recorded from the project's own two ends, wired back to back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lightos.nvme_tcp import NEED_DATA, HostQueue, Role, Settings, commands
from lightos.nvme_tcp.commands import Command, Completion
from lightos.nvme_tcp.connection import Connection
from lightos.nvme_tcp.constants import (
    AEC_BIT,
    DISCOVERY_NQN,
    DYNAMIC_CONTROLLER_ID,
    SGL_IN_CAPSULE,
    AcquireAction,
    AsyncEvent,
    Cns,
    Feature,
    LogPage,
    Property,
    RegisterAction,
    ReleaseAction,
    ReservationType,
    Status,
)
from lightos.nvme_tcp.pdu import R2T, C2HData, CapsuleCmd, CapsuleResp, H2CData, ICReq
from lightos.nvme_tcp.structures import AcquireData, DatasetRange, RegisterData, ReleaseData

HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:f0220000-0000-4000-8000-000000000001"
HOST_ID = bytes(range(16))
SUBSYSTEM_NQN = "nqn.2016-01.com.lightbitslabs:uuid:5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
BLOCK_BYTES = 4096
NSID = 1
ENABLE = 4 << 20 | 6 << 16 | 1
"""CC: 64-byte submission and 16-byte completion entries, enabled."""
ANSWER_BYTES = 16384
"""Most data that `Answerer` returns for one command, whatever was asked for."""
CHUNK_BYTES = 4096

Job = tuple[Command, bytes]
SETTINGS = tuple(
    Settings(header_digest=header, data_digest=data, alignment_bytes=alignment, max_r2t=4)
    for header, data, alignment in (
        (False, False, 4),
        (True, True, 4),
        (True, False, 32),
        (False, True, 128),
    )
)


class Answerer:
    """A controller that answers every command with success, and reads carry 0xA5."""

    def __init__(self, settings: Settings) -> None:
        self.connection = Connection(Role.CONTROLLER, settings)
        self._receiving: set[int] = set()
        self._outstanding: set[int] = set()

    def receive(self, data: bytes) -> bytes:
        """Feed bytes; returns the answers. Raises what the codec raises."""
        self.connection.receive_data(data)
        answers = []
        while (event := self.connection.next_event()) is not NEED_DATA:
            match event:
                case ICReq():
                    answers.append(self.connection.accept())
                case CapsuleCmd():
                    answers += self._answers(event)
                case H2CData(cid=cid, last=True):
                    answers.append(self._done(cid))
                case H2CData():
                    pass
                case _:
                    break  # a TermReq, or the end
        return b"".join(answers)

    def _answers(self, capsule: CapsuleCmd) -> list[bytes]:
        command, send = capsule.command, self.connection.send
        cid = command.cid
        if cid in self._outstanding:
            return [send(CapsuleResp(Completion(cid, Status.COMMAND_ID_CONFLICT)))]
        self._outstanding.add(cid)
        if command.sends_data and command.sgl_type != SGL_IN_CAPSULE:
            return [send(R2T(cid, cid, 0, command.data_length))]
        answers = []
        if command.transfer_bits == 2 and command.data_length:
            length = min(command.data_length, ANSWER_BYTES)
            for offset in range(0, length, CHUNK_BYTES):
                piece = bytes([0xA5]) * min(CHUNK_BYTES, length - offset)
                last = offset + len(piece) == length
                answers.append(send(C2HData(cid, offset, piece, last=last)))
        return [*answers, self._done(cid)]

    def _done(self, cid: int) -> bytes:
        self._outstanding.discard(cid)
        return self.connection.send(CapsuleResp(Completion(cid)))


@dataclass(frozen=True)
class Exchange:
    """What crossed one connection: PDUs by direction, and the commands behind them."""

    settings: Settings
    jobs: tuple[Job, ...]
    to_controller: tuple[bytes, ...]
    to_host: tuple[bytes, ...]


def pdus(stream: bytes) -> list[bytes]:
    """Cut bytes that keep the rules into PDUs, by their PLEN."""
    found = []
    while stream:
        length = int.from_bytes(stream[4:8], "little")
        found.append(stream[:length])
        stream = stream[length:]
    return found


def record(jobs: Iterable[Job], settings: Settings) -> Exchange:
    """Run `jobs` one after the other."""
    jobs = tuple(jobs)
    host, controller = HostQueue(settings), Answerer(settings)
    to_controller, to_host = bytearray(), bytearray()

    def carry(data: bytes) -> None:
        while data:
            to_controller.extend(data)
            answer = controller.receive(data)
            to_host.extend(answer)
            host.receive(answer)
            data = host.data_to_send()

    carry(host.initiate())
    for command, payload in jobs:
        carry(host.submit(command, payload)[1])
    return Exchange(settings, jobs, tuple(pdus(bytes(to_controller))), tuple(pdus(bytes(to_host))))


def connect_job(
    queue_id: int,
    *,
    subsystem_nqn: str = SUBSYSTEM_NQN,
    controller_id: int = DYNAMIC_CONTROLLER_ID,
    keep_alive_ms: int = 0,
    host_nqn: str = HOST_NQN,
    host_id: bytes = HOST_ID,
) -> Job:
    command = commands.connect(queue_id=queue_id, queue_size=32, keep_alive_ms=keep_alive_ms)
    data = commands.connect_data(
        host_id=host_id,
        host_nqn=host_nqn,
        subsystem_nqn=subsystem_nqn,
        controller_id=controller_id,
    )
    return command, data


ENABLE_JOBS: tuple[Job, ...] = (
    (commands.property_get(Property.CAP), b""),
    (commands.property_set(Property.CC, ENABLE), b""),
    (commands.property_get(Property.CSTS), b""),
)


def admin_jobs(connect: Job) -> list[Job]:
    """Connect of an admin queue, and what a host asks there."""
    events = AEC_BIT[AsyncEvent.ANA_CHANGE] | AEC_BIT[AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED]
    return [
        connect,
        *ENABLE_JOBS,
        (commands.identify(Cns.CONTROLLER), b""),
        (commands.set_features(Feature.NUMBER_OF_QUEUES, 7 << 16 | 7), b""),
        (commands.set_features(Feature.ASYNC_EVENT_CONFIGURATION, events), b""),
        (commands.identify(Cns.ACTIVE_NAMESPACES), b""),
        (commands.identify(Cns.NAMESPACE, nsid=NSID), b""),
        (commands.identify(Cns.NAMESPACE_DESCRIPTORS, nsid=NSID), b""),
        (commands.get_log_page(LogPage.ANA, length=512), b""),
        (commands.get_log_page(LogPage.CHANGED_NAMESPACES, length=4096), b""),
        (commands.get_log_page(LogPage.SMART, length=512), b""),
        (commands.get_log_page(LogPage.RESERVATION_NOTIFICATION, length=64), b""),
        (commands.get_features(Feature.KEEP_ALIVE_TIMER), b""),
        (commands.async_event_request(), b""),
        (commands.abort(queue_id=0, cid=15), b""),
        (commands.keep_alive(), b""),
        (commands.property_set(Property.CC, 0), b""),
    ]


def discovery_jobs() -> list[Job]:
    """A session with a discovery service."""
    bit = AEC_BIT[AsyncEvent.DISCOVERY_LOG_CHANGE]
    return [
        connect_job(0, subsystem_nqn=DISCOVERY_NQN, keep_alive_ms=15000),
        *ENABLE_JOBS,
        (commands.identify(Cns.CONTROLLER), b""),
        (commands.set_features(Feature.ASYNC_EVENT_CONFIGURATION, bit), b""),
        (commands.get_log_page(LogPage.DISCOVERY, length=1024, nsid=0), b""),
        (commands.get_log_page(LogPage.DISCOVERY, length=4096, offset=1024, nsid=0), b""),
        (commands.keep_alive(), b""),
    ]


def reservation_jobs() -> list[Job]:
    """Register, hold, preempt, look, give up."""
    held = ReservationType.WRITE_EXCLUSIVE
    register = commands.reservation_register(NSID, RegisterAction.REGISTER)
    acquire = commands.reservation_acquire(NSID, AcquireAction.ACQUIRE, held)
    preempt = commands.reservation_acquire(NSID, AcquireAction.PREEMPT_AND_ABORT, held)
    release = commands.reservation_release(NSID, ReleaseAction.RELEASE, held)
    return [
        (commands.in_capsule(register), RegisterData(new_key=7).encode()),
        (commands.in_capsule(acquire), AcquireData(current_key=7).encode()),
        (commands.in_capsule(preempt), AcquireData(current_key=7, preempt_key=7).encode()),
        (commands.reservation_report(NSID, length=512), b""),
        (commands.in_capsule(release), ReleaseData(current_key=7).encode()),
    ]


def io_jobs(connect: Job) -> list[Job]:
    """Connect of an I/O queue, then reads and writes of every form."""
    block = bytes([0x3C]) * BLOCK_BYTES
    ranges = DatasetRange(start_block=64, block_count=8).encode()
    size = BLOCK_BYTES
    return [
        connect,
        (commands.in_capsule(commands.write(NSID, 0, 1, block_size=size)), block),
        (commands.write(NSID, 1, 2, block_size=size), block * 2),
        (commands.read(NSID, 0, 2, block_size=size), b""),
        (commands.compare(NSID, 1, 1, block_size=size), block),
        (commands.in_capsule(commands.deallocate(NSID, 1)), ranges),
        (commands.write_zeroes(NSID, 32, 8), b""),
        (commands.write(NSID, 9, 1, block_size=size, force_unit_access=True), block),
        (commands.flush(NSID), b""),
        *reservation_jobs(),
        (commands.disconnect(), b""),
    ]
