# SPDX-License-Identifier: Apache-2.0
"""A client that does nothing but GETs over keep-alive TLS connections, as fast as they come back.

    python -m bench.cinder.load < REQUEST > FIGURES

A process of its own, so that it does not take the lab's core; it checks no certificate and reads
no JSON, so that it is not what limits.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import asdict, dataclass

from bench.part import percentile

_STATUS = b"HTTP/1.1 200 "
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """GETs of one path, spread over the addresses, on so many connections, for so long."""

    addresses: list[str]
    port: int
    token: str
    path: str
    connections: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    per_second: float
    p50_s: float
    p99_s: float


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, request: bytes, ends_at: float, seconds: list[float]) -> None:
        self._request = request
        self._ends_at = ends_at
        self._seconds = seconds
        self._received = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not blank or length is None or len(body) < int(length[1]):
            return
        if not head.startswith(_STATUS):
            self.done.set_exception(RuntimeError(f"answered {head[:20]!r}"))
            return
        now = time.perf_counter()
        self._seconds.append(now - self._began)
        self._received = b""
        if now < self._ends_at:
            self._send()
        else:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed by the lab"))


async def run(load: Load) -> Figures:
    """Raises what a connection met, or RuntimeError for another status than 200."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    request = (
        f"GET {load.path} HTTP/1.1\r\nHost: lab\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {load.token}\r\n\r\n"
    ).encode()
    seconds: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Connection(request, began + load.seconds, seconds),
            load.addresses[number % len(load.addresses)],
            load.port,
            ssl=tls,
        )
        for number in range(load.connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    took = time.perf_counter() - began
    for transport, _ in made:
        transport.abort()
    return Figures(len(seconds) / took, percentile(seconds, 50), percentile(seconds, 99))


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Load(**json.load(sys.stdin)))))))
