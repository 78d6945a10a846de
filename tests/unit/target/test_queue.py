# SPDX-License-Identifier: Apache-2.0
"""The life of connections: malformed bytes, limits, back pressure, a node that stops."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Callable

import pytest

from lightos.lab.controller import queue as queue_module
from lightos.nvme_tcp import (
    CapsuleCmd,
    CommandFailed,
    Connection,
    Role,
    Settings,
    TermReq,
    commands,
)
from lightos.nvme_tcp.constants import FatalError, PduType, Status
from testbed.initiator import Initiator, InitiatorError, QueueSocket
from tests.unit.target.cluster import MIB, Lab

Connect = Callable[..., Initiator]
ICREQ = struct.pack("<BBBBI", 0, 0, 128, 0, 128) + bytes(120)


def receive_all(sock: socket.socket) -> bytes:
    sock.settimeout(10)
    received = b""
    while data := sock.recv(4096):
        received += data
    return received


def answer_to(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(data)
        return receive_all(sock)


@pytest.mark.parametrize("port_name", ["nvme_port", "discovery_port"])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", (1, 0)),
        (struct.pack("<BBBBI", 0, 0, 128, 0, 128) + b"\x09" + bytes(119), (6, 8)),
        (struct.pack("<BBBBI", 4, 0, 72, 0, 72) + bytes(64), (2, 0)),
    ],
    ids=["HTTP", "later format", "command first"],
)
def test_malformed_bytes_are_answered_and_the_connection_is_closed(
    lab: Lab, connect: Connect, port_name: str, data: bytes, error: tuple[int, int]
) -> None:
    host = connect()
    answer = answer_to(getattr(lab.cluster, port_name), data)
    assert answer[0] == 3
    assert struct.unpack_from("<HI", answer, 8) == error
    assert answer[24:] == data[: len(answer) - 24]
    assert len(host.read(1, 0, 1)) == 512


def test_malformed_bytes_after_icreq(lab: Lab) -> None:
    answer = answer_to(lab.cluster.nvme_port, ICREQ + b"\xff" * 64)
    assert answer[0] == 1
    assert answer[128] == 3


def test_more_data_in_a_pdu_than_the_lab_takes(lab: Lab, connect: Connect) -> None:
    host = connect()
    connection, sock = host.io[0].queue.connection, host.io[0].socket
    assert connection.response is not None
    most = connection.response.max_h2c_data
    write = commands.write(1, 0, 2 * most // 512, block_size=512)._replace(cid=700)
    sock.sendall(connection.send(CapsuleCmd(write)))
    asked = sock.recv(24, socket.MSG_WAITALL)
    assert asked[0] == PduType.R2T
    tag = struct.unpack_from("<H", asked, 10)[0]
    header = struct.pack("<BBBBI", PduType.H2C_DATA, 0, 24, 24, 24 + most + 4)
    header += struct.pack("<HHII4x", 700, tag, 0, most + 4)
    sock.sendall(header)
    answer = receive_all(sock)
    assert answer[0] == PduType.C2H_TERM_REQ
    assert struct.unpack_from("<HI", answer, 8) == (FatalError.TRANSFER_LIMIT_EXCEEDED, 0)
    assert answer[24:] == header


def test_a_host_that_ends_the_connection_itself(lab: Lab) -> None:
    host = Connection(Role.HOST)
    data = host.initiate()
    with socket.create_connection(("127.0.0.1", lab.cluster.nvme_port)) as sock:
        sock.sendall(data)
        host.receive_data(sock.recv(128))
        host.next_event()
        sock.sendall(host.send(TermReq(FatalError.PDU_SEQUENCE_ERROR)))
        assert receive_all(sock) == b""


def test_a_data_digest_that_does_not_match_is_never_written(lab: Lab, connect: Connect) -> None:
    host = connect(settings=Settings(data_digest=True))
    host.write(1, 0, b"1" * 4096)
    connection, sock = host.io[0].queue.connection, host.io[0].socket
    command = commands.in_capsule(commands.write(1, 0, 8, block_size=512))._replace(cid=700)
    sent = bytearray(connection.send(CapsuleCmd(command, b"2" * 4096)))
    sent[200] ^= 1
    sock.sendall(sent)
    reply_status = _status(connection, sock)
    assert reply_status == Status.TRANSIENT_TRANSPORT_ERROR
    assert host.read(1, 0, 8) == b"1" * 4096


def _status(connection: Connection, sock: socket.socket) -> int:
    while True:
        event = connection.next_event()
        if isinstance(event, tuple):
            return int(event[0].status)
        connection.receive_data(sock.recv(4096))


def test_a_command_id_in_use_is_refused_without_harm(connect: Connect) -> None:
    host = connect()
    event = host.admin.submit(commands.async_event_request())
    again = CapsuleCmd(commands.keep_alive()._replace(cid=event))
    other = Connection(Role.HOST)
    other.initiate()
    controller = Connection(Role.CONTROLLER)
    controller.receive_data(ICREQ)
    controller.next_event()
    other.receive_data(controller.accept())
    other.next_event()
    host.admin.socket.sendall(other.send(again))
    assert host.admin.wait(event).completion.status == Status.COMMAND_ID_CONFLICT


def test_more_commands_than_the_queue_holds_end_the_connection(connect: Connect) -> None:
    host = connect(queue_size=4)
    write = commands.write(1, 0, 8, block_size=512)
    cids = [host.io[0].submit(write, bytes(4096)) for _ in range(5)]
    with pytest.raises(InitiatorError, match="fatal error 2"):
        host.io[0].wait(cids[-1])
    assert host.namespace_ids() == (1,)


def test_a_host_that_does_not_read_does_not_fill_our_memory(lab: Lab, connect: Connect) -> None:
    host = connect()
    lazy = host.io[0]
    lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    cids = [lazy.submit(commands.read(1, 0, 2048, block_size=512)) for _ in range(100)]
    assert host.namespace_ids() == (1,)
    buffered = lab.do(
        lambda: max(
            queue._transport.get_write_buffer_size()
            for controller in lab.servers[0].io.controllers.values()
            for queue in controller.queues.values()
        )
    )
    assert buffered < 4 * MIB
    for cid in cids:
        assert len(lazy.wait(cid).data) == MIB


def test_a_connection_that_never_becomes_a_queue_is_dropped(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "CONNECT_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", lab.cluster.nvme_port)) as sock:
        sock.sendall(ICREQ)
        assert len(sock.recv(4096)) == 128
        with pytest.raises(ConnectionResetError):
            receive_all(sock) or _raise_reset()


def _raise_reset() -> None:
    raise ConnectionResetError  # closed without a reset is as good


def test_a_node_that_stops_drops_every_connection_and_may_come_back(
    lab: Lab, connect: Connect
) -> None:
    host = connect(io_queues=2)
    host.block_size(1)
    host.write(1, 0, b"k" * 512)
    server = lab.servers.pop()
    lab.run(server.close())
    for queue in (host.admin, *host.io):
        with pytest.raises((InitiatorError, ConnectionError)):
            queue.run(commands.keep_alive())
    with pytest.raises(ConnectionRefusedError):
        QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    assert len(lab.cluster.listeners) == 1  # the throttles, which outlive nodes
    lab.serve()
    assert connect().read(1, 0, 1) == b"k" * 512


def test_a_port_in_use_is_named_and_nothing_is_left_listening(lab: Lab) -> None:
    taken = lab.cluster.discovery_port
    lab.run(lab.servers.pop().close())
    with socket.create_server(("127.0.0.1", taken)):
        with pytest.raises(OSError, match=f"127.0.0.1 port {taken}: the port is in use"):
            lab.run(lab.serve_node(lab.cluster.nodes[0]))
        with pytest.raises(ConnectionRefusedError):
            QueueSocket("127.0.0.1", lab.cluster.nvme_port)


def test_nothing_is_left_of_hosts_that_went(lab: Lab, connect: Connect) -> None:
    for _ in range(20):
        connect(io_queues=2).close()

    async def settle() -> tuple[int, int]:
        port = lab.servers[0].io
        for _ in range(100):
            if not port.controllers and not port._queues:
                break
            await asyncio.sleep(0.02)
        gc.collect()
        return len(port.controllers), len(lab.cluster.listeners)

    assert lab.run(settle()) == (0, 1)  # the throttles listen


def test_a_bug_in_the_store_costs_one_connection(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not an error of the disk")

    for name, command in (
        ("flush", commands.flush(1)),
        ("read", commands.read(1, 0, 1, block_size=512)),
    ):
        host = connect()
        monkeypatch.setattr(lab.store, name, fail)
        with pytest.raises((InitiatorError, ConnectionError)):
            host.io[0].run(command)
        monkeypatch.undo()
        assert host.namespace_ids() == (1,)


def test_connect_is_refused_while_there_are_too_many(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightos.lab.controller import port

    monkeypatch.setattr(port, "MAX_CONTROLLERS", 1)
    connect()
    with pytest.raises(CommandFailed, match="connect controller busy"):
        connect()
