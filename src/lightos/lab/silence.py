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
from asyncio.trsock import TransportSocket

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
_RETURN = 0x06  # BPF_RET | BPF_K: accept so many bytes of the packet, here none
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))


def swallow_packets(wire: socket.socket | TransportSocket) -> None:
    """Drop whatever comes in on a socket, and on connections that a listener makes from it."""
    program = struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))  # struct sock_fprog
    wire.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def answer_packets(wire: socket.socket | TransportSocket) -> None:
    """Undo `swallow_packets`; what the peer sends again comes in."""
    wire.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST rather than FIN (socket(7), SO_LINGER with no time)."""
    wire = transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class SilentConnections:
    """Connections that neither hear nor say anything, until they are dropped."""

    def __init__(self) -> None:
        self._transports: list[asyncio.Transport] = []

    def add(self, transport: asyncio.Transport) -> None:
        """Take a transport away from its protocol."""
        swallow_packets(transport.get_extra_info("socket"))
        transport.set_protocol(asyncio.Protocol())
        self._transports.append(transport)

    def drop(self) -> None:
        """Reset all of them: what was sent in the meantime is never acted upon."""
        for transport in self._transports:
            reset(transport)
        self._transports.clear()
