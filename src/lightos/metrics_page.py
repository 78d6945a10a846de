# SPDX-License-Identifier: Apache-2.0
"""Serves /metrics for Prometheus, and what other pages there are, over HTTP in a thread."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

LOG = logging.getLogger(__name__)

_REQUEST_TIMEOUT_SECONDS = 5

Page = Callable[[], tuple[HTTPStatus, Mapping[str, object]]]
"""Gives a page's status, and its content, which is sent as JSON."""


class MetricsServer:
    """Listens from when it is made, and answers inside a `with` or from `start` to `close`.

    `pages` are those beside /metrics, by path; they are called in threads of their own. Raises
    OSError when it cannot listen there.
    """

    def __init__(
        self,
        address: str,
        port: int,
        registry: CollectorRegistry,
        *,
        server_name: str,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        others_here: Mapping[str, Page] = pages or {}

        class Handler(_Handler):
            server_version = server_name
            metrics = registry
            others = others_here

        class Server(ThreadingTCPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
                # Whoever asks and does not wait for the answer is no news.
                if not isinstance(sys.exception(), OSError):
                    LOG.exception("a request from %s failed", client_address)

        self._server = Server((address, port), Handler)
        self.port: int = self._server.server_address[1]
        """Where it listens; of interest if port 0 was asked for."""

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_SECONDS
    sys_version = ""
    metrics: CollectorRegistry
    others: Mapping[str, Page]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        code, kind, body = self._content(self.path.partition("?")[0])
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _content(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            try:
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
            except (TypeError, ValueError):  # a version that is not made of numbers
                encode, kind = choose_encoder("")
            return HTTPStatus.OK, kind, encode(self.metrics)
        others = type(self).others
        if path in others:
            code, content = others[path]()
            return code, "application/json", json.dumps(content).encode()
        known = " and ".join(["/metrics", *others])
        return HTTPStatus.NOT_FOUND, "text/plain", f"there are {known}\n".encode()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""
