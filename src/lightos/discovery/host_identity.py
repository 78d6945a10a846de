# SPDX-License-Identifier: Apache-2.0
"""Which host id goes with a host NQN.

The two pair one to one (NVMe-oF 1.1, section 1.5.2): Linux 6.5 and later refuses a connect that
pairs either with another partner than a live controller does. So a pair in use wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid5

_NAMESPACE = UUID("6f6b5b6e-9c5c-5b0f-9d6b-2f3c7a1e4d10")
"""For host ids derived from NQNs. Changing it changes the identity of running hosts."""

_UUID_NQN = re.compile(
    r"nqn\.2014-08\.org\.nvmexpress:uuid:"
    r"(?P<uuid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
)


@dataclass(frozen=True)
class HostIdentity:
    """A host NQN with the host id it is used with."""

    host_nqn: str
    host_id: UUID


def host_id_for(
    host_nqn: str,
    *,
    connected: Iterable[HostIdentity],
    requested: UUID | None,
    configured: HostIdentity | None,
) -> UUID:
    """Choose the host id: that of a live controller with this NQN, else the one a file asks
    for, else the machine's own if the NQN is, else the UUID inside the NQN unless something
    else bears it, else one derived from the NQN, which is the same on every run.

    Args:
        connected: pairs that the kernel's controllers use now.
        requested: `-I` of a discovery file.
        configured: /etc/nvme/hostnqn with /etc/nvme/hostid.
    """
    connected = tuple(connected)
    for identity in connected:
        if identity.host_nqn == host_nqn:
            return identity.host_id
    if requested is not None:
        return requested
    if configured is not None and configured.host_nqn == host_nqn:
        return configured.host_id
    match = _UUID_NQN.fullmatch(host_nqn)
    if match:
        candidate = UUID(match["uuid"])
        others = (*connected, configured) if configured else connected
        if all(identity.host_id != candidate for identity in others):
            return candidate
    return uuid5(_NAMESPACE, host_nqn)
