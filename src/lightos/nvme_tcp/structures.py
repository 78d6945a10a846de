# SPDX-License-Identifier: Apache-2.0
"""Data structures that commands transfer: Connect data, Identify, log pages.

Every structure is a frozen dataclass whose fields state their byte offset and format, so
the class body is the specification's figure and encode and decode follow from it. Fields
that are not listed are zero on the wire; some that a lab controller never sets are listed on
purpose, because their 0 says something (a 0's based count, "none", "not reported").
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from uuid import UUID

from .constants import (
    DYNAMIC_CONTROLLER_ID,
    AddressFamily,
    NamespaceIdType,
    SubsystemType,
    TransportType,
)
from .errors import MalformedStructure


def at(offset: int, form: str, default: Any = 0, *, pad: bytes = b"\0") -> Any:
    """A field at a byte offset. `form` is a struct code, or `text:N` for N bytes of text."""
    return dataclasses.field(default=default, metadata={"offset": offset, "form": form, "pad": pad})


class Structure:
    """Base: turns the offsets of a dataclass's fields into encode and decode."""

    SIZE: ClassVar[int]

    def encode(self) -> bytes:
        data = bytearray(self.SIZE)
        for name, offset, form, pad in _layout(type(self)):
            value = getattr(self, name)
            if form.startswith("text:"):
                width = int(form[5:])
                raw = value.encode()
                if len(raw) > width:
                    raise ValueError(f"{type(self).__name__}.{name} is over {width} bytes")
                data[offset : offset + width] = raw.ljust(width, pad)
            else:
                struct.pack_into("<" + form, data, offset, value)
        return bytes(data)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        if len(data) < cls.SIZE:
            raise MalformedStructure(f"{cls.__name__} takes {cls.SIZE} bytes, {len(data)} arrived")
        values: dict[str, Any] = {}
        for name, offset, form, pad in _layout(cls):
            if form.startswith("text:"):
                raw = data[offset : offset + int(form[5:])]
                values[name] = _text(raw, pad, f"{cls.__name__}.{name}")
            else:
                (values[name],) = struct.unpack_from("<" + form, data, offset)
        return cls(**values)


def _layout(cls: type[Structure]) -> list[tuple[str, int, str, bytes]]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    return [
        (f.name, f.metadata["offset"], f.metadata["form"], f.metadata["pad"])
        for f in dataclasses.fields(cls)
    ]


def _text(raw: bytes, pad: bytes, what: str) -> str:
    end = raw.split(b"\0", 1)[0] if pad == b"\0" else raw.rstrip(pad + b"\0")
    try:
        return end.decode()
    except UnicodeDecodeError:
        raise MalformedStructure(f"{what} is not UTF-8: {end!r}") from None


@dataclass(frozen=True)
class ConnectData(Structure):
    """Data of Connect (Base, figure "Connect Command - Data")."""

    SIZE: ClassVar[int] = 1024
    host_id: bytes = at(0, "16s", bytes(16))
    controller_id: int = at(16, "H")
    subsystem_nqn: str = at(256, "text:256", "")
    host_nqn: str = at(512, "text:256", "")


