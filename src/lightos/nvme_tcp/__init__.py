# SPDX-License-Identifier: Apache-2.0
"""NVMe over Fabrics on TCP, without sockets: bytes in, events out, bytes out.

`Connection` is the wire for either role. A host that just runs commands uses `HostQueue`
with the builders of `commands`; data structures are in `structures`.
"""

from .connection import NEED_DATA, Connection, ConnectionClosed, Settings
from .constants import DISCOVERY_NQN, Role
from .errors import CommandFailed, LocalProtocolError, MalformedStructure, RemoteProtocolError
from .host_queue import HostQueue, Reply
from .pdu import R2T, C2HData, CapsuleCmd, CapsuleResp, H2CData, ICReq, ICResp, TermReq

__all__ = [
    "DISCOVERY_NQN",
    "NEED_DATA",
    "R2T",
    "C2HData",
    "CapsuleCmd",
    "CapsuleResp",
    "CommandFailed",
    "Connection",
    "ConnectionClosed",
    "H2CData",
    "HostQueue",
    "ICReq",
    "ICResp",
    "LocalProtocolError",
    "MalformedStructure",
    "RemoteProtocolError",
    "Reply",
    "Role",
    "Settings",
    "TermReq",
]
