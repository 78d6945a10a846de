# SPDX-License-Identifier: Apache-2.0
"""The transport against a real HTTPS server: TLS, token, pool, timeouts, broken replies."""

from __future__ import annotations

import ctypes
import json
import logging
import shutil
import socket
import struct
import subprocess
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lightos.api import http
from lightos.api.http import CertificateRefused, HttpReply, NotSent, ReplyLost, Transport
from lightos.waiting import Deadline
from tests.unit.api.conftest import Serve
from tests.unit.api.https_server import Answer, Authority, HttpsServer, Seen, reply

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


def ok(seen: Seen) -> Answer:
    return reply({"path": seen.path})


def transport(server: HttpsServer, verify: bool | str, timeout: float = 5.0) -> Transport:
    return Transport(server.port, verify=verify, request_timeout_seconds=timeout)


def get(
    sender: Transport, address: str = "127.0.0.1", *, token: str = TOKEN, **more: Any
) -> HttpReply:
    return sender.send(
        address, "GET", "/api/v2/version", token=token, deadline=Deadline(10), **more
    )


def test_a_request_arrives_as_it_was_asked_for(serve: Serve, ca_file: str) -> None:
    server = serve(ok)
    answer = transport(server, ca_file).send(
        "127.0.0.1",
        "PUT",
        "/api/v2/projects/a%2Fb/volumes/",
        token=TOKEN,
        deadline=Deadline(10),
        query={"name": "x y&z"},
        body={"size": "1 gib"},
        if_match="7",
    )
    assert answer.status == 200
    (seen,) = server.requests
    assert (seen.method, seen.target) == (
        "PUT",
        "/api/v2/projects/a%2Fb/volumes/?name=x+y%26z",
    )
    assert seen.json == {"size": "1 gib"}
    assert seen.headers["Authorization"] == f"Bearer {TOKEN}"
    assert seen.headers["If-Match"] == "7"
    assert seen.headers["Content-Type"] == "application/json"


def test_without_a_token_there_is_no_authorization(serve: Serve, ca_file: str) -> None:
    server = serve(ok)
    get(transport(server, ca_file), token="")
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_certificates_are_verified_by_address_and_by_name(
    serve: Serve, ca_file: str, address: str
) -> None:
    server = serve(ok, "::1" if address == "::1" else "127.0.0.1")
    assert get(transport(server, ca_file), address).status == 200


def test_a_certificate_of_another_ca_is_refused_and_nothing_is_sent(
    serve: Serve, other_ca_file: str
) -> None:
    server = serve(ok)
    with pytest.raises(CertificateRefused, match="TLS certificate refused: "):
        get(transport(server, other_ca_file))
    with pytest.raises(CertificateRefused):
        get(transport(server, True))
    assert server.requests == []


def test_a_certificate_for_another_address_is_refused(serve: Serve, ca_file: str) -> None:
    server = serve(ok, "127.0.0.4")
    with pytest.raises(CertificateRefused, match=r"127\.0\.0\.4"):
        get(transport(server, ca_file), "127.0.0.4")
    assert server.requests == []


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_can_be_turned_off(serve: Serve) -> None:
    assert get(transport(serve(ok), False)).status == 200


def test_the_environment_changes_nothing(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    server = serve(ok)
    assert get(transport(server, ca_file)).status == 200
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_server_without_tls_is_named_as_such() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_in_the_clear() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer_in_the_clear)
    thread.start()
    port = listener.getsockname()[1]
    sender = Transport(port, verify=True, request_timeout_seconds=5)
    with pytest.raises(CertificateRefused, match="does not speak TLS"):
        get(sender)
    thread.join()
    listener.close()


def test_connections_are_kept_and_used_again(serve: Serve, ca_file: str) -> None:
    server = serve(ok)
    sender = transport(server, ca_file)
    for _ in range(20):
        get(sender)
    assert len(server.requests) == 20
    assert server.connections == 1


