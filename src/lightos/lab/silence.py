# SPDX-License-Identifier: Apache-2.0
"""Sockets that the network seems to have lost: what comes in is dropped before TCP sees it.

A classic BPF program on the socket (Linux, Documentation/networking/filter.rst) drops every
packet: neither a SYN nor data is acknowledged or refused, so the peer waits as it does for a
cable that was pulled. Any process may do so with its own sockets.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Iterable

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
_RETURN = 0x06  # BPF_RET | BPF_K: accept so many bytes of the packet, here none
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))


def swallow_packets(wire: socket.socket) -> None:
    """Drop whatever comes in on a socket, and on connections that a listener makes from it."""
    program = struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))  # struct sock_fprog
    wire.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def answer_packets(wire: socket.socket) -> None:
    """Undo `swallow_packets`; what the peer sends again comes in."""
    wire.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST rather than FIN (socket(7), SO_LINGER with no time)."""
    wire = transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Silence:
    """Silence of a server: whether it is kept, and the connections that it has swallowed."""

    def __init__(self) -> None:
        self.kept = False
        self._transports: list[asyncio.Transport] = []

    def begin(self, listeners: Iterable[socket.socket]) -> None:
        """Let nobody connect; `add` each connection that there is, and any that still comes."""
        self.kept = True
        for listener in listeners:
            swallow_packets(listener)

    def add(self, transport: asyncio.Transport) -> None:
        """Take a transport away from its protocol."""
        swallow_packets(transport.get_extra_info("socket"))
        transport.set_protocol(asyncio.Protocol())
        self._transports.append(transport)

    def end(self, listeners: Iterable[socket.socket] = ()) -> None:
        """Let clients connect again, and reset what was swallowed.

        What was sent in the meantime is never acted upon.
        """
        self.kept = False
        for listener in listeners:
            answer_packets(listener)
        for transport in self._transports:
            reset(transport)
        self._transports.clear()
