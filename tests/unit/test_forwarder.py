# SPDX-License-Identifier: Apache-2.0
"""What goes through the forwarder arrives whole, in both directions, with its end."""

from __future__ import annotations

import asyncio
import functools
import os

from testbed.forwarder import forward

SECONDS = 20.0
SIZE_BYTES = 5 * 1024 * 1024


async def listen(handler) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def exchange(port: int, data: bytes) -> bytes:
    """Send everything, close our half, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(writer.drain())
    writer.write(data)
    writer.write_eof()
    answer = await reader.read(-1)
    await sending
    writer.close()
    return answer


async def through(data: bytes) -> bytes:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An answer that begins only after the whole request has been read."""
        request = await reader.read(-1)
        writer.write(b"got " + request)
        await writer.drain()
        writer.close()

    target, target_port = await listen(answer)
    relay, port = await listen(functools.partial(forward, address="127.0.0.1", port=target_port))
    async with target, relay, asyncio.timeout(SECONDS):
        return await exchange(port, data)


def test_bytes_and_their_end_pass() -> None:
    data = os.urandom(SIZE_BYTES)
    assert asyncio.run(through(data)) == b"got " + data


def test_where_nothing_listens_the_connection_is_closed(capsys) -> None:
    async def ask() -> bytes:
        gone, gone_port = await listen(lambda *_: None)
        gone.close()
        await gone.wait_closed()
        relay, port = await listen(functools.partial(forward, address="127.0.0.1", port=gone_port))
        async with relay, asyncio.timeout(SECONDS):
            return await exchange(port, b"")

    assert asyncio.run(ask()) == b""
    assert "Connect call failed" in capsys.readouterr().err
