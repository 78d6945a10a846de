# SPDX-License-Identifier: Apache-2.0
"""Bytes that break the specification, written out by hand, and the TermReq they earn."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.nvme_tcp import (
    CapsuleCmd,
    Connection,
    RemoteProtocolError,
    Role,
    Settings,
    TermReq,
    commands,
)
from lightos.nvme_tcp.constants import FatalError
from lightos.nvme_tcp.state import State
from tests.unit.nvme_tcp.pair import FEEDS, Pair, whole

INVALID = FatalError.INVALID_PDU_HEADER_FIELD
LIMIT = FatalError.TRANSFER_LIMIT_EXCEEDED
SEQUENCE = FatalError.PDU_SEQUENCE_ERROR
UNSUPPORTED = FatalError.UNSUPPORTED_PARAMETER


def common(kind: int, flags: int, hlen: int, pdo: int, plen: int) -> bytes:
    return struct.pack("<BBBBI", kind, flags, hlen, pdo, plen)


def ic(kind: int, *, pfv: int = 0, pda: int = 0, digests: int = 0, limit: int = 0) -> bytes:
    return (
        common(kind, 0, 128, 0, 128) + struct.pack("<HBBI", pfv, pda, digests, limit) + bytes(112)
    )


SQE = commands.keep_alive().encode()

BEFORE_ICREQ: dict[str, tuple[bytes, FatalError, int]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", INVALID, 0),
    "unknown type": (common(0x08, 0, 24, 0, 24), INVALID, 0),
    "type of the controller": (ic(0x01), INVALID, 0),
    "command first": (common(0x04, 0, 72, 0, 72) + SQE, SEQUENCE, 0),
    "command first, digest flag set": (common(0x04, 1, 72, 0, 76) + SQE, SEQUENCE, 0),
    "data first": (common(0x06, 4, 24, 24, 28) + bytes(20), SEQUENCE, 0),
    "ICReq with short HLEN": (common(0x00, 0, 8, 0, 128) + bytes(120), INVALID, 2),
    "ICReq with short PLEN": (common(0x00, 0, 128, 0, 8) + bytes(120), INVALID, 4),
    "ICReq with long PLEN": (common(0x00, 0, 128, 0, 129) + bytes(121), INVALID, 4),
    "ICReq of a later format": (ic(0x00, pfv=1), UNSUPPORTED, 8),
    "ICReq with HPDA 32": (ic(0x00, pda=32), INVALID, 10),
    "TermReq with short PLEN": (common(0x02, 0, 24, 0, 23) + bytes(16), INVALID, 4),
    "TermReq with long PLEN": (common(0x02, 0, 24, 0, 153) + bytes(145), INVALID, 4),
}

READY: dict[str, tuple[bytes, FatalError, int]] = {
    "unknown type": (common(0x0A, 0, 24, 0, 24), INVALID, 0),
    "response": (common(0x05, 0, 24, 0, 24) + bytes(16), INVALID, 0),
    "second ICReq": (ic(0x00), SEQUENCE, 0),
    "capsule with HLEN 64": (common(0x04, 0, 64, 0, 72) + SQE, INVALID, 2),
    "capsule with PLEN under HLEN": (common(0x04, 0, 72, 0, 71) + SQE, INVALID, 4),
    "capsule with a header digest": (common(0x04, 1, 72, 0, 76) + SQE + bytes(4), INVALID, 1),
    "capsule with a data digest": (common(0x04, 2, 72, 72, 84) + SQE + bytes(12), INVALID, 1),
    "capsule with PDO in the header": (common(0x04, 0, 72, 68, 80) + SQE + bytes(8), INVALID, 3),
    "capsule with odd PDO": (common(0x04, 0, 72, 74, 84) + SQE + bytes(12), INVALID, 3),
    "capsule with PDO at its end": (common(0x04, 0, 72, 76, 76) + SQE + bytes(4), INVALID, 4),
    "capsule with PDO past its end": (common(0x04, 0, 72, 80, 76) + SQE + bytes(4), INVALID, 4),
    "capsule with too much data": (common(0x04, 0, 72, 72, 72 + 8193) + SQE, INVALID, 4),
    "capsule of 4 GiB": (common(0x04, 0, 72, 72, 0xFFFFFFFF) + SQE, INVALID, 4),
    "data over MAXH2CDATA": (common(0x06, 4, 24, 24, 24 + 16388) + bytes(16), LIMIT, 0),
    "data of 4 GiB": (common(0x06, 4, 24, 24, 0xFFFFFFFC) + bytes(16), LIMIT, 0),
    "data without data": (common(0x06, 4, 24, 24, 24) + bytes(16), INVALID, 16),
    "data whose DATAL is not its length": (
        common(0x06, 4, 24, 24, 32) + struct.pack("<HHII4x", 0, 0, 0, 4) + bytes(8),
        INVALID,
        16,
    ),
    "data nobody asked for": (
        common(0x06, 4, 24, 24, 32) + struct.pack("<HHII4x", 0, 0, 0, 8) + bytes(8),
        INVALID,
        10,
    ),
}

AWAITING_ICRESP: dict[str, tuple[bytes, FatalError, int]] = {
    "ICReq": (ic(0x00), INVALID, 0),
    "response first": (common(0x05, 0, 24, 0, 24) + bytes(16), SEQUENCE, 0),
    "ICResp of a later format": (ic(0x01, pfv=1, limit=4096), UNSUPPORTED, 8),
    "ICResp with CPDA 32": (ic(0x01, pda=32, limit=4096), INVALID, 10),
    "ICResp with an unwanted digest": (ic(0x01, digests=1, limit=4096), INVALID, 11),
    "ICResp with MAXH2CDATA under 4096": (ic(0x01, limit=4092), INVALID, 12),
    "ICResp with odd MAXH2CDATA": (ic(0x01, limit=4097), INVALID, 12),
}


def _expect(connection: Connection, data: bytes, error: FatalError, field: int, feed: str) -> None:
    other = Connection(connection.peer_role)
    with pytest.raises(RemoteProtocolError) as caught:
        FEEDS[feed](connection, data)
    assert (caught.value.fatal_error, caught.value.field_offset) == (error, field)
    term_req = connection.terminate(caught.value)
    assert len(term_req) <= 152
    (received,) = whole(other, term_req)
    assert isinstance(received, TermReq)
    assert (received.fatal_error, received.field) == (error, field)
    assert received.pdu
    assert data.startswith(received.pdu)
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("data", "error", "field"), BEFORE_ICREQ.values(), ids=BEFORE_ICREQ)
def test_before_icreq(data: bytes, error: FatalError, field: int, feed: str) -> None:
    _expect(Connection(Role.CONTROLLER), data, error, field, feed)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("data", "error", "field"), READY.values(), ids=READY)
def test_ready_controller(data: bytes, error: FatalError, field: int, feed: str) -> None:
    pair = Pair(controller=Settings(max_h2c_data=16384))
    _expect(pair.controller, data, error, field, feed)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("data", "error", "field"), AWAITING_ICRESP.values(), ids=AWAITING_ICRESP)
def test_host_that_awaits_icresp(data: bytes, error: FatalError, field: int, feed: str) -> None:
    host = Connection(Role.HOST)
    host.initiate()
    _expect(host, data, error, field, feed)


def test_an_error_in_the_common_header_is_found_without_the_rest() -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError):
        whole(pair.controller, common(0x04, 0, 72, 72, 0xFFFFFFFF))


@pytest.mark.parametrize("at", [0, 8, 40, 71, 72, 75])
def test_a_wrong_header_digest_ends_the_connection(at: int) -> None:
    pair = Pair(Settings(header_digest=True), Settings(header_digest=True))
    sent = bytearray(pair.host.send(CapsuleCmd(commands.keep_alive())))
    if at:
        sent[at] ^= 0x10
    else:
        sent[-4:] = bytes(4)
    (digest,) = struct.unpack("<I", sent[-4:])
    with pytest.raises(RemoteProtocolError) as caught:
        whole(pair.controller, bytes(sent))
    assert caught.value.fatal_error is FatalError.HEADER_DIGEST_ERROR
    assert caught.value.field_offset == digest


def test_a_missing_digest_is_an_invalid_flag() -> None:
    pair = Pair(Settings(header_digest=True), Settings(header_digest=True))
    _expect(pair.controller, common(0x04, 0, 72, 0, 72) + SQE, INVALID, 1, "whole")


def test_alignment_of_the_controller_binds_the_host() -> None:
    pair = Pair(controller=Settings(alignment_bytes=16))
    data = common(0x04, 0, 72, 72, 80) + SQE + bytes(8)
    _expect(pair.controller, data, INVALID, 3, "whole")


@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_never_get_through(data: bytes, ready: bool) -> None:
    connection = Pair().controller if ready else Connection(Role.CONTROLLER)
    owed = bytes(24)
    try:
        whole(connection, data)
    except RemoteProtocolError as error:
        owed = connection.terminate(error)
    assert 24 <= len(owed) <= 152


def test_one_flipped_bit_never_crashes_either_end() -> None:
    chance = random.Random(4420)
    settings = Settings(header_digest=True, data_digest=True)
    pdu = CapsuleCmd(commands.in_capsule(commands.write(1, 0, 1, block_size=512)), bytes(512))
    for _ in range(500):
        pair = Pair(settings, settings)
        sent = bytearray(pair.host.send(pdu))
        sent[chance.randrange(len(sent))] ^= 1 << chance.randrange(8)
        try:
            found = whole(pair.controller, bytes(sent))
        except RemoteProtocolError:
            continue
        # What is left is a data digest that does not match, or a PLEN that grew.
        assert found == [] or (isinstance(found[0], CapsuleCmd) and found[0].corrupt)


def test_crc_is_castagnoli_not_the_one_of_zip() -> None:
    from lightos.nvme_tcp.digest import digest

    assert digest(b"123456789") == bytes.fromhex("839206e3")
    assert digest(b"123456789") != struct.pack("<I", zlib.crc32(b"123456789"))
