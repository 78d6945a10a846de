# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from lightos.discovery.desired import Endpoint
from lightos.discovery.status import Status, StatusServer
from lightos.openstack.os_brick.discovery_client import answers
from lightos.waiting import Deadline


def test_our_own_discovery_client_is_found() -> None:
    with StatusServer(Endpoint("127.0.0.1", 0), Status) as server:
        assert answers("127.0.0.1", server.port, Deadline(5))
        assert answers("localhost", server.port, Deadline(5))


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    def accept() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "reply",
    [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"x" * 5000],
)
def test_other_answers_are_no_discovery_client(reply: bytes) -> None:
    with listening(lambda connection: connection.sendall(reply)) as port:
        assert not answers("127.0.0.1", port, Deadline(5))


def test_a_peer_that_drips_cannot_hold_us_past_the_deadline() -> None:
    """Each byte comes in time for a time-out per read; only the deadline ends it."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not ended.wait(0.02):
            connection.sendall(b"H")

    with listening(drip) as port:
        assert not answers("127.0.0.1", port, Deadline(0.3))
        ended.set()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not answers("127.0.0.1", port, Deadline(5))


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = listener.getsockname()
    with StatusServer(Endpoint("127.0.0.1", 0), Status) as server:
        peers = [refusing, ("127.0.0.1", server.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", peer) for peer in peers]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert answers("discovery-client", server.port, Deadline(5))


def test_a_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    assert not answers("discovery-client", 6060, Deadline(5))
