# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lightos.lab.certificates import CertificateFiles, ensure_certificates
from lightos.lab.errors import LabError

NOW = datetime.now(UTC)
ADDRESSES = ["127.0.0.1", "192.168.75.11", "fd00::1"]


def handshake(files: CertificateFiles, address: str) -> None:
    """Let a client and a server of the standard library agree, in memory."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.server, files.server_key)
    client_context = ssl.create_default_context(cafile=str(files.ca))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=address)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize("address", ADDRESSES)
def test_clients_accept_every_node_address(tmp_path: Path, address: str) -> None:
    handshake(ensure_certificates(tmp_path, ADDRESSES, NOW), address)


def test_clients_refuse_other_addresses(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ADDRESSES, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "127.0.0.2")


def test_keys_are_secret(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ADDRESSES, NOW)
    for key in (files.ca_key, files.server_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_files_are_reused_while_they_serve(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ADDRESSES, NOW)
    ca, server = files.ca.read_bytes(), files.server.read_bytes()
    ensure_certificates(tmp_path, ADDRESSES[::-1], NOW)
    assert (files.ca.read_bytes(), files.server.read_bytes()) == (ca, server)


@pytest.mark.parametrize(
    ("addresses", "later"),
    [([*ADDRESSES, "127.0.0.2"], timedelta()), (ADDRESSES, timedelta(days=340))],
)
def test_the_server_certificate_is_renewed_by_the_same_authority(
    tmp_path: Path, addresses: list[str], later: timedelta
) -> None:
    files = ensure_certificates(tmp_path, ADDRESSES, NOW)
    ca, server = files.ca.read_bytes(), files.server.read_bytes()
    ensure_certificates(tmp_path, addresses, NOW + later)
    assert files.ca.read_bytes() == ca
    assert files.server.read_bytes() != server


def test_damaged_files_are_named(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, ADDRESSES, NOW)
    files.server.write_text("rubbish")
    with pytest.raises(LabError, match=str(files.server)):
        ensure_certificates(tmp_path, ADDRESSES, NOW)