def test_threads_share_one_transport(serve: Serve, ca_file: str) -> None:
    server = serve(ok)
    sender = transport(server, ca_file)

    def call(number: int) -> Any:
        answer = sender.send("127.0.0.1", "GET", f"/n/{number}", token=TOKEN, deadline=Deadline(30))
        return json.loads(answer.body)["path"]

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(call, range(80)))
    assert paths == [f"/n/{number}" for number in range(80)]
    assert server.connections <= 8


def test_cookies_and_redirects_are_not_followed(serve: Serve, ca_file: str) -> None:
    server = serve(lambda _: Answer(302, headers={"Set-Cookie": "a=b", "Location": "/other"}))
    sender = transport(server, ca_file)
    assert get(sender).status == 302
    get(sender)
    assert [seen.target for seen in server.requests] == ["/api/v2/version"] * 2
    assert "Cookie" not in server.requests[1].headers


def test_nobody_listening_means_not_sent(serve: Serve, ca_file: str) -> None:
    server = serve(ok)
    with pytest.raises(NotSent, match="Connection refused"):
        get(transport(server, ca_file), "127.0.0.5")


def test_an_unknown_host_name_means_not_sent(serve: Serve, ca_file: str) -> None:
    with pytest.raises(NotSent):
        get(transport(serve(ok), ca_file), "no-such-host.invalid")


def test_a_silent_server_is_left_after_the_request_timeout(serve: Serve, ca_file: str) -> None:
    silence = threading.Event()

    def wait(_: Seen) -> None:
        silence.wait(10)

    server = serve(wait)
    with pytest.raises(ReplyLost, match="no reply in time"):
        get(transport(server, ca_file, timeout=0.2))
    silence.set()
    assert len(server.requests) == 1


def test_the_deadline_bounds_a_silent_server_too(serve: Serve, ca_file: str) -> None:
    silence = threading.Event()

    def wait(_: Seen) -> None:
        silence.wait(10)

    sender = transport(serve(wait), ca_file, timeout=60)
    deadline = Deadline(0.2)
    with pytest.raises(ReplyLost, match="no reply in time"):
        sender.send("127.0.0.1", "GET", "/", token="", deadline=deadline)
    silence.set()


def test_a_closed_connection_means_reply_lost(serve: Serve, ca_file: str) -> None:
    with pytest.raises(ReplyLost, match="closed connection without response"):
        get(transport(serve(lambda _: None), ca_file))


def test_a_reply_cut_short_is_lost(serve: Serve, ca_file: str) -> None:
    server = serve(lambda _: Answer(body=b'{"apiVersion": "v2.0"}', cut=5))
    with pytest.raises(ReplyLost):
        get(transport(server, ca_file))


def test_an_endless_reply_is_left(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1000)
    with pytest.raises(ReplyLost, match="longer than 1000 bytes"):
        get(transport(serve(lambda _: Answer(body=b" " * 100_000)), ca_file))


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def spoken(error: BaseException) -> str:
    """All that an exception can say, chained ones and their arguments included."""
    text = "".join(traceback.format_exception(error))
    link: BaseException | None = error
    while link is not None:
        text += repr(link) + repr(vars(link))
        request = getattr(link, "request", None)
        text += repr(getattr(request, "headers", ""))
        link = link.__cause__ or link.__context__
    return text


@pytest.mark.parametrize("case", ["refused", "lost", "certificate", "cut"])
def test_the_token_is_in_no_log_and_no_exception(
    serve: Serve,
    ca_file: str,
    other_ca_file: str,
    everything_logged: pytest.LogCaptureFixture,
    case: str,
) -> None:
    server = serve(lambda _: Answer(body=b"{}  ", cut=1) if case == "cut" else None)
    sender = transport(server, other_ca_file if case == "certificate" else ca_file)
    with pytest.raises((NotSent, ReplyLost)) as caught:
        get(sender, "127.0.0.5" if case == "refused" else "127.0.0.1")
    assert TOKEN not in spoken(caught.value)
    assert TOKEN not in repr(sender) + repr(vars(sender))
    assert TOKEN not in everything_logged.text