@dataclass(frozen=True)
class IdentifyController(Structure):
    """Identify Controller, CNS 01h (Base, figure "Identify Controller Data Structure")."""

    SIZE: ClassVar[int] = 4096
    vendor_id: int = at(0, "H")
    subsystem_vendor_id: int = at(2, "H")
    serial_number: str = at(4, "text:20", "", pad=b" ")
    model_number: str = at(24, "text:40", "", pad=b" ")
    firmware_revision: str = at(64, "text:8", "", pad=b" ")
    arbitration_burst: int = at(72, "B")
    multi_path: int = at(76, "B")
    """CMIC: bit 0 several ports, bit 1 several controllers, bit 3 ANA reporting."""
    max_transfer_shift: int = at(77, "B")
    """MDTS: the largest transfer is 2 ** MDTS pages of 4096 bytes."""
    controller_id: int = at(78, "H")
    version: int = at(80, "I")
    async_events: int = at(92, "I")
    """OAES, in the bits of `AEC_BIT`."""
    controller_attributes: int = at(96, "I")
    """CTRATT: bit 6 traffic based keep alive."""
    controller_type: int = at(111, "B")
    admin_capabilities: int = at(256, "H")
    abort_limit: int = at(258, "B")
    async_event_limit: int = at(259, "B")
    firmware_updates: int = at(260, "B")
    log_page_attributes: int = at(261, "B")
    error_log_entries: int = at(262, "B")
    warning_temperature: int = at(266, "H")
    critical_temperature: int = at(268, "H")
    keep_alive_granularity: int = at(320, "H")
    """KAS, in units of 100 ms."""
    ana_transition_seconds: int = at(342, "B")
    ana_capabilities: int = at(343, "B")
    """ANACAP: bits 0 to 4 are the states reported, bit 6 a group id that never changes."""
    max_ana_group_id: int = at(344, "I")
    ana_group_count: int = at(348, "I")
    submission_entry_size: int = at(512, "B")
    completion_entry_size: int = at(513, "B")
    max_commands: int = at(514, "H")
    namespace_count: int = at(516, "I")
    command_support: int = at(520, "H")
    """ONCS: bit 0 Compare, 2 Dataset Management, 3 Write Zeroes, 4 Save and Select,
    5 reservations."""
    volatile_write_cache: int = at(525, "B")
    atomic_write_normal: int = at(526, "H")
    atomic_write_power_fail: int = at(528, "H")
    sgl_support: int = at(536, "I")
    max_allowed_namespaces: int = at(540, "I")
    subsystem_nqn: str = at(768, "text:256", "")
    command_capsule_units: int = at(1792, "I")
    """IOCCSZ, in units of 16 bytes: the command and its in-capsule data."""
    response_capsule_units: int = at(1796, "I")
    in_capsule_offset: int = at(1800, "H")
    fabrics_attributes: int = at(1802, "B")
    max_sgl_descriptors: int = at(1803, "B")
    optional_fabrics_commands: int = at(1804, "H")
    """OFCS: bit 0 Disconnect."""


@dataclass(frozen=True)
class IdentifyNamespace(Structure):
    """Identify Namespace, CNS 00h (NVM, figure "Identify Namespace Data Structure")."""

    SIZE: ClassVar[int] = 4096
    size_blocks: int = at(0, "Q")
    capacity_blocks: int = at(8, "Q")
    used_blocks: int = at(16, "Q")
    features: int = at(24, "B")
    """NSFEAT: bit 0 thin provisioning, bit 4 the preferred sizes below are valid."""
    format_count: int = at(25, "B")
    """NLBAF, 0's based."""
    format_index: int = at(26, "B")
    sharing: int = at(30, "B")
    """NMIC: bit 0 the namespace may be attached to several controllers."""
    reservation_capabilities: int = at(31, "B")
    """RESCAP: bit 0 persist through power loss, 1 to 6 the types of `ReservationType`, 7 Ignore
    Existing Key as since NVM Express 1.3."""
    deallocation: int = at(33, "B")
    """DLFEAT: bits 2:0 what deallocated blocks read as, bit 3 DEAC of Write Zeroes."""
    preferred_write_granularity: int = at(64, "H")
    preferred_write_alignment: int = at(66, "H")
    preferred_deallocate_granularity: int = at(68, "H")
    preferred_deallocate_alignment: int = at(70, "H")
    ana_group_id: int = at(92, "I")
    nguid: bytes = at(104, "16s", bytes(16))
    format_metadata_bytes: int = at(128, "H")
    format_data_shift: int = at(130, "B")
    """LBADS: the block size is 2 ** LBADS bytes."""
    format_performance: int = at(131, "B")


