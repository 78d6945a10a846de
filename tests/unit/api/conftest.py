# SPDX-License-Identifier: Apache-2.0
"""What the tests of the API's network side need: loopback addresses, nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.api.https_server import Authority, HttpsServer, Script
from tests.unit.clock import FakeClock

Serve = Callable[..., HttpsServer]


def unsigned_token(**claims: object) -> str:
    """A token in form only, for what reads claims without verification."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serve]:
    """Start HTTPS servers whose certificate names every loopback address the tests use."""
    context = authority.context("127.0.0.1", "127.0.0.2", "127.0.0.3", "::1", "localhost")
    servers: list[HttpsServer] = []

    def start(script: Script, address: str = "127.0.0.1", port: int = 0) -> HttpsServer:
        servers.append(HttpsServer(context, script, address, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def ca_file(authority: Authority) -> str:
    return str(authority.file)


@pytest.fixture
def other_ca_file(tmp_path: Path) -> str:
    return str(Authority(tmp_path).file)
