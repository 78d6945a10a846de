# SPDX-License-Identifier: Apache-2.0
"""What passes between Cinder and a host: connectors in, connection properties out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cinder import exception

from lightos.api.models import Cluster, ClusterInfo
from lightos.openstack.cinder.acl import Host, usable

DRIVER_VOLUME_TYPE = "lightos"
DISCOVERY_PORT = 8009
"""Well-known port of NVMe/TCP discovery services (IANA), for endpoints that name none."""

Connector = Mapping[str, Any]


@dataclass(frozen=True)
class Fabric:
    """How hosts find the cluster: its subsystem, and (address, port) of its discovery services."""

    subsystem_nqn: str
    discovery_services: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, cluster: Cluster | ClusterInfo) -> Fabric:
        """Read what the cluster says of itself.

        Every node runs a discovery service, so the NVMe endpoints stand in for a list of
        discovery endpoints that is not there.
        """
        services = [_endpoint(text) for text in cluster.discovery_endpoints]
        if not services and isinstance(cluster, ClusterInfo):
            services = [(_endpoint(text)[0], DISCOVERY_PORT) for text in cluster.nvme_endpoints]
        return cls(cluster.subsystem_nqn, tuple(dict.fromkeys(services)))

    @property
    def addresses(self) -> tuple[str, ...]:
        """The nodes' addresses on the data network."""
        return tuple(address for address, _port in self.discovery_services)

    def connection_info(self, volume_uuid: str) -> dict[str, Any]:
        """What a host needs to connect a volume, in the form that os-brick's connector reads."""
        nodes = {
            address: {"target_portal": address, "target_port": port, "transport_type": "tcp"}
            for address, port in self.discovery_services
        }
        return {
            "driver_volume_type": DRIVER_VOLUME_TYPE,
            "data": {
                "lightos_nodes": nodes,
                "uuid": volume_uuid,
                "subsysnqn": self.subsystem_nqn,
            },
        }


def attaching_host(connector: Connector, *, needs_address: bool) -> Host:
    """The host that a connector describes.

    :raises InvalidConnectorException: when it could not use a volume: no host NQN, no discovery
        client found, or no usable address where one is needed.
    """
    name = connector.get("host", "the host")
    host = host_of(connector)
    if host is None:
        raise exception.InvalidConnectorException(
            missing=f"nqn: {name} has no NVMe host NQN; write one to /etc/nvme/hostnqn"
        )
    if not connector.get("found_dsc"):
        raise exception.InvalidConnectorException(
            missing=f"found_dsc: no LightOS discovery client answers on {name}; start it there"
        )
    if needs_address and not usable(host.addresses):
        raise exception.InvalidConnectorException(
            missing=f"host_ips: {name} has no IP address for the volume's IP ACL; give it one on "
            "the data network, or set lightos_use_ipacl = False"
        )
    return host


def host_of(connector: Connector | None) -> Host | None:
    """The host that a connector names; None when it has no host NQN, so never got access."""
    nqn = (connector or {}).get("nqn")
    return Host(nqn, tuple((connector or {}).get("host_ips") or ())) if nqn else None


def _endpoint(text: str) -> tuple[str, int]:
    """Split `ip:port` or `[ip]:port`; the port may be missing."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or text, parts.port or DISCOVERY_PORT
