# SPDX-License-Identifier: Apache-2.0
"""The host's queue against the controller role, without sockets."""

from __future__ import annotations

import pytest

from lightos.nvme_tcp import (
    R2T,
    C2HData,
    CapsuleCmd,
    CapsuleResp,
    CommandFailed,
    Connection,
    H2CData,
    HostQueue,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
    Settings,
    TermReq,
    commands,
)
from lightos.nvme_tcp.commands import Completion
from lightos.nvme_tcp.constants import FatalError, Status
from tests.unit.nvme_tcp.pair import whole


def connected(settings: Settings | None = None) -> tuple[HostQueue, Connection]:
    queue = HostQueue(settings)
    controller = Connection(Role.CONTROLLER, settings)
    whole(controller, queue.initiate())
    assert not queue.ready
    assert queue.receive(controller.accept()) == []
    assert queue.ready
    return queue, controller


def test_replies_are_told_apart_whatever_their_order() -> None:
    queue, controller = connected()
    first, sent = queue.submit(commands.keep_alive())
    second, more = queue.submit(commands.read(1, 0, 2, block_size=512))
    assert [event.command.cid for event in whole(controller, sent + more)] == [first, second]
    assert queue.outstanding == 2
    data = controller.send(C2HData(second, 0, b"a" * 512, last=False))
    assert queue.receive(data) == []
    data = controller.send(C2HData(second, 512, b"b" * 512))
    data += controller.send(CapsuleResp(Completion(second)))
    data += controller.send(CapsuleResp(Completion(first, result=5)))
    replies = queue.receive(data)
    assert [(r.cid, r.data) for r in replies] == [(second, b"a" * 512 + b"b" * 512), (first, b"")]
    assert replies[1].check("x").completion.result == 5
    assert queue.outstanding == 0


def test_data_goes_when_it_is_asked_for() -> None:
    queue, controller = connected()
    cid, sent = queue.submit(commands.write(1, 0, 2, block_size=512), b"w" * 1024)
    assert whole(controller, sent)[0].data == b""
    assert queue.receive(controller.send(R2T(cid, 1, 512, 512))) == []
    assert whole(controller, queue.data_to_send()) == [H2CData(cid, 1, 512, b"w" * 512)]
    assert queue.data_to_send() == b""


def test_data_in_the_capsule() -> None:
    queue, controller = connected()
    command = commands.in_capsule(commands.write(1, 0, 1, block_size=512))
    cid, sent = queue.submit(command, b"w" * 512)
    assert whole(controller, sent) == [CapsuleCmd(command._replace(cid=cid), b"w" * 512)]


def test_a_failure_names_what_failed() -> None:
    queue, controller = connected()
    cid, sent = queue.submit(commands.keep_alive())
    whole(controller, sent)
    failed = Completion(cid, Status.CONNECT_INVALID_HOST, result=3, do_not_retry=True)
    (reply,) = queue.receive(controller.send(CapsuleResp(failed)))
    with pytest.raises(CommandFailed, match=r"connect to x: connect invalid host \(0x184\)") as c:
        reply.check("connect to x")
    assert (c.value.status, c.value.result, c.value.do_not_retry) == (0x184, 3, True)


def test_data_with_a_wrong_digest_is_a_failed_command() -> None:
    queue, controller = connected(Settings(data_digest=True))
    cid, sent = queue.submit(commands.read(1, 0, 1, block_size=512))
    whole(controller, sent)
    data = bytearray(controller.send(C2HData(cid, 0, bytes(512), success=True)))
    data[-1] ^= 1
    (reply,) = queue.receive(bytes(data))
    assert reply.completion.status == Status.TRANSIENT_TRANSPORT_ERROR


def test_the_controller_ends_it() -> None:
    queue, controller = connected()
    queue.receive(controller.send(TermReq(FatalError.PDU_SEQUENCE_ERROR, 4, b"quote")))
    assert queue.closed
    assert "fatal error 2, field 0x4" in queue.closed_because
    queue.receive(b"")
    assert "fatal error 2" in queue.closed_because
    with pytest.raises(LocalProtocolError):
        queue.submit(commands.keep_alive())


def test_the_controller_hangs_up() -> None:
    queue, _ = connected()
    assert queue.receive(b"") == []
    assert queue.closed
    assert queue.closed_because == "the controller closed the connection"


def test_the_controller_talks_nonsense() -> None:
    queue, controller = connected()
    with pytest.raises(RemoteProtocolError, match="unknown PDU type 0xff"):
        queue.receive(b"\xff" * 8)
    (told,) = whole(controller, queue.data_to_send())
    assert told == TermReq(FatalError.INVALID_PDU_HEADER_FIELD, 0, b"\xff" * 8)
    assert queue.closed


def test_command_ids_wrap_and_skip_those_in_use() -> None:
    queue, controller = connected()
    held, sent = queue.submit(commands.async_event_request())
    whole(controller, sent)
    for _ in range(0xFFFF):
        cid, sent = queue.submit(commands.keep_alive())
        assert cid not in (held, 0xFFFF)
        whole(controller, sent)
        queue.receive(controller.send(CapsuleResp(Completion(cid))))
    assert queue.outstanding == 1