def test_a_reply_that_echoes_the_token_is_blotted(serve: Serve, ca_file: str) -> None:
    server = serve(lambda seen: reply({"message": seen.headers["Authorization"]}, 401))
    assert json.loads(get(transport(server, ca_file)).body) == {"message": "Bearer [token]"}


@pytest.mark.parametrize("token", ["a b", "a\nb", "é", "a,b", '"a"'])
def test_a_token_that_no_header_can_carry_is_refused_unquoted(
    serve: Serve, ca_file: str, token: str
) -> None:
    server = serve(ok)
    with pytest.raises(ValueError, match="JWT holds characters") as caught:
        get(transport(server, ca_file), token=token)
    assert token not in spoken(caught.value)
    assert server.requests == []


def test_an_etag_that_no_header_can_carry_is_refused(serve: Serve, ca_file: str) -> None:
    with pytest.raises(ValueError, match="ETag"):
        get(transport(serve(ok), ca_file), if_match="a\r\nX: y")


def test_a_ca_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(ValueError, match=r"none\.pem: No such file"):
        Transport(443, verify=str(missing), request_timeout_seconds=1)
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ValueError, match=r"cannot use the CA file .*empty\.pem"):
        Transport(443, verify=str(empty), request_timeout_seconds=1)


def test_a_folder_of_cas_is_used_once_it_is_hashed(
    serve: Serve, tmp_path: Path, authority: Authority
) -> None:
    shutil.copy(authority.file, tmp_path)
    with pytest.raises(ValueError, match=r"CA folder .* run `openssl rehash"):
        Transport(443, verify=str(tmp_path), request_timeout_seconds=1)
    subprocess.run(["openssl", "rehash", tmp_path], check=True)
    assert get(transport(serve(ok), str(tmp_path))).status == 200


def test_a_server_that_never_finishes_its_tls_handshake_was_sent_nothing(
    ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel accepts connections, but the process behind is stuck."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        sender = Transport(stuck.getsockname()[1], verify=ca_file, request_timeout_seconds=60)
        with pytest.raises(NotSent, match="no answer to connect"):
            get(sender)


def test_a_connection_cut_in_the_tls_handshake_was_sent_nothing(ca_file: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut() -> None:
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(NotSent):
            get(Transport(listener.getsockname()[1], verify=ca_file, request_timeout_seconds=5))
        thread.join()


DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A socket filter (classic BPF) of one instruction, `ret #0`: the kernel drops what arrives."""
SO_ATTACH_FILTER = 26


def swallow_packets(connection: socket.socket) -> None:
    """Make a socket act as if its packets vanished: nothing is acknowledged any more."""
    program = ctypes.create_string_buffer(DROP_ALL)
    descriptor = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, descriptor)


def test_a_warm_connection_whose_packets_vanish_is_left_soon(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(ok)
    opened: list[socket.socket] = []
    accept = server.get_request

    def get_request() -> tuple[socket.socket, Any]:
        connection, peer = accept()
        opened.append(connection)
        return connection, peer

    monkeypatch.setattr(server, "get_request", get_request)
    sender = transport(server, ca_file, timeout=600)
    get(sender)
    swallow_packets(opened[0])
    with pytest.raises(ReplyLost):
        sender.send("127.0.0.1", "GET", "/", token=TOKEN, deadline=Deadline(1200))
    assert len(server.requests) == 1


def test_a_slow_server_is_waited_for(
    serve: Serve, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than packets may go unacknowledged, for its kernel acknowledges them."""
    slow = threading.Event()

    def late(_: Seen) -> Answer:
        slow.wait(http.SILENCE_SECONDS + 1)
        return Answer()

    assert get(transport(serve(late), ca_file, timeout=60)).status == 200


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_bad_ports(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        Transport(port, verify=True, request_timeout_seconds=1)


def test_bad_timeout() -> None:
    with pytest.raises(ValueError, match="timeout"):
        Transport(443, verify=True, request_timeout_seconds=0)