@dataclass(frozen=True)
class IndependentNamespace(Structure):
    """Identify Namespace, I/O command set independent, CNS 08h."""

    SIZE: ClassVar[int] = 4096
    features: int = at(0, "B")
    sharing: int = at(1, "B")
    reservation_capabilities: int = at(2, "B")
    ana_group_id: int = at(4, "I")
    status: int = at(14, "B")
    """NSTAT: bit 0 ready."""


@dataclass(frozen=True)
class NvmController(Structure):
    """Identify Controller of the NVM command set, CNS 06h; 0 is no limit."""

    SIZE: ClassVar[int] = 4096
    max_range_blocks: int = at(4, "I")
    """DMRSL: logical blocks in one range of Dataset Management."""


@dataclass(frozen=True)
class SmartLog(Structure):
    """SMART / Health Information, log page 02h."""

    SIZE: ClassVar[int] = 512
    DATA_UNIT_BYTES: ClassVar[int] = 1000 * 512
    """What `data_units_*` count, rounded up."""

    critical_warning: int = at(0, "B")
    temperature_kelvin: int = at(1, "H")
    available_spare_percent: int = at(3, "B")
    spare_threshold_percent: int = at(4, "B")
    data_units_read: int = at(32, "Q")
    data_units_written: int = at(48, "Q")
    host_reads: int = at(64, "Q")
    host_writes: int = at(80, "Q")


@dataclass(frozen=True)
class DatasetRange(Structure):
    """One range of Dataset Management."""

    SIZE: ClassVar[int] = 16
    attributes: int = at(0, "I")
    block_count: int = at(4, "I")
    start_block: int = at(8, "Q")


@dataclass(frozen=True)
class RegisterData(Structure):
    """Data of Reservation Register: CRKEY and NRKEY."""

    SIZE: ClassVar[int] = 16
    current_key: int = at(0, "Q")
    new_key: int = at(8, "Q")


@dataclass(frozen=True)
class AcquireData(Structure):
    """Data of Reservation Acquire: CRKEY and PRKEY."""

    SIZE: ClassVar[int] = 16
    current_key: int = at(0, "Q")
    preempt_key: int = at(8, "Q")


@dataclass(frozen=True)
class ReleaseData(Structure):
    """Data of Reservation Release: CRKEY."""

    SIZE: ClassVar[int] = 8
    current_key: int = at(0, "Q")


@dataclass(frozen=True)
class RegistrantStatus(Structure):
    """One registrant (Base, figure "Registered Controller Extended Data Structure")."""

    SIZE: ClassVar[int] = 64
    controller_id: int = at(0, "H", DYNAMIC_CONTROLLER_ID)
    """Names no controller where controllers are dynamic."""
    status: int = at(2, "B")
    """RCSTS: bit 0 the host holds the reservation."""
    key: int = at(8, "Q")
    host_id: bytes = at(16, "16s", bytes(16))


_RESERVATION_HEADER = struct.Struct("<IBHxxB54x")


@dataclass(frozen=True)
class ReservationReport:
    """What Reservation Report gives (Base, figure "Reservation Status Extended Data Structure").

    `reservation_type` is 0 while no host holds a reservation.
    """

    HEADER_BYTES: ClassVar[int] = _RESERVATION_HEADER.size
    generation: int
    reservation_type: int
    persists: bool
    registrants: tuple[RegistrantStatus, ...]

    def encode(self) -> bytes:
        header = _RESERVATION_HEADER.pack(
            self.generation, self.reservation_type, len(self.registrants), self.persists
        )
        return header + b"".join(registrant.encode() for registrant in self.registrants)

    @staticmethod
    def decode_count(data: bytes) -> int:
        """How many registrants there are, from the header alone."""
        if len(data) < _RESERVATION_HEADER.size:
            raise MalformedStructure(f"reservation report of {len(data)} bytes")
        return int(_RESERVATION_HEADER.unpack_from(data)[2])

    @classmethod
    def decode(cls, data: bytes) -> ReservationReport:
        count = cls.decode_count(data)
        generation, reservation_type, _, persists = _RESERVATION_HEADER.unpack_from(data)
        first, size = _RESERVATION_HEADER.size, RegistrantStatus.SIZE
        if len(data) < first + count * size:
            raise MalformedStructure(
                f"reservation report announces {count} registrants in {len(data)} bytes"
            )
        registrants = tuple(
            RegistrantStatus.decode(data[at : at + size])
            for at in range(first, first + count * size, size)
        )
        return cls(generation, reservation_type, bool(persists & 1), registrants)


