# SPDX-License-Identifier: Apache-2.0
"""What serves OpenStack's WSGI modules keeps a client's connection, whatever the module does."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.cloud.service import WSGI_SERVER
from testbed.forwarder import listening_socket
from testbed.polling import wait_until

SECONDS = 20.0
CLOSES_ITS_INPUT = """
def application(environ, start_response):
    body = environ["wsgi.input"]
    answer = body.read()
    body.close()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""


@pytest.fixture
def connection(tmp_path: Path):
    module = tmp_path / "module.py"
    module.write_text(CLOSES_ITS_INPUT)
    with listening_socket(0) as free:
        address, port = free.getsockname()
    server = subprocess.Popen(
        [sys.executable, "-P", WSGI_SERVER, str(module), address, str(port), "closing"]
    )
    client = http.client.HTTPConnection(address, port, timeout=SECONDS)
    try:
        wait_until(lambda: connects(client), "the server to listen", SECONDS)
        yield client
    finally:
        client.close()
        server.kill()  # cheroot may wait long for its threads, and how it ends is not looked at
        server.wait(SECONDS)


def connects(client: http.client.HTTPConnection) -> bool:
    try:
        client.connect()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("chunked", [False, True])
def test_an_application_that_closes_its_input_keeps_the_connection(connection, chunked) -> None:
    uploaded = connection.sock
    for body in (b"one", b"two"):
        sent = iter([body]) if chunked else body
        connection.request("PUT", "/", sent, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, body)
    assert connection.sock is uploaded
