# SPDX-License-Identifier: Apache-2.0
"""Publishes on the machine's own loopback what runs in a network namespace.

A socket belongs to the network namespace it was made in. The listening sockets are made outside
and handed down to this process, which runs inside: what it accepts comes from the machine, what
it connects to is in the namespace. The same ports are opened inside too, where what they lead to
is not there already, so that a URL means the same on both sides.

`python -P forwarder.py DESCRIPTOR:ADDRESS:PORT ...`
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

BLOCK_BYTES = 256 * 1024


def listening_socket(port: int) -> socket.socket:
    """A socket on this port of 127.0.0.1, or on any free one when it is taken."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, up to its end, which is passed on as an end too."""
    with contextlib.suppress(OSError):
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        writer.write_eof()


async def forward(
    client_reader: asyncio.StreamReader,
    client_writer: asyncio.StreamWriter,
    address: str,
    port: int,
) -> None:
    """Serve one connection; where nothing listens at the other end, it is closed."""
    with contextlib.closing(client_writer):
        try:
            reader, writer = await asyncio.open_connection(address, port, limit=BLOCK_BYTES)
        except OSError as error:
            print(f"{address}:{port}: {error}", file=sys.stderr, flush=True)
            return
        with contextlib.closing(writer):
            await asyncio.gather(copy(client_reader, writer), copy(reader, client_writer))


async def serve(rules: list[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    for rule in rules:
        descriptor, address, port = rule.split(":")
        outside = socket.socket(fileno=int(descriptor))
        name = outside.getsockname()
        is_there = name == (address, int(port))
        inside = [] if is_there else [socket.create_server(name)]
        for listening in (outside, *inside):
            await asyncio.start_server(
                lambda reader, writer, address=address, port=int(port): forward(
                    reader, writer, address, port
                ),
                sock=listening,
                limit=BLOCK_BYTES,
            )
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