@dataclass(frozen=True)
class ReservationNotification(Structure):
    """Reservation Notification log page, 80h; all zeroes when there is none."""

    SIZE: ClassVar[int] = 64
    count: int = at(0, "Q")
    """Of this page among all that the controller ever had; a gap tells of lost ones."""
    notice_type: int = at(8, "B")
    """A `ReservationNoticeType`."""
    available: int = at(9, "B")
    """How many more there are to be read; 255 stands for more, too."""
    nsid: int = at(12, "I")


@dataclass(frozen=True)
class DiscoveryEntry(Structure):
    """Discovery Log Page Entry (Base, figure "Discovery Log Page Entry")."""

    SIZE: ClassVar[int] = 1024
    DUPLICATE_INFORMATION: ClassVar[int] = 1 << 0
    """EFLAGS: the discovery subsystem named here returns what this one returns."""
    EXPLICIT_PERSISTENT: ClassVar[int] = 1 << 1
    """EFLAGS: it keeps a connection with a non-zero keep alive timeout."""

    transport_type: int = at(0, "B", int(TransportType.TCP))
    address_family: int = at(1, "B", int(AddressFamily.IPV4))
    subsystem_type: int = at(2, "B", int(SubsystemType.NVM))
    requirements: int = at(3, "B")
    """TREQ: bits 1:0 secure channel, bit 2 SQ flow control may be disabled."""
    port_id: int = at(4, "H")
    controller_id: int = at(6, "H")
    admin_queue_size: int = at(8, "H")
    flags: int = at(10, "H")
    service_id: str = at(32, "text:32", "", pad=b" ")
    subsystem_nqn: str = at(256, "text:256", "")
    address: str = at(512, "text:256", "", pad=b" ")
    security_type: int = at(768, "B")
    """TSAS of TCP: 0 no security."""


@dataclass(frozen=True)
class DiscoveryLog:
    """Discovery log page, 70h. `generation` tells whether parts read apart fit together."""

    generation: int
    entries: tuple[DiscoveryEntry, ...]
    HEADER_BYTES: ClassVar[int] = 1024

    @staticmethod
    def decode_header(data: bytes) -> tuple[int, int]:
        """Generation counter and number of records, from at least 16 bytes."""
        if len(data) < 16:
            raise MalformedStructure(f"discovery log header of {len(data)} bytes")
        generation, count = struct.unpack_from("<QQ", data)
        return generation, count

    def encode(self) -> bytes:
        header = struct.pack("<QQH", self.generation, len(self.entries), 0)
        return header.ljust(self.HEADER_BYTES, b"\0") + b"".join(
            entry.encode() for entry in self.entries
        )

    @classmethod
    def split(cls, data: bytes) -> list[bytes]:
        """The encoded entries, for who can do without one that is malformed."""
        _, count = cls.decode_header(data)
        size = DiscoveryEntry.SIZE
        if len(data) < cls.HEADER_BYTES + count * size:
            raise MalformedStructure(
                f"discovery log announces {count} records in {len(data)} bytes"
            )
        return [
            data[at : at + size]
            for at in range(cls.HEADER_BYTES, cls.HEADER_BYTES + count * size, size)
        ]

    @classmethod
    def decode(cls, data: bytes) -> DiscoveryLog:
        generation, _ = cls.decode_header(data)
        return cls(generation, tuple(DiscoveryEntry.decode(entry) for entry in cls.split(data)))


