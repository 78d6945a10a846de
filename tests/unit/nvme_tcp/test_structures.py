# SPDX-License-Identifier: Apache-2.0
"""Commands and data structures against bytes written out from the specification's figures."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.nvme_tcp import MalformedStructure, commands
from lightos.nvme_tcp.commands import Command, Completion
from lightos.nvme_tcp.constants import (
    AcquireAction,
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
    AnaGroupDescriptor,
    AnaLog,
    ConnectData,
    DatasetRange,
    DiscoveryEntry,
    DiscoveryLog,
    IdentifyController,
    IdentifyNamespace,
    IndependentNamespace,
    RegisterData,
    RegistrantStatus,
    ReleaseData,
    ReservationNotification,
    ReservationReport,
    SmartLog,
    Structure,
    decode_namespace_descriptors,
    decode_namespace_list,
    encode_controller_list,
    encode_namespace_descriptors,
    encode_namespace_list,
)

WORDS = st.integers(0, 0xFFFF)
DWORDS = st.integers(0, 0xFFFFFFFF)
QWORDS = st.integers(0, 2**64 - 1)
BYTES = st.integers(0, 255)
COMMANDS = st.builds(
    Command,
    *(BYTES, BYTES, WORDS, DWORDS, DWORDS, DWORDS, QWORDS, QWORDS, DWORDS, BYTES),
    *([DWORDS] * 6),
)


def sgl(address: int, length: int, kind: int) -> bytes:
    return struct.pack("<QI3xB", address, length, kind)


# Each built by the offsets of the figure, not by our encoder.
COMMAND_BYTES: dict[str, tuple[Command, bytes]] = {
    "connect": (
        commands.connect(queue_id=3, queue_size=128, keep_alive_ms=5000, disable_sq_flow=True),
        bytes.fromhex("7f 40 0000 01")
        + bytes(19)
        + sgl(0, 1024, 0x01)
        + struct.pack("<HHHBxI12x", 0, 3, 127, 4, 5000),
    ),
    "property get CAP": (
        commands.property_get(Property.CAP),
        bytes.fromhex("7f 40 0000 04")
        + bytes(19)
        + sgl(0, 0, 0x5A)
        + struct.pack("<B3xI16x", 1, 0),
    ),
    "property set CC": (
        commands.property_set(Property.CC, 0x460001),
        bytes.fromhex("7f 40 0000 00")
        + bytes(19)
        + sgl(0, 0, 0x5A)
        + struct.pack("<B3xIQ8x", 0, 0x14, 0x460001),
    ),
    "identify": (
        commands.identify(Cns.NAMESPACE_DESCRIPTORS, nsid=9),
        struct.pack("<BBHI16x", 0x06, 0x40, 0, 9) + sgl(0, 4096, 0x5A) + struct.pack("<I20x", 3),
    ),
    "get log page": (
        commands.get_log_page(LogPage.DISCOVERY, length=1 << 20, offset=5 << 32 | 8, specific=1),
        struct.pack("<BBHI16x", 0x02, 0x40, 0, 0xFFFFFFFF)
        + sgl(0, 1 << 20, 0x5A)
        + struct.pack("<BBHHHII8x", 0x70, 1, 0xFFFF, 3, 0, 8, 5),
    ),
    "write": (
        commands.write(5, 0x1_2345_6789, 16, block_size=4096, force_unit_access=True),
        struct.pack("<BBHI16x", 0x01, 0x40, 0, 5)
        + sgl(0, 65536, 0x5A)
        + struct.pack("<QI12x", 0x1_2345_6789, 1 << 30 | 15),
    ),
    "deallocate": (
        commands.deallocate(5, 3),
        struct.pack("<BBHI16x", 0x09, 0x40, 0, 5) + sgl(0, 48, 0x5A) + struct.pack("<II16x", 2, 4),
    ),
    "write zeroes": (
        commands.write_zeroes(5, 8, 65536, deallocate=True),
        struct.pack("<BBHI16x", 0x08, 0x40, 0, 5)
        + sgl(0, 0, 0x5A)
        + struct.pack("<QI12x", 8, 1 << 25 | 0xFFFF),
    ),
    "reservation register": (
        commands.reservation_register(
            5,
            RegisterAction.REPLACE,
            ignore_existing_key=True,
            persistence=PersistenceChange.SET,
        ),
        struct.pack("<BBHI16x", 0x0D, 0x40, 0, 5)
        + sgl(0, 16, 0x5A)
        + struct.pack("<I20x", 3 << 30 | 1 << 3 | 2),
    ),
    "reservation acquire": (
        commands.reservation_acquire(
            5, AcquireAction.PREEMPT_AND_ABORT, ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS
        ),
        struct.pack("<BBHI16x", 0x11, 0x40, 0, 5) + sgl(0, 16, 0x5A) + struct.pack("<BB22x", 2, 6),
    ),
    "reservation release": (
        commands.reservation_release(5, ReleaseAction.RELEASE, ReservationType.EXCLUSIVE_ACCESS),
        struct.pack("<BBHI16x", 0x15, 0x40, 0, 5) + sgl(0, 8, 0x5A) + struct.pack("<BB22x", 0, 2),
    ),
    "reservation clear": (
        commands.reservation_release(5, ReleaseAction.CLEAR),
        struct.pack("<BBHI16x", 0x15, 0x40, 0, 5) + sgl(0, 8, 0x5A) + struct.pack("<BB22x", 1, 0),
    ),
    "reservation report": (
        commands.reservation_report(5, length=128),
        struct.pack("<BBHI16x", 0x0E, 0x40, 0, 5)
        + sgl(0, 128, 0x5A)
        + struct.pack("<II16x", 31, 1),
    ),
    "set feature of a namespace": (
        commands.set_features(Feature.RESERVATION_PERSISTENCE, 1, nsid=5),
        struct.pack("<BBHI16x", 0x09, 0x40, 0, 5)
        + sgl(0, 0, 0x5A)
        + struct.pack("<II16x", 0x83, 1),
    ),
}


@pytest.mark.parametrize(("command", "raw"), COMMAND_BYTES.values(), ids=COMMAND_BYTES)
def test_command_bytes(command: Command, raw: bytes) -> None:
    assert len(raw) == 64
    assert command.encode() == raw
    assert Command.decode(raw) == command


@given(COMMANDS)
def test_commands_survive_the_wire(command: Command) -> None:
    assert Command.decode(command.encode()) == command


def test_completion_bytes() -> None:
    completion = Completion(0x1234, 0x182, 1 << 16 | 256, 5, True, 7, True)
    raw = struct.pack("<IIHHHH", 1 << 16 | 256, 0, 5, 7, 0x1234, (1 << 14 | 1 << 13 | 0x182) << 1)
    assert completion.encode() == raw
    assert Completion.decode(raw) == completion


@given(
    st.builds(
        Completion,
        *(WORDS, st.integers(0, 0x7FF), QWORDS, WORDS, st.booleans(), WORDS, st.booleans()),
    )
)
def test_completions_survive_the_wire(completion: Completion) -> None:
    assert Completion.decode(completion.encode()) == completion


# Fields with the byte offset that the figure gives, by the value that is put there.
OFFSETS: list[tuple[Structure, int, bytes]] = [
    (ConnectData(host_id=b"H" * 16), 0, b"H" * 16),
    (ConnectData(controller_id=0xFFFF), 16, b"\xff\xff"),
    (ConnectData(subsystem_nqn="nqn.s"), 256, b"nqn.s\0"),
    (ConnectData(host_nqn="nqn.h"), 512, b"nqn.h\0"),
    (IdentifyController(serial_number="ab"), 4, b"ab" + b" " * 18),
    (IdentifyController(model_number="m"), 24, b"m" + b" " * 39),
    (IdentifyController(multi_path=11), 76, b"\x0b"),
    (IdentifyController(max_transfer_shift=8), 77, b"\x08"),
    (IdentifyController(controller_id=0x1234), 78, b"\x34\x12"),
    (IdentifyController(version=0x10400), 80, b"\x00\x04\x01\x00"),
    (IdentifyController(async_events=0x900), 92, b"\x00\x09\x00\x00"),
    (IdentifyController(controller_type=2), 111, b"\x02"),
    (IdentifyController(async_event_limit=3), 259, b"\x03"),
    (IdentifyController(log_page_attributes=6), 261, b"\x06"),
    (IdentifyController(keep_alive_granularity=10), 320, b"\x0a\x00"),
    (IdentifyController(ana_capabilities=31), 343, b"\x1f"),
    (IdentifyController(max_ana_group_id=9), 344, b"\x09\x00\x00\x00"),
    (IdentifyController(ana_group_count=9), 348, b"\x09\x00\x00\x00"),
    (IdentifyController(submission_entry_size=0x66), 512, b"\x66"),
    (IdentifyController(namespace_count=1024), 516, b"\x00\x04\x00\x00"),
    (IdentifyController(command_support=0x1D), 520, b"\x1d\x00"),
    (IdentifyController(volatile_write_cache=7), 525, b"\x07"),
    (IdentifyController(sgl_support=1), 536, b"\x01\x00\x00\x00"),
    (IdentifyController(max_allowed_namespaces=5), 540, b"\x05\x00\x00\x00"),
    (IdentifyController(subsystem_nqn="nqn.s"), 768, b"nqn.s\0"),
    (IdentifyController(command_capsule_units=516), 1792, b"\x04\x02\x00\x00"),
    (IdentifyController(optional_fabrics_commands=1), 1804, b"\x01\x00"),
    (IdentifyNamespace(size_blocks=2**40), 0, struct.pack("<Q", 2**40)),
    (IdentifyNamespace(used_blocks=3), 16, b"\x03"),
    (IdentifyNamespace(sharing=1), 30, b"\x01"),
    (IdentifyNamespace(reservation_capabilities=0xFF), 31, b"\xff"),
    (IdentifyNamespace(deallocation=9), 33, b"\x09"),
    (IdentifyNamespace(ana_group_id=7), 92, b"\x07\x00\x00\x00"),
    (IdentifyNamespace(nguid=b"G" * 16), 104, b"G" * 16),
    (IdentifyNamespace(format_data_shift=12), 130, b"\x0c"),
    (IndependentNamespace(reservation_capabilities=0xFF), 2, b"\xff"),
    (IndependentNamespace(ana_group_id=7), 4, b"\x07\x00\x00\x00"),
    (IndependentNamespace(status=1), 14, b"\x01"),
    (SmartLog(temperature_kelvin=300), 1, b"\x2c\x01"),
    (DatasetRange(block_count=8, start_block=2**33), 4, b"\x08\0\0\0\0\0\0\0\x02\0\0\0"),
    (RegisterData(1, 2), 0, struct.pack("<QQ", 1, 2)),
    (AcquireData(1, 2), 0, struct.pack("<QQ", 1, 2)),
    (ReleaseData(2**64 - 1), 0, b"\xff" * 8),
    (RegistrantStatus(status=1, key=2**63), 0, struct.pack("<HB5xQ", 0xFFFF, 1, 2**63)),
    (RegistrantStatus(host_id=b"H" * 16), 16, b"H" * 16),
    (ReservationNotification(2**33, 3, 255, 9), 0, struct.pack("<QBBxxI", 2**33, 3, 255, 9)),
    (DiscoveryEntry(flags=3), 10, b"\x03\x00"),
    (DiscoveryEntry(service_id="8009"), 32, b"8009" + b" " * 28),
    (DiscoveryEntry(subsystem_nqn="nqn.s"), 256, b"nqn.s\0"),
    (DiscoveryEntry(address="192.168.75.11"), 512, b"192.168.75.11" + b" " * 243),
]


@pytest.mark.parametrize(
    ("structure", "offset", "raw"), OFFSETS, ids=lambda v: type(v).__name__ if v else ""
)
def test_fields_are_where_the_specification_has_them(
    structure: Structure, offset: int, raw: bytes
) -> None:
    encoded = structure.encode()
    assert len(encoded) == structure.SIZE
    assert encoded[offset : offset + len(raw)] == raw
    assert type(structure).decode(encoded) == structure


def test_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"IdentifyController\.serial_number"):
        IdentifyController(serial_number="x" * 21).encode()


def test_structures_cut_short_or_not_text() -> None:
    with pytest.raises(MalformedStructure, match="1024 bytes, 1023 arrived"):
        ConnectData.decode(bytes(1023))
    with pytest.raises(MalformedStructure, match="host_nqn is not UTF-8"):
        ConnectData.decode(bytes(512) + b"\xff" * 512)


ENTRIES = tuple(
    DiscoveryEntry(port_id=n, address=f"192.168.75.{n}", service_id="4420", subsystem_nqn="nqn.x")
    for n in range(3)
)


def test_discovery_log() -> None:
    log = DiscoveryLog(77, ENTRIES)
    raw = log.encode()
    assert raw[:18] == struct.pack("<QQH", 77, 3, 0)
    assert len(raw) == 4 * 1024
    assert DiscoveryLog.decode(raw) == DiscoveryLog.decode(raw + bytes(1024)) == log
    assert DiscoveryLog.decode_header(raw[:16]) == (77, 3)
    with pytest.raises(MalformedStructure, match="3 records in 4095 bytes"):
        DiscoveryLog.decode(raw[:-1])
    with pytest.raises(MalformedStructure, match="header of 15 bytes"):
        DiscoveryLog.decode_header(raw[:15])
    with pytest.raises(MalformedStructure, match="18446744073709551615 records"):
        DiscoveryLog.decode(struct.pack("<QQ", 1, 2**64 - 1) + bytes(4096))


@given(
    QWORDS,
    st.lists(
        st.builds(
            AnaGroupDescriptor,
            DWORDS,
            st.integers(0, 15),
            st.lists(DWORDS, max_size=5).map(tuple),
            QWORDS,
        ),
        max_size=6,
    ),
    st.data(),
)
def test_ana_log(changes: int, groups: list[AnaGroupDescriptor], data: st.DataObject) -> None:
    log = AnaLog(changes, tuple(groups))
    raw = log.encode()
    assert AnaLog.decode(raw + bytes(64)) == log
    assert len(raw) == AnaLog.max_bytes(len(groups), sum(len(g.nsids) for g in groups))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(MalformedStructure):
        AnaLog.decode(raw[:cut])


def test_ana_log_bytes() -> None:
    raw = AnaLog(2, (AnaGroupDescriptor(4, 3, (7, 9), 5),)).encode()
    assert raw == struct.pack("<QHHI", 2, 1, 0, 0) + struct.pack("<IIQB15xII", 4, 2, 5, 3, 7, 9)


def test_lists() -> None:
    assert decode_namespace_list(encode_namespace_list([3, 5, 9])) == (3, 5, 9)
    full = encode_namespace_list(range(1, 3000))
    assert len(full) == 4096
    assert decode_namespace_list(full) == tuple(range(1, 1025))
    assert encode_controller_list([1, 0x1001])[:8] == struct.pack("<HHHH", 2, 1, 0x1001, 0)


def test_namespace_descriptors() -> None:
    uuid = UUID("12345678-1234-4234-8234-123456789abc")
    raw = encode_namespace_descriptors(uuid)
    assert raw.startswith(b"\x03\x10\0\0" + uuid.bytes + b"\x02\x10\0\0" + uuid.bytes + b"\4\1\0\0")
    assert decode_namespace_descriptors(raw) == {3: uuid.bytes, 2: uuid.bytes, 4: b"\0"}
    with pytest.raises(MalformedStructure, match="descriptor 3 ends after"):
        decode_namespace_descriptors(raw[:10])


@given(
    DWORDS,
    st.integers(0, 6),
    st.booleans(),
    st.lists(
        st.builds(RegistrantStatus, WORDS, BYTES, QWORDS, st.binary(min_size=16, max_size=16)),
        max_size=5,
    ),
    st.data(),
)
def test_reservation_report(
    generation: int,
    reservation_type: int,
    persists: bool,
    registrants: list[RegistrantStatus],
    data: st.DataObject,
) -> None:
    report = ReservationReport(generation, reservation_type, persists, tuple(registrants))
    raw = report.encode()
    assert ReservationReport.decode(raw + bytes(64)) == report
    assert ReservationReport.decode_count(raw) == len(registrants)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(MalformedStructure, match="reservation report"):
        ReservationReport.decode(raw[:cut])


def test_reservation_report_bytes() -> None:
    registrant = RegistrantStatus(status=1, key=7, host_id=b"H" * 16)
    raw = ReservationReport(2, 4, True, (registrant,)).encode()
    header = struct.pack("<IBHHB54x", 2, 4, 1, 0, 1)
    assert raw == header + struct.pack("<HB5xQ16s32x", 0xFFFF, 1, 7, b"H" * 16)
