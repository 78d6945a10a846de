# SPDX-License-Identifier: Apache-2.0
"""Two ends of one connection wired back to back, and ways to feed bytes to one of them."""

from __future__ import annotations

from collections.abc import Callable

from lightos.nvme_tcp import NEED_DATA, Connection, ConnectionClosed, Role, Settings
from lightos.nvme_tcp.pdu import Pdu

Event = Pdu | ConnectionClosed


def events(connection: Connection) -> list[Event]:
    found: list[Event] = []
    while (event := connection.next_event()) is not NEED_DATA:
        found.append(event)
        if isinstance(event, ConnectionClosed):
            break
    return found


def whole(connection: Connection, data: bytes) -> list[Event]:
    connection.receive_data(data)
    return events(connection)


def byte_by_byte(connection: Connection, data: bytes) -> list[Event]:
    found: list[Event] = []
    for at in range(len(data)):
        connection.receive_data(data[at : at + 1])
        found += events(connection)
    return found


def in_odd_pieces(connection: Connection, data: bytes) -> list[Event]:
    found: list[Event] = []
    at, size = 0, 1
    while at < len(data):
        connection.receive_data(memoryview(data)[at : at + size])
        found += events(connection)
        at, size = at + size, size * 3 % 61 + 1
    return found


FEEDS: dict[str, Callable[[Connection, bytes], list[Event]]] = {
    "whole": whole,
    "byte by byte": byte_by_byte,
    "odd pieces": in_odd_pieces,
}


class Pair:
    """A host and a controller that have exchanged ICReq and ICResp."""

    def __init__(self, host: Settings | None = None, controller: Settings | None = None) -> None:
        self.host = Connection(Role.HOST, host)
        self.controller = Connection(Role.CONTROLLER, controller)
        whole(self.controller, self.host.initiate())
        whole(self.host, self.controller.accept())

    def to_controller(self, pdu: Pdu) -> list[Event]:
        return whole(self.controller, self.host.send(pdu))

    def to_host(self, pdu: Pdu) -> list[Event]:
        return whole(self.host, self.controller.send(pdu))