@dataclass(frozen=True)
class AnaGroupDescriptor:
    """One group of the ANA log; `state` as in figure "ANA Group Descriptor"."""

    group_id: int
    state: int
    nsids: tuple[int, ...] = ()
    change_count: int = 0


_ANA_HEADER = struct.Struct("<QH6x")
_ANA_GROUP = struct.Struct("<IIQB15x")


@dataclass(frozen=True)
class AnaLog:
    """Asymmetric Namespace Access log page, 0Ch."""

    change_count: int
    groups: tuple[AnaGroupDescriptor, ...]

    @staticmethod
    def max_bytes(group_count: int, namespace_count: int) -> int:
        """Longest log of a controller with that NANAGRPID and MNAN."""
        return _ANA_HEADER.size + group_count * _ANA_GROUP.size + 4 * namespace_count

    def encode(self) -> bytes:
        parts = [_ANA_HEADER.pack(self.change_count, len(self.groups))]
        for group in self.groups:
            parts.append(
                _ANA_GROUP.pack(group.group_id, len(group.nsids), group.change_count, group.state)
            )
            parts.append(struct.pack(f"<{len(group.nsids)}I", *group.nsids))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> AnaLog:
        if len(data) < _ANA_HEADER.size:
            raise MalformedStructure(f"ANA log of {len(data)} bytes")
        change_count, group_count = _ANA_HEADER.unpack_from(data)
        groups = []
        at = _ANA_HEADER.size
        for number in range(group_count):
            if at + _ANA_GROUP.size > len(data):
                raise MalformedStructure(f"ANA log ends before group {number}")
            group_id, nsid_count, changes, state = _ANA_GROUP.unpack_from(data, at)
            at += _ANA_GROUP.size
            if at + 4 * nsid_count > len(data):
                raise MalformedStructure(f"ANA group {group_id} ends after the log page")
            nsids = struct.unpack_from(f"<{nsid_count}I", data, at)
            at += 4 * nsid_count
            groups.append(AnaGroupDescriptor(group_id, state & 0x0F, nsids, changes))
        return cls(change_count, tuple(groups))


def encode_namespace_list(nsids: Iterable[int]) -> bytes:
    """Up to 1024 ascending namespace ids (Identify CNS 02h, changed namespaces log)."""
    listed = list(nsids)[:1024]
    return struct.pack(f"<{len(listed)}I", *listed).ljust(4096, b"\0")


def decode_namespace_list(data: bytes) -> tuple[int, ...]:
    """Namespace ids up to the first zero."""
    nsids = struct.unpack_from(f"<{len(data) // 4}I", data)
    return nsids[: nsids.index(0)] if 0 in nsids else nsids


def encode_controller_list(controller_ids: Sequence[int]) -> bytes:
    """Number of identifiers, then up to 2047 ascending controller ids."""
    listed = controller_ids[:2047]
    return struct.pack(f"<{len(listed) + 1}H", len(listed), *listed).ljust(4096, b"\0")


def encode_namespace_descriptors(uuid: UUID) -> bytes:
    """Identify CNS 03h: the volume's UUID as UUID and NGUID, and the NVM command set."""
    descriptors = (
        (NamespaceIdType.UUID, uuid.bytes),
        (NamespaceIdType.NGUID, uuid.bytes),
        (NamespaceIdType.COMMAND_SET, b"\0"),
    )
    return b"".join(
        struct.pack("<BBH", kind, len(value), 0) + value for kind, value in descriptors
    ).ljust(4096, b"\0")


def decode_namespace_descriptors(data: bytes) -> dict[int, bytes]:
    """Identifiers by NIDT, up to the first descriptor of length zero."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data) and data[at + 1]:
        kind, length = data[at], data[at + 1]
        if at + 4 + length > len(data):
            raise MalformedStructure(f"namespace descriptor {kind} ends after the list")
        found[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found
