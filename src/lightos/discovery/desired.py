# SPDX-License-Identifier: Apache-2.0
"""From what the files ask for, and what discovery services answer, to the wanted I/O controllers.

Nothing here reads a file, a socket or a clock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from lightos.discovery.entries import (
    DiscoveryEntry,
    InvalidEntry,
    validated_address,
    validated_port,
)

LIGHTOS_DOMAIN = "com.lightbitslabs"
"""In the NQN of every LightOS subsystem."""


@dataclass(frozen=True, order=True)
class Cluster:
    """A subsystem as one host identity sees it. Each has one discovery session."""

    host_nqn: str
    subsystem_nqn: str


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where a service listens: an IP address (or host name) and a TCP port."""

    address: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int) -> Endpoint:
        """Read `ADDRESS`, `ADDRESS:PORT`, an IPv6 address in brackets if a port follows.

        Raises InvalidEntry.
        """
        host, separator, port = text.rpartition(":")
        if not separator or text.endswith("]") or (":" in host and not host.endswith("]")):
            return cls(validated_address(text), default_port)
        if not (port.isascii() and port.isdigit()):
            raise InvalidEntry(f"port {port!r} of {text!r} is not a number")
        return cls(validated_address(host), validated_port(int(port[:6])))

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class RecordKind(enum.Enum):
    """What a discovery log page entry describes (NVM Express Base 2.0, field SUBTYPE)."""

    IO = "io"
    REFERRAL = "referral"


@dataclass(frozen=True, order=True)
class Record:
    """One usable NVMe/TCP entry of a discovery log page, its strings already validated."""

    kind: RecordKind
    endpoint: Endpoint
    subsystem_nqn: str


@dataclass(frozen=True, order=True)
class ControllerPath:
    """What makes an I/O controller of the kernel unique: who connects, to what, where."""

    cluster: Cluster
    endpoint: Endpoint


@dataclass(frozen=True)
class Demand:
    """All that the files together say about one cluster.

    `endpoints` are its discovery services in file order. Where files differ on the host id
    or the controller loss time-out, the first file by name decides.
    """

    endpoints: tuple[Endpoint, ...]
    host_id: UUID | None = None
    ctrl_loss_timeout_seconds: int | None = None


def demands(files: Mapping[str, Iterable[DiscoveryEntry]]) -> dict[Cluster, Demand]:
    """Unite the entries of all files, by file name, into one demand per cluster."""
    result: dict[Cluster, Demand] = {}
    for name in sorted(files):
        for entry in files[name]:
            cluster = Cluster(entry.host_nqn, entry.subsystem_nqn)
            known = result.get(cluster, Demand(()))
            endpoint = Endpoint(entry.address, entry.port)
            timeout = known.ctrl_loss_timeout_seconds
            result[cluster] = Demand(
                endpoints=tuple(dict.fromkeys((*known.endpoints, endpoint))),
                host_id=known.host_id or entry.host_id,
                ctrl_loss_timeout_seconds=(
                    entry.ctrl_loss_timeout_seconds if timeout is None else timeout
                ),
            )
    return result


def discovery_endpoints(
    demand: Demand, logs: Mapping[Endpoint, Iterable[Record]]
) -> tuple[Endpoint, ...]:
    """Every discovery service worth asking: those of the files, then those referred to by these,
    and so on.

    Args:
        demand: what the files say.
        logs: the log that each service answered with last.
    """
    known = list(dict.fromkeys(demand.endpoints))
    for service in known:  # grows while it is walked
        records = logs.get(service, ())
        referred = sorted(r.endpoint for r in records if r.kind is RecordKind.REFERRAL)
        known += [endpoint for endpoint in dict.fromkeys(referred) if endpoint not in known]
    return tuple(known)


def wanted_paths(cluster: Cluster, records: Iterable[Record]) -> frozenset[ControllerPath]:
    """I/O controllers that a discovery log offers of the subsystem that the files name."""
    return frozenset(
        ControllerPath(cluster, record.endpoint)
        for record in records
        if record.kind is RecordKind.IO and record.subsystem_nqn == cluster.subsystem_nqn
    )
