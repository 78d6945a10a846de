# SPDX-License-Identifier: Apache-2.0
"""The only module that opens HTTP connections: pool, TLS, bearer token, timeouts.

One request to one address per call; which address, and whether to send again, is for the
caller. The failures tell apart what the caller must know for that: `NotSent` (nothing reached
the cluster) and `ReplyLost` (it may have acted). Both carry text only: exceptions of the HTTP
library hold the request with its token, so they are never chained.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from lightos.waiting import Deadline

CONNECT_TIMEOUT_SECONDS = 2.0
"""For the TCP and TLS handshakes, each; one lost SYN is repeated after 1 s, within it."""
SILENCE_SECONDS = 2.0
"""How long a peer's kernel may acknowledge nothing. A slow server's kernel still does."""
MAX_REPLY_BYTES = 64 << 20
POOL_SIZE = 64
"""Idle connections kept for each address; more threads than this work, less warmly."""

_SOCKET_OPTIONS = [
    *urllib3.connection.HTTPConnection.default_socket_options,
    # Packets that vanish end a warm connection long before the reply is overdue: what is sent
    # is acknowledged in time (RFC 5482), and so are the probes sent while waiting (RFC 9293,
    # 3.8.4).
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_SECONDS * 1000)),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)
"""Bearer token syntax (RFC 6750, 2.1)."""

_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
"""How OpenSSL finds a CA in a folder (X509_LOOKUP_hash_dir)."""


class NotSent(Exception):
    """The request did not reach the address."""


class CertificateRefused(NotSent):
    """The address does not speak TLS, or its certificate is not trusted."""


class ReplyLost(Exception):
    """The request may have reached the address, but no whole reply came back."""


@dataclass(frozen=True)
class HttpReply:
    """What came back, whatever its status."""

    status: int
    body: bytes


class _Connection(urllib3.connection.HTTPSConnection):
    """A connection whose TLS handshake counts as connecting: no request was sent before it."""

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as cause:
            raise ConnectTimeoutError(self, "the TLS handshake timed out") from cause
        except ConnectionError as cause:
            raise NewConnectionError(self, f"in the TLS handshake: {cause.strerror}") from cause


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection


class Transport:
    """HTTPS requests over pooled keep-alive connections; safe to share between threads.

    `verify` is True (the system's CAs), False, or the path of a CA file or folder. Proxies and
    other settings of the environment are not used: a management network is direct.
    """

    def __init__(self, port: int, *, verify: bool | str, request_timeout_seconds: float) -> None:
        if not 0 < port < 65536:
            raise ValueError(f"port {port} is not in 1..65535")
        if not request_timeout_seconds > 0:
            raise ValueError(f"a request timeout of {request_timeout_seconds} s is not positive")
        self.port = port
        self._tls = _tls_context(verify)
        self._request_timeout_seconds = request_timeout_seconds
        self._pools: dict[str, _Pool] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the idle connections."""
        for pool in self._pools.values():
            pool.close()

    def _pool_of(self, address: str) -> _Pool:
        with self._lock:
            if address not in self._pools:
                self._pools[address] = _Pool(
                    address,
                    self.port,
                    maxsize=POOL_SIZE,
                    ssl_context=self._tls,
                    cert_reqs=self._tls.verify_mode,
                    socket_options=_SOCKET_OPTIONS,
                )
            return self._pools[address]

    def send(
        self,
        address: str,
        method: str,
        path: str,
        *,
        token: str,
        deadline: Deadline,
        query: Mapping[str, str | list[str]] | None = None,
        body: Mapping[str, Any] | None = None,
        if_match: str = "",
    ) -> HttpReply:
        """Send one request to one address and read the whole reply.

        NotSent, CertificateRefused or ReplyLost when there is none. ValueError for a token or
        an ETag that no header can carry (neither is quoted in the message).
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            if not _TOKEN.fullmatch(token):
                raise ValueError("the JWT holds characters that no bearer token may have")
            headers["Authorization"] = f"Bearer {token}"
        if if_match:
            if not if_match.isascii() or not if_match.isprintable():
                raise ValueError("the ETag holds characters that no header may have")
            headers["If-Match"] = if_match
        # No try takes more than half of what is left, so that there is time for another.
        left = deadline.remaining()
        share = max(left / 2, min(left, 1.0), 0.001)
        failure: NotSent | ReplyLost
        try:
            reply = self._pool_of(address).urlopen(
                method,
                f"{path}?{urlencode(query, doseq=True)}" if query else path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_TIMEOUT_SECONDS, share),
                    read=min(self._request_timeout_seconds, share),
                ),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            # Closed and not given back to the pool, unless the body was read to its end.
            with reply:
                content = _read_body(reply, deadline)
                return HttpReply(reply.status, _without(token, content))
        except (urllib3.exceptions.HTTPError, OSError) as cause:
            failure = _classify(cause, token)
        except ReplyLost as cause:
            failure = cause
        # Outside the handlers, so that not even __context__ holds the request.
        raise failure


def checked_ca(path: str) -> str:
    """Return the path of a CA file or folder that can be used; ValueError otherwise."""
    try:
        if not Path(path).is_dir():
            ssl.create_default_context(cafile=path)
        elif not any(_HASHED_NAME.fullmatch(entry.name) for entry in Path(path).iterdir()):
            raise ValueError(
                f"cannot use the CA folder {path}: it holds no certificate under the name that "
                f"OpenSSL looks for; run `openssl rehash {path}`"
            )
    except OSError as cause:
        raise ValueError(f"cannot use the CA file {path}: {cause.strerror or cause}") from None
    return path


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    context: ssl.SSLContext = urllib3.util.create_urllib3_context()
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is True:
        context.load_default_certs()
    else:
        is_folder = Path(checked_ca(verify)).is_dir()
        context.load_verify_locations(**{"capath" if is_folder else "cafile": verify})
    return context


def _read_body(reply: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    """Read the whole body; timeouts bound each read, the deadline bounds them all."""
    chunks = []
    size = 0
    for chunk in reply.stream(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise ReplyLost(f"the reply is longer than {MAX_REPLY_BYTES} bytes")
        if deadline.expired:
            raise ReplyLost("the deadline passed in the middle of the reply")
    return b"".join(chunks)


def _without(token: str, content: bytes) -> bytes:
    """Blot the token out of a reply that echoes it."""
    return content.replace(token.encode(), b"[token]") if token else content


def _classify(cause: BaseException, token: str) -> NotSent | ReplyLost:
    chain = list(_causes(cause))
    root = chain[-1]
    text = getattr(root, "strerror", None) or str(root) or type(root).__name__
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?", "", text)
    if token:
        text = text.replace(token, "[token]")
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return CertificateRefused(f"TLS certificate refused: {link.verify_message}")
        if isinstance(link, ssl.SSLError) and link.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
        ):
            return CertificateRefused(
                "the port does not speak TLS, so it is not the management API's"
            )
    if any(isinstance(link, NewConnectionError | ConnectTimeoutError) for link in chain):
        return NotSent("no answer to connect" if isinstance(root, TimeoutError) else text)
    if any(isinstance(link, ReadTimeoutError | TimeoutError) for link in chain):
        return ReplyLost("no reply in time")
    return ReplyLost(text)


def _causes(cause: BaseException) -> list[BaseException]:
    """List an exception and what it wraps, outermost first.

    The HTTP libraries wrap by argument, by `reason` and by chaining, all at once.
    """
    chain: list[BaseException] = []
    link: BaseException | None = cause
    while link is not None and link not in chain:
        chain.append(link)
        inner = [getattr(link, "reason", None), *reversed(link.args), link.__cause__]
        link = next((item for item in inner if isinstance(item, BaseException)), None)
    return chain
