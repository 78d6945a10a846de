# SPDX-License-Identifier: Apache-2.0
"""The lab's management API behind a proxy that counts calls and misbehaves where a test says so."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 412: 9, 500: 13, 503: 14}


@dataclass(frozen=True)
class Reply:
    """What the driver gets; `status` 0 closes the connection without an answer."""

    status: int
    body: bytes = b""


LOST = Reply(0)
Forward = Callable[[], Reply]
"""Passes the request on to the lab and returns its reply."""


def refuse(
    status: int, message: str = "refused by the test", *, code: int = 0
) -> Callable[[Forward], Reply]:
    """Answer in the gateway's form without asking the lab; `code` is gRPC's, if not the usual."""
    body = {"error": message, "code": code or GRPC_CODES[status], "message": message}
    return lambda _forward: Reply(status, json.dumps(body).encode())


def lose_reply(forward: Forward) -> Reply:
    """Let the lab do it, and tell nobody."""
    forward()
    return LOST


def rewrite(change: Callable[[dict[str, Any]], None]) -> Callable[[Forward], Reply]:
    """Pass the lab's reply on with changes."""

    def act(forward: Forward) -> Reply:
        reply = forward()
        message = json.loads(reply.body)
        change(message)
        return Reply(reply.status, json.dumps(message).encode())

    return act


@dataclass
class _Fault:
    method: str
    path: re.Pattern[str]
    act: Callable[[Forward], Reply]
    skip: int
    times: int | None


@dataclass
class ApiProxy:
    """One address in front of one node of the lab, with its certificate."""

    lab: dict[str, Any]
    address: str = field(init=False)
    port: int = field(init=False)
    calls: list[str] = field(default_factory=list)
    """`METHOD path` of every request since the last `forget`."""
    connections: int = 0
    """TLS connections opened since the last `forget`."""

    def __post_init__(self) -> None:
        self.address = self.lab["api_addresses"][0]
        self._upstream = f"https://{self.address}:{self.lab['api_port']}"
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._sessions = threading.local()

    def fault(
        self,
        method: str,
        path: str,
        act: Callable[[Forward], Reply],
        *,
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Treat requests whose path (with query) contains the pattern as `act` says.

        The first `skip` of them pass; after `times` of them (None: never) it is over.
        """
        self._faults.append(_Fault(method, re.compile(path), act, skip, times))

    def forget(self) -> None:
        """Start counting anew, without faults."""
        with self._lock:
            self._faults.clear()
            self.calls.clear()
            self.connections = 0

    def count(self, method: str, path: str = "") -> int:
        return sum(bool(re.match(f"{method} .*{path}", call)) for call in self.calls)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        with self._lock:
            self.calls.append(f"{method} {path}")
            act = self._act_for(method, path)

        def forward() -> Reply:
            reply = self._session.request(
                method,
                f"{self._upstream}{path}",
                data=body,
                headers=headers,
                verify=self.lab["ca_file"],
                timeout=30,
            )
            return Reply(reply.status_code, reply.content)

        return act(forward) if act else forward()

    def _act_for(self, method: str, path: str) -> Callable[[Forward], Reply] | None:
        for fault in self._faults:
            if fault.method == method and fault.path.search(path):
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is None or fault.times > 0:
                    fault.times = fault.times and fault.times - 1
                    return fault.act
        return None

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
            self._sessions.session.trust_env = False
        return self._sessions.session

    @contextmanager
    def serving(self) -> Iterator[ApiProxy]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with proxy._lock:
                    proxy.connections += 1

            def relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kept = ("authorization", "content-type", "if-match")
                headers = {k: v for k, v in self.headers.items() if k.lower() in kept}
                reply = proxy.answer(self.command, self.path, headers, body)
                if not reply.status:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_DELETE = relay

            def log_message(self, *args: object) -> None:
                """Quiet: `calls` is the log."""

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = Path(self.lab["ca_file"]).parent
        tls.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        server = ThreadingHTTPServer((self.address, 0), Handler)
        server.daemon_threads = True
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
