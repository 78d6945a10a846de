# SPDX-License-Identifier: Apache-2.0
"""Submission and completion queue entries, and the commands a host builds from them.

Entries are tuples, not dataclasses: one of each is made for every I/O.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .constants import (
    ALL_NAMESPACES,
    DYNAMIC_CONTROLLER_ID,
    PSDT_SGL,
    SGL_IN_CAPSULE,
    SGL_TRANSPORT,
    AcquireAction,
    AdminOpcode,
    Cns,
    FabricsType,
    Feature,
    IoOpcode,
    LogPage,
    PersistenceChange,
    Property,
    RegisterAction,
    ReleaseAction,
    ReservationType,
)
from .structures import AcquireData, ConnectData, RegisterData, ReleaseData

_COMMAND = struct.Struct("<BBHIIIQQI3xB6I")
_COMPLETION = struct.Struct("<QHHHH")
CONNECT_DISABLE_SQ_FLOW = 0x04
"""CATTR bit 2 of Connect: the host asks to do without SQ flow control."""


class Command(NamedTuple):
    """Submission queue entry (Base, figure "Common Command Format").

    `data_length` and `sgl_type` are the SGL 1 descriptor; `sgl_address` is an offset into
    the in-capsule data. A fabrics command keeps its type in the low byte of `nsid`.
    """

    opcode: int
    flags: int = PSDT_SGL
    cid: int = 0
    nsid: int = 0
    cdw2: int = 0
    cdw3: int = 0
    metadata: int = 0
    sgl_address: int = 0
    data_length: int = 0
    sgl_type: int = SGL_TRANSPORT
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0

    def encode(self) -> bytes:
        return _COMMAND.pack(*self)

    @classmethod
    def decode(cls, data: bytes) -> Command:
        return cls._make(_COMMAND.unpack(data))

    @property
    def fabrics_type(self) -> int:
        return self.nsid & 0xFF

    @property
    def transfer_bits(self) -> int:
        """Direction of the data: 1 host to controller, 2 controller to host, 0 none."""
        code = self.fabrics_type if self.opcode == AdminOpcode.FABRICS else self.opcode
        return code & 3

    @property
    def sends_data(self) -> bool:
        return self.transfer_bits == 1 and self.data_length > 0

    @property
    def start_block(self) -> int:
        """Starting LBA of Read, Write, Compare and Write Zeroes."""
        return self.cdw11 << 32 | self.cdw10

    @property
    def block_count(self) -> int:
        """Number of logical blocks of the same commands (0's based on the wire)."""
        return (self.cdw12 & 0xFFFF) + 1


class Completion(NamedTuple):
    """Completion queue entry. `status` is SCT and SC as in `Status`; `result` dwords 0-1."""

    cid: int
    status: int = 0
    result: int = 0
    sq_head: int = 0
    do_not_retry: bool = False
    sq_id: int = 0
    more: bool = False

    def encode(self) -> bytes:
        status = self.status << 1 | self.more << 14 | self.do_not_retry << 15
        return _COMPLETION.pack(self.result, self.sq_head, self.sq_id, self.cid, status)

    @classmethod
    def decode(cls, data: bytes) -> Completion:
        result, sq_head, sq_id, cid, status = _COMPLETION.unpack(data)
        return cls(
            cid,
            status >> 1 & 0x7FF,
            result,
            sq_head,
            bool(status & 0x8000),
            sq_id,
            bool(status & 0x4000),
        )


def in_capsule(command: Command, offset: int = 0) -> Command:
    """The same command with its data inside the capsule instead of solicited by R2T."""
    return command._replace(sgl_type=SGL_IN_CAPSULE, sgl_address=offset)


def connect(
    *, queue_id: int, queue_size: int, keep_alive_ms: int = 0, disable_sq_flow: bool = False
) -> Command:
    """Fabrics Connect; its data is a `ConnectData` (Base, "Connect Command and Response").

    `queue_size` counts entries (the wire is 0's based). The completion's result holds the
    controller id in bits 15:0.
    """
    attributes = CONNECT_DISABLE_SQ_FLOW if disable_sq_flow else 0
    return in_capsule(
        Command(
            AdminOpcode.FABRICS,
            nsid=FabricsType.CONNECT,
            data_length=ConnectData.SIZE,
            cdw10=queue_id << 16,
            cdw11=attributes << 16 | (queue_size - 1),
            cdw12=keep_alive_ms,
        )
    )


def connect_data(
    *,
    host_id: bytes,
    host_nqn: str,
    subsystem_nqn: str,
    controller_id: int = DYNAMIC_CONTROLLER_ID,
) -> bytes:
    """Data of Connect. `host_id` is 16 bytes; I/O queues name the admin queue's controller."""
    return ConnectData(
        host_id=host_id,
        controller_id=controller_id,
        subsystem_nqn=subsystem_nqn,
        host_nqn=host_nqn,
    ).encode()


def property_get(offset: Property) -> Command:
    """Fabrics Property Get; the result is the value (8 bytes wide for CAP, 4 for others)."""
    wide = offset is Property.CAP
    return Command(
        AdminOpcode.FABRICS, nsid=FabricsType.PROPERTY_GET, cdw10=int(wide), cdw11=offset
    )


def property_set(offset: Property, value: int) -> Command:
    """Fabrics Property Set of a 4-byte property."""
    return Command(AdminOpcode.FABRICS, nsid=FabricsType.PROPERTY_SET, cdw11=offset, cdw12=value)


def disconnect() -> Command:
    """Fabrics Disconnect of the I/O queue that carries it."""
    return Command(AdminOpcode.FABRICS, nsid=FabricsType.DISCONNECT)


def identify(cns: Cns, *, nsid: int = 0) -> Command:
    """Identify; the controller sends 4096 bytes."""
    return Command(AdminOpcode.IDENTIFY, nsid=nsid, data_length=4096, cdw10=cns)


def get_log_page(
    page: LogPage,
    *,
    length: int,
    offset: int = 0,
    specific: int = 0,
    retain_event: bool = False,
    nsid: int = ALL_NAMESPACES,
) -> Command:
    """Get Log Page of `length` bytes from byte `offset`, both multiples of four.

    `retain_event` leaves the asynchronous event masked, so a log that is read in parts is
    read with it up to the last part. `specific` is LSP (for ANA, bit 0 is RGO).
    """
    dwords = length // 4 - 1
    return Command(
        AdminOpcode.GET_LOG_PAGE,
        nsid=nsid,
        data_length=length,
        cdw10=(dwords & 0xFFFF) << 16 | retain_event << 15 | specific << 8 | page,
        cdw11=dwords >> 16,
        cdw12=offset & 0xFFFFFFFF,
        cdw13=offset >> 32,
    )


def get_features(feature: Feature, *, select: int = 0, length: int = 0, nsid: int = 0) -> Command:
    """Get Features; `select` 0 current, 1 default, 2 saved, 3 supported capabilities."""
    return Command(
        AdminOpcode.GET_FEATURES, nsid=nsid, data_length=length, cdw10=select << 8 | feature
    )


def set_features(feature: Feature, value: int, *, nsid: int = 0) -> Command:
    """Set Features of a feature whose value is dword 11; some are a namespace's own."""
    return Command(AdminOpcode.SET_FEATURES, nsid=nsid, cdw10=feature, cdw11=value)


def async_event_request() -> Command:
    """Asynchronous Event Request; it completes when there is an event, see `AsyncEvent`."""
    return Command(AdminOpcode.ASYNC_EVENT_REQUEST)


def keep_alive() -> Command:
    return Command(AdminOpcode.KEEP_ALIVE)


def abort(*, queue_id: int, cid: int) -> Command:
    return Command(AdminOpcode.ABORT, cdw10=cid << 16 | queue_id)


def _blocks(
    opcode: IoOpcode, nsid: int, start: int, count: int, *, length: int = 0, high12: int = 0
) -> Command:
    return Command(
        opcode,
        nsid=nsid,
        data_length=length,
        cdw10=start & 0xFFFFFFFF,
        cdw11=start >> 32,
        cdw12=high12 << 16 | (count - 1),
    )


FORCE_UNIT_ACCESS = 1 << 14
DEALLOCATE = 1 << 9
"""Bits of dword 12's upper half: FUA (30) and DEAC of Write Zeroes (25)."""


def read(nsid: int, start: int, count: int, *, block_size: int) -> Command:
    """Read `count` blocks from LBA `start`."""
    return _blocks(IoOpcode.READ, nsid, start, count, length=count * block_size)


def write(
    nsid: int, start: int, count: int, *, block_size: int, force_unit_access: bool = False
) -> Command:
    """Write `count` blocks from LBA `start`; the data goes with the command."""
    high = FORCE_UNIT_ACCESS if force_unit_access else 0
    return _blocks(IoOpcode.WRITE, nsid, start, count, length=count * block_size, high12=high)


def compare(nsid: int, start: int, count: int, *, block_size: int) -> Command:
    return _blocks(IoOpcode.COMPARE, nsid, start, count, length=count * block_size)


def write_zeroes(nsid: int, start: int, count: int, *, deallocate: bool = False) -> Command:
    high = DEALLOCATE if deallocate else 0
    return _blocks(IoOpcode.WRITE_ZEROES, nsid, start, count, high12=high)


def flush(nsid: int) -> Command:
    return Command(IoOpcode.FLUSH, nsid=nsid)


def deallocate(nsid: int, range_count: int) -> Command:
    """Dataset Management, attribute Deallocate; its data is that many `DatasetRange`."""
    return Command(
        IoOpcode.DATASET_MANAGEMENT,
        nsid=nsid,
        data_length=range_count * 16,
        cdw10=range_count - 1,
        cdw11=1 << 2,
    )


IGNORE_EXISTING_KEY = 1 << 3
"""IEKEY, in dword 10 of Reservation Register, Acquire and Release."""


def reservation_register(
    nsid: int,
    action: RegisterAction,
    *,
    ignore_existing_key: bool = False,
    persistence: PersistenceChange = PersistenceChange.NONE,
) -> Command:
    """Reservation Register; its data is a `RegisterData`."""
    return Command(
        IoOpcode.RESERVATION_REGISTER,
        nsid=nsid,
        data_length=RegisterData.SIZE,
        cdw10=persistence << 30 | (IGNORE_EXISTING_KEY if ignore_existing_key else 0) | action,
    )


def reservation_acquire(
    nsid: int, action: AcquireAction, reservation_type: ReservationType
) -> Command:
    """Reservation Acquire; its data is an `AcquireData`."""
    return Command(
        IoOpcode.RESERVATION_ACQUIRE,
        nsid=nsid,
        data_length=AcquireData.SIZE,
        cdw10=reservation_type << 8 | action,
    )


def reservation_release(
    nsid: int, action: ReleaseAction, reservation_type: ReservationType | None = None
) -> Command:
    """Reservation Release; its data is a `ReleaseData`. Clear needs no type."""
    return Command(
        IoOpcode.RESERVATION_RELEASE,
        nsid=nsid,
        data_length=ReleaseData.SIZE,
        cdw10=(reservation_type or 0) << 8 | action,
    )


def reservation_report(nsid: int, *, length: int, extended: bool = True) -> Command:
    """Reservation Report of `length` bytes, a multiple of four; see `ReservationReport`.

    Over fabrics it is always the extended data structure, since host identifiers have 128 bits.
    """
    return Command(
        IoOpcode.RESERVATION_REPORT,
        nsid=nsid,
        data_length=length,
        cdw10=length // 4 - 1,
        cdw11=int(extended),
    )
