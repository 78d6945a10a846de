# SPDX-License-Identifier: Apache-2.0
"""Whoever sends nonsense loses the connection; everyone else's goes on."""

import random
import socket
import struct

import pytest

from testbed import nvme
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.volumes import Volumes

IC_REQUEST, IC_RESPONSE, C2H_TERMINATE, COMMAND_CAPSULE = 0x00, 0x01, 0x03, 0x04


def _initialize_connection(pdu_length: int = 128, version: int = 0) -> bytes:
    """An ICReq (NVMe/TCP Transport, Initialize Connection Request PDU)."""
    header = struct.pack("<BBBBI", IC_REQUEST, 0, 128, 0, pdu_length)
    return header + struct.pack("<HBBI", version, 0, 0, 0) + bytes(112)


HELLO = _initialize_connection()
NONSENSE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 8,
    "zeroes": bytes(4096),
    "ones": b"\xff" * 4096,
    "random": random.Random(75).randbytes(4096),
    "unknown version": _initialize_connection(version=7),
    "wrong length in ICReq": _initialize_connection(pdu_length=24),
    "huge length in ICReq": _initialize_connection(pdu_length=0xFFFFFFFF),
    "unknown PDU after hello": HELLO + struct.pack("<BBBBI", 0x7F, 0, 8, 0, 8),
    "second hello": HELLO + HELLO,
    "response from the host": HELLO + struct.pack("<BBBBI", 0x05, 0, 24, 0, 24) + bytes(16),
    "capsule longer than allowed": HELLO
    + struct.pack("<BBBBI", COMMAND_CAPSULE, 0, 72, 72, 0x7FFFFFFF)
    + bytes(64),
    "data nobody asked for": HELLO + struct.pack("<BBBBI", 0x06, 0, 24, 24, 32) + bytes(24),
    "command before Connect": HELLO
    + struct.pack("<BBBBI", COMMAND_CAPSULE, 0, 72, 0, 72)
    + struct.pack("<BBHI", 0x02, 0x40, 1, 1)
    + bytes(56),
}


@pytest.mark.parametrize("port_key", ["nvme_port", "discovery_port"])
def test_nonsense_ends_its_own_connection_only(
    connected: KernelHost, lab: Lab, volumes: Volumes, port_key: str
) -> None:
    volume = volumes.create(connected.host_nqn)
    device = nvme.wait_for_device(connected, volume.uuid)
    wait_until(lambda: len(nvme.paths(connected, device)) == 3, "three paths")
    reconnects = _reconnects(connected)

    for address in lab.network.node_addresses:
        for nonsense in NONSENSE.values():
            _send_and_drain(address, lab.info[port_key], nonsense)
        _send_and_drain(address, lab.info[port_key], HELLO[:40])  # cut off in mid-PDU

    assert {p.controller_state for p in nvme.paths(connected, device)} == {"live"}
    assert _reconnects(connected) == reconnects
    connected.run(["dd", f"if={device}", "of=/dev/null", "bs=4k", "count=8", "iflag=direct"])
    nvme.nvme_json(
        connected, "discover", "-t", "tcp", "-a", lab.network.node_addresses[0], "-s", "8009"
    )


@pytest.mark.parametrize("name", [name for name in NONSENSE if name != "command before Connect"])
def test_nonsense_is_answered_by_the_end_of_the_connection(lab: Lab, name: str) -> None:
    address, port = lab.network.node_addresses[0], lab.info["nvme_port"]
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(NONSENSE[name])
        received = _receive_all(connection)  # TimeoutError: the target did not close
    if name.startswith(("unknown PDU", "second hello", "response", "capsule", "data")):
        assert received[:1] == bytes([IC_RESPONSE])
        received = received[128:]
    assert received[:1] in (bytes([C2H_TERMINATE]), b"")  # b"": lost to the reset that followed


def _receive_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(4096):
            received += data
    except ConnectionResetError:
        pass  # the target closed before it had read all that we sent
    return received


def _send_and_drain(address: str, port: int, data: bytes) -> None:
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.settimeout(0.2)
        try:
            connection.sendall(data)
            _receive_all(connection)
        except (TimeoutError, ConnectionError):
            pass  # a target that waits for more, or resets, is within its rights here


def _reconnects(host: KernelHost) -> str:
    """Every message about lost controllers that the kernel has logged."""
    return host.shell("dmesg | grep -ciE 'reconnect|error recovery|failed' || true")
