# SPDX-License-Identifier: Apache-2.0
"""Messages about hosts with connections to the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.wire import STRING, Model, many, message, wired


@dataclass(frozen=True, kw_only=True)
class ConnectedHost(Model, schema="ConnectedHost"):
    """A host that is connected now, and the volumes that it sees."""

    host_nqn: str = wired("hostNQN", STRING)
    ip_address: str = wired("iPAddress", STRING)
    hostname: str = wired("hostname", STRING)
    volume_uuids: tuple[str, ...] = wired("volumeUUIDs", many(STRING))


@dataclass(frozen=True, kw_only=True)
class ListHosts(Model, schema="ListHostsRequest"):
    """Filter: hosts that see a volume. Clusters ignore the NQN."""

    host_nqn: str = wired("hostNQN", STRING)
    volume_uuid: str = wired("volumeUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class ConnectedHostList(Model, schema="ListHostsResponse"):
    """Reply of ListHosts."""

    hosts: tuple[ConnectedHost, ...] = wired("connectedHosts", many(message(ConnectedHost)))


@dataclass(frozen=True, kw_only=True)
class GetHost(Model, schema="GetHostRequest"):
    """Names one host. Gateways do not take a colon here, which nearly every NQN has."""

    host_nqn: str = wired("hostNQN", STRING, required=True)
