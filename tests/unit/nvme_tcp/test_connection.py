# SPDX-License-Identifier: Apache-2.0
"""Host and controller role against each other: one code, two ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from lightos.nvme_tcp import (
    R2T,
    C2HData,
    CapsuleCmd,
    CapsuleResp,
    Connection,
    ConnectionClosed,
    H2CData,
    ICReq,
    ICResp,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
    Settings,
    TermReq,
    commands,
)
from lightos.nvme_tcp.commands import Command, Completion
from lightos.nvme_tcp.constants import FatalError
from lightos.nvme_tcp.pdu import Pdu
from lightos.nvme_tcp.state import State
from tests.unit.nvme_tcp.pair import FEEDS, Event, Pair, events, whole

Feed = Callable[[Connection, bytes], list[Event]]

READ = commands.read(1, 100, 8, block_size=512)._replace(cid=7)
WRITE = commands.write(1, 100, 8, block_size=512)._replace(cid=8)
DATA = bytes(range(256)) * 16
KEEP_ALIVE = commands.keep_alive()._replace(cid=9)

DIGESTS = list(product((False, True), repeat=2))
FRAMINGS = [
    Settings(header_digest=h, data_digest=d, alignment_bytes=a)
    for (h, d), a in product(DIGESTS, (4, 8, 12, 128))
]

# Each case: what the two ends say to each other, in order; "h" is the host.
EXCHANGES: dict[str, list[tuple[str, Pdu]]] = {
    "no data": [("h", CapsuleCmd(KEEP_ALIVE)), ("c", CapsuleResp(Completion(9)))],
    "read": [
        ("h", CapsuleCmd(READ)),
        ("c", C2HData(7, 0, DATA)),
        ("c", CapsuleResp(Completion(7, sq_head=3))),
    ],
    "read in three PDUs": [
        ("h", CapsuleCmd(READ)),
        ("c", C2HData(7, 0, DATA[:1000], last=False)),
        ("c", C2HData(7, 1000, DATA[1000:1001], last=False)),
        ("c", C2HData(7, 1001, DATA[1001:], last=True)),
        ("c", CapsuleResp(Completion(7))),
    ],
    "read without response": [
        ("h", CapsuleCmd(READ)),
        ("c", C2HData(7, 0, DATA, success=True)),
        ("h", CapsuleCmd(READ)),  # so its id is free again
    ],
    "read that failed": [
        ("h", CapsuleCmd(READ)),
        ("c", CapsuleResp(Completion(7, status=0x281, do_not_retry=True))),
    ],
    "write in capsule": [
        ("h", CapsuleCmd(commands.in_capsule(WRITE), DATA)),
        ("c", CapsuleResp(Completion(8, result=2**64 - 1))),
    ],
    "write by one R2T": [
        ("h", CapsuleCmd(WRITE)),
        ("c", R2T(8, 40, 0, 4096)),
        ("h", H2CData(8, 40, 0, DATA[:4000], last=False)),
        ("h", H2CData(8, 40, 4000, DATA[4000:], last=True)),
        ("c", CapsuleResp(Completion(8))),
    ],
    "write by two R2Ts at once": [
        ("h", CapsuleCmd(WRITE)),
        ("c", R2T(8, 40, 0, 2048)),
        ("c", R2T(8, 41, 2048, 2048)),
        ("h", H2CData(8, 40, 0, DATA[:2048], last=True)),
        ("h", H2CData(8, 41, 2048, DATA[2048:], last=True)),
        ("c", CapsuleResp(Completion(8))),
    ],
    "two commands interleaved": [
        ("h", CapsuleCmd(WRITE)),
        ("h", CapsuleCmd(READ)),
        ("c", R2T(8, 0, 0, 4096)),
        ("c", C2HData(7, 0, DATA)),
        ("h", H2CData(8, 0, 0, DATA)),
        ("c", CapsuleResp(Completion(7))),
        ("c", CapsuleResp(Completion(8))),
    ],
    "host ends it": [("h", TermReq(FatalError.PDU_SEQUENCE_ERROR, 0, bytes(24)))],
    "controller ends it": [("c", TermReq(FatalError.HEADER_DIGEST_ERROR, 0xDEADBEEF, bytes(128)))],
}


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("settings", FRAMINGS, ids=str)
@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_every_exchange_arrives_as_it_was_sent(
    exchange: list[tuple[str, Pdu]], settings: Settings, feed: Feed
) -> None:
    pair = Pair(Settings(**{**vars(settings), "max_r2t": 2}), settings)
    for sender, pdu in exchange:
        source, target = (
            (pair.host, pair.controller) if sender == "h" else (pair.controller, pair.host)
        )
        assert feed(target, source.send(pdu)) == [pdu]


@pytest.mark.parametrize("settings", FRAMINGS, ids=str)
def test_pdus_that_arrive_together_are_told_apart(settings: Settings) -> None:
    pair = Pair(settings, settings)
    pdus: list[Pdu] = [CapsuleCmd(commands.in_capsule(WRITE), DATA), CapsuleCmd(READ)]
    sent = b"".join(pair.host.send(pdu) for pdu in pdus)
    next_one = pair.host.send(CapsuleCmd(KEEP_ALIVE))
    assert whole(pair.controller, sent + next_one[:50]) == pdus
    assert whole(pair.controller, next_one[50:]) == [CapsuleCmd(KEEP_ALIVE)]


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_initialization(feed: Feed) -> None:
    host = Connection(Role.HOST, Settings(True, False, 16, max_r2t=4))
    controller = Connection(Role.CONTROLLER, Settings(True, True, 32, max_h2c_data=65536))
    request = ICReq(True, False, 16, max_r2t=4)
    response = ICResp(True, False, 32, max_h2c_data=65536)
    assert feed(controller, host.initiate()) == [request]
    assert feed(host, controller.accept()) == [response]
    assert (host.state, controller.state) == (State.READY, State.READY)
    assert host.request == controller.request == request
    assert host.response == controller.response == response


@pytest.mark.parametrize(("asked", "granted"), list(product(DIGESTS, DIGESTS)))
def test_a_digest_is_used_only_if_both_ends_want_it(
    asked: tuple[bool, bool], granted: tuple[bool, bool]
) -> None:
    pair = Pair(Settings(*asked), Settings(*granted))
    header, data = asked[0] and granted[0], asked[1] and granted[1]
    sent = pair.host.send(CapsuleCmd(commands.in_capsule(WRITE), DATA))
    assert len(sent) == 72 + 4 * header + len(DATA) + 4 * data
    assert sent[1] == header | data << 1


def test_alignment_is_that_of_the_end_that_receives() -> None:
    pair = Pair(Settings(alignment_bytes=64), Settings(alignment_bytes=128))
    sent = pair.host.send(CapsuleCmd(commands.in_capsule(WRITE), DATA))
    assert (sent[3], len(sent)) == (128, 128 + len(DATA))
    whole(pair.controller, sent)
    pair.to_controller(CapsuleCmd(READ))
    sent = pair.controller.send(C2HData(7, 0, DATA))
    assert (sent[3], len(sent)) == (64, 64 + len(DATA))


def test_the_host_answers_an_r2t_in_pdus_of_the_agreed_size() -> None:
    pair = Pair(controller=Settings(max_h2c_data=4096))
    command = commands.write(1, 0, 20, block_size=512)._replace(cid=8)
    data = bytes(5000) + b"x" * 5240
    pair.to_controller(CapsuleCmd(command))
    asked = R2T(8, 3, 512, 9728)
    pair.to_host(asked)
    arrived = whole(pair.controller, pair.host.answer(asked, data))
    assert arrived == [
        H2CData(8, 3, 512, data[512:4608], last=False),
        H2CData(8, 3, 4608, data[4608:8704], last=False),
        H2CData(8, 3, 8704, data[8704:10240], last=True),
    ]


def test_a_wrong_data_digest_spoils_one_command_only() -> None:
    pair = Pair(Settings(data_digest=True), Settings(data_digest=True))
    in_capsule = CapsuleCmd(commands.in_capsule(WRITE), DATA)
    sent = bytearray(pair.host.send(in_capsule))
    sent[1000] ^= 1
    (arrived,) = whole(pair.controller, bytes(sent))
    assert isinstance(arrived, CapsuleCmd)
    assert arrived.corrupt
    assert pair.to_host(CapsuleResp(Completion(8, 0x22))) == [CapsuleResp(Completion(8, 0x22))]
    assert pair.to_controller(in_capsule) == [in_capsule]


def test_a_command_id_in_use_is_for_the_controller_to_refuse() -> None:
    pair = Pair()
    pair.to_controller(CapsuleCmd(KEEP_ALIVE))
    with pytest.raises(LocalProtocolError, match="in use"):
        pair.host.send(CapsuleCmd(KEEP_ALIVE))
    again = Pair().host.send(CapsuleCmd(KEEP_ALIVE))
    assert whole(pair.controller, again) == [CapsuleCmd(KEEP_ALIVE)]
    conflict = CapsuleResp(Completion(9, status=3))
    assert pair.controller.send(conflict)
    assert pair.controller.send(CapsuleResp(Completion(9)))
    with pytest.raises(LocalProtocolError, match="no command"):
        pair.controller.send(CapsuleResp(Completion(9)))


def test_an_error_that_the_caller_found_quotes_the_last_pdu() -> None:
    pair = Pair()
    sent = pair.host.send(CapsuleCmd(KEEP_ALIVE))
    whole(pair.controller, sent)
    error = RemoteProtocolError("too many commands", FatalError.PDU_SEQUENCE_ERROR)
    told = whole(pair.host, pair.controller.terminate(error))
    assert told == [TermReq(FatalError.PDU_SEQUENCE_ERROR, 0, sent)]


def test_end_of_file() -> None:
    pair = Pair()
    sent = pair.host.send(CapsuleCmd(KEEP_ALIVE))
    assert whole(pair.controller, sent) == [CapsuleCmd(KEEP_ALIVE)]
    assert whole(pair.controller, b"") == [ConnectionClosed(0)]
    assert pair.controller.state is State.CLOSED


def test_end_of_file_inside_a_pdu() -> None:
    pair = Pair()
    whole(pair.controller, pair.host.send(CapsuleCmd(KEEP_ALIVE))[:60])
    assert whole(pair.controller, b"") == [ConnectionClosed(60)]


def test_after_a_term_req_whatever_comes_is_dropped() -> None:
    pair = Pair()
    whole(pair.controller, pair.host.send(CapsuleCmd(KEEP_ALIVE)))
    pair.to_controller(TermReq(FatalError.PDU_SEQUENCE_ERROR, 0, b"12345678"))
    assert whole(pair.controller, b"\xff" * 1000) == []
    assert pair.controller.terminate(RemoteProtocolError("x", FatalError.PDU_SEQUENCE_ERROR)) == b""
    with pytest.raises(LocalProtocolError, match="CLOSED"):
        pair.controller.send(CapsuleResp(Completion(9)))
    assert whole(pair.controller, b"") == [ConnectionClosed(0)]


# ---- what either end may not do; the other end finds the same if it is done


def _command(**fields: int) -> Command:
    return WRITE._replace(**fields)


ILLEGAL: dict[str, tuple[list[tuple[str, Pdu]], tuple[str, Pdu], FatalError, int]] = {
    "response to nothing": (
        [],
        ("c", CapsuleResp(Completion(1))),
        FatalError.INVALID_PDU_HEADER_FIELD,
        20,
    ),
    "data of nothing": ([], ("c", C2HData(1, 0, DATA)), FatalError.INVALID_PDU_HEADER_FIELD, 8),
    "data of a write": (
        [("h", CapsuleCmd(WRITE))],
        ("c", C2HData(8, 0, DATA)),
        FatalError.PDU_SEQUENCE_ERROR,
        0,
    ),
    "more data than asked for": (
        [("h", CapsuleCmd(READ))],
        ("c", C2HData(7, 0, DATA + b"1234")),
        FatalError.DATA_TRANSFER_OUT_OF_RANGE,
        0,
    ),
    "a gap in the data": (
        [("h", CapsuleCmd(READ)), ("c", C2HData(7, 0, DATA[:8], last=False))],
        ("c", C2HData(7, 12, DATA[:8])),
        FatalError.DATA_TRANSFER_OUT_OF_RANGE,
        0,
    ),
    "data after the last": (
        [("h", CapsuleCmd(READ)), ("c", C2HData(7, 0, DATA[:8]))],
        ("c", C2HData(7, 8, DATA[:8])),
        FatalError.PDU_SEQUENCE_ERROR,
        0,
    ),
    "response before the last data": (
        [("h", CapsuleCmd(READ)), ("c", C2HData(7, 0, DATA[:8], last=False))],
        ("c", CapsuleResp(Completion(7))),
        FatalError.PDU_SEQUENCE_ERROR,
        0,
    ),
    "success before the last": (
        [("h", CapsuleCmd(READ))],
        ("c", C2HData(7, 0, DATA[:8], last=False, success=True)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        1,
    ),
    "R2T for nothing": ([], ("c", R2T(8, 0, 0, 8)), FatalError.INVALID_PDU_HEADER_FIELD, 8),
    "R2T for a read": (
        [("h", CapsuleCmd(READ))],
        ("c", R2T(7, 0, 0, 8)),
        FatalError.PDU_SEQUENCE_ERROR,
        0,
    ),
    "empty R2T": (
        [("h", CapsuleCmd(WRITE))],
        ("c", R2T(8, 0, 0, 0)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        16,
    ),
    "R2T past the end": (
        [("h", CapsuleCmd(WRITE))],
        ("c", R2T(8, 0, 4092, 8)),
        FatalError.DATA_TRANSFER_OUT_OF_RANGE,
        0,
    ),
    "too many R2Ts": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 8)), ("c", R2T(8, 1, 8, 8))],
        ("c", R2T(8, 2, 16, 8)),
        FatalError.TRANSFER_LIMIT_EXCEEDED,
        0,
    ),
    "transfer tag in use": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 5, 0, 8))],
        ("c", R2T(8, 5, 8, 8)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        10,
    ),
    "response while data is on its way": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 8))],
        ("c", CapsuleResp(Completion(8))),
        FatalError.PDU_SEQUENCE_ERROR,
        0,
    ),
    "data nobody asked for": (
        [("h", CapsuleCmd(WRITE))],
        ("h", H2CData(8, 0, 0, DATA)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        10,
    ),
    "data of another command": (
        [("h", CapsuleCmd(WRITE)), ("h", CapsuleCmd(_command(cid=3))), ("c", R2T(8, 0, 0, 4096))],
        ("h", H2CData(3, 0, 0, DATA)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        8,
    ),
    "data from the wrong offset": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 4096))],
        ("h", H2CData(8, 0, 4, DATA[4:])),
        FatalError.DATA_TRANSFER_OUT_OF_RANGE,
        0,
    ),
    "data past the R2T": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 4092))],
        ("h", H2CData(8, 0, 0, DATA)),
        FatalError.DATA_TRANSFER_OUT_OF_RANGE,
        0,
    ),
    "last too early": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 4096))],
        ("h", H2CData(8, 0, 0, DATA[:8], last=True)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        1,
    ),
    "last missing": (
        [("h", CapsuleCmd(WRITE)), ("c", R2T(8, 0, 0, 4096))],
        ("h", H2CData(8, 0, 0, DATA, last=False)),
        FatalError.INVALID_PDU_HEADER_FIELD,
        1,
    ),
    "more data than MAXH2CDATA": (
        [("h", CapsuleCmd(_command(data_length=8192))), ("c", R2T(8, 0, 0, 8192))],
        ("h", H2CData(8, 0, 0, bytes(8192))),
        FatalError.TRANSFER_LIMIT_EXCEEDED,
        0,
    ),
    "a second ICReq": ([], ("h", ICReq()), FatalError.PDU_SEQUENCE_ERROR, 0),
    "a second ICResp": ([], ("c", ICResp()), FatalError.PDU_SEQUENCE_ERROR, 0),
}


@pytest.mark.parametrize(("before", "wrong", "fatal_error", "field"), ILLEGAL.values(), ids=ILLEGAL)
def test_what_is_illegal_to_send_is_an_error_to_receive(
    before: list[tuple[str, Pdu]], wrong: tuple[str, Pdu], fatal_error: FatalError, field: int
) -> None:
    sender, pdu = wrong

    def prepared() -> Pair:
        pair = Pair(Settings(max_r2t=2), Settings(max_h2c_data=4096, in_capsule_bytes=16384))
        for side, step in before:
            (pair.to_controller if side == "h" else pair.to_host)(step)
        return pair

    pair = prepared()
    with pytest.raises(LocalProtocolError):
        (pair.host if sender == "h" else pair.controller).send(pdu)

    pair = prepared()
    reckless = Role.HOST if sender == "h" else Role.CONTROLLER
    receiver, other = (
        (pair.controller, pair.host) if sender == "h" else (pair.host, pair.controller)
    )
    sent = encode_unchecked(pdu, reckless)
    with pytest.raises(RemoteProtocolError) as caught:
        whole(receiver, sent)
    assert (caught.value.fatal_error, caught.value.field_offset) == (fatal_error, field)
    term_req = whole(other, receiver.terminate(caught.value))
    assert term_req == [TermReq(fatal_error, field, sent[: sent[2]][:128])]
    assert whole(receiver, b"what is still under way") == []


def encode_unchecked(pdu: Pdu, role: Role) -> bytes:
    from lightos.nvme_tcp import pdu as wire

    return wire.encode(pdu, role, wire.PLAIN)


@pytest.mark.parametrize(
    ("role", "pdu"),
    [
        (Role.HOST, ICResp()),
        (Role.HOST, CapsuleResp(Completion(0))),
        (Role.HOST, C2HData(0, 0, DATA)),
        (Role.HOST, R2T(0, 0, 0, 4)),
        (Role.CONTROLLER, ICReq()),
        (Role.CONTROLLER, CapsuleCmd(READ)),
        (Role.CONTROLLER, H2CData(0, 0, 0, DATA)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, tuple) else value.name,
)
def test_no_end_speaks_for_the_other(role: Role, pdu: Pdu) -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError, match="does not send"):
        (pair.host if role is Role.HOST else pair.controller).send(pdu)


def test_nothing_is_sent_before_initialization() -> None:
    with pytest.raises(LocalProtocolError, match="NEW"):
        Connection(Role.HOST).send(CapsuleCmd(READ))
    with pytest.raises(LocalProtocolError, match="no ICReq"):
        Connection(Role.CONTROLLER).accept()
    host = Connection(Role.HOST)
    host.initiate()
    with pytest.raises(LocalProtocolError, match="INITIALIZING"):
        host.send(CapsuleCmd(READ))
    assert events(host) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"alignment_bytes": 0},
        {"alignment_bytes": 6},
        {"alignment_bytes": 132},
        {"max_h2c_data": 4095},
        {"max_h2c_data": 2048},
        {"in_capsule_bytes": 4096},
    ],
    ids=str,
)
def test_settings_that_no_peer_may_see(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Settings(**wrong)
