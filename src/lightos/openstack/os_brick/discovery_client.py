# SPDX-License-Identifier: Apache-2.0
"""Whether a discovery client, ours or the vendor's, runs on this host."""

import socket

from oslo_log import log as logging

from lightos.waiting import Deadline

LOG = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
_STATUS_LINE_BYTES = 512


def answers(address: str, port: int, deadline: Deadline) -> bool:
    """Whether `HEAD /metrics` gets a 200 before the deadline, which looking a name up may pass.

    By hand: HTTP libraries limit each read and each address, not the whole, so a peer that sends
    a byte a second holds them as long as it likes.
    """
    host = f"[{address}]" if ":" in address else address
    request = f"HEAD /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    try:
        with _connected(address, port, deadline) as connection:
            connection.sendall(request.encode())
            reply = b""
            while b"\r\n" not in reply and len(reply) < _STATUS_LINE_BYTES:
                connection.settimeout(_left(deadline))
                received = connection.recv(_STATUS_LINE_BYTES)
                if not received:
                    break
                reply += received
    except OSError as error:
        LOG.debug("No LightOS discovery client at %s:%s: %s", host, port, error)
        return False
    words = reply.partition(b"\r\n")[0].split()
    return len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1] == b"200"


def _connected(address: str, port: int, deadline: Deadline) -> socket.socket:
    """To the first of a host's addresses that takes it; OSError.

    Nothing limits getaddrinfo, so the option asks for a name that needs no name server.
    """
    refused: OSError | None = None
    for family, kind, protocol, _, peer in socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(peer)
        except OSError as error:
            connection.close()
            refused = error
        else:
            return connection
    raise refused or OSError("it has no address")


def _left(deadline: Deadline) -> float:
    if deadline.expired:
        raise TimeoutError("no answer in time")
    return deadline.remaining()
