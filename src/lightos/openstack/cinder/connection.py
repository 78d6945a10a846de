# SPDX-License-Identifier: Apache-2.0
"""What passes between Cinder and a host: connectors in, connection properties out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cinder import exception

from lightos.api.endpoints import split_endpoint
from lightos.api.models.cluster import Cluster, ClusterInfo
from lightos.openstack.cinder.acl import Host, Network, usable

DRIVER_VOLUME_TYPE = "lightos"
DISCOVERY_PORT = 8009
"""Well-known port of NVMe/TCP discovery services (IANA), for endpoints that name none."""

_NQN = re.compile(r"(?!ALLOW_)[!#-\[\]-~]{1,223}")
"""What may stand in an access list for a host. NVM Express Base 2.0, section 4.5 "NVMe Qualified
Names": at most 223 bytes. Users may send connectors too, and theirs must not be one of the list's
special entries (ALLOW_ANY). Whether it is a good NQN is for the host and the cluster to say."""

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
        services = [split_endpoint(text, DISCOVERY_PORT) for text in cluster.discovery_endpoints]
        if not services and isinstance(cluster, ClusterInfo):
            nodes = [split_endpoint(text, DISCOVERY_PORT)[0] for text in cluster.nvme_endpoints]
            services = [(address, DISCOVERY_PORT) for address in nodes]
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


def attaching_host(
    connector: Connector, *, needs_address: bool, networks: Sequence[Network] = ()
) -> Host:
    """The host that a connector describes.

    :raises InvalidConnectorException: when it could not use a volume: no host NQN, no discovery
        client found, or no usable address (in `networks`, if there are any) where one is needed.
    """
    name = connector.get("host", "the host")
    host = host_of(connector)
    if host is None:
        raise exception.InvalidConnectorException(
            missing=f"nqn: {name} has no NVMe host NQN; write one to /etc/nvme/hostnqn"
        )
    if not isinstance(host.nqn, str) or not _NQN.fullmatch(host.nqn):
        raise exception.InvalidConnectorException(
            missing=f"nqn: the NVMe host NQN of {name} is not an NQN (up to 223 characters of "
            "ASCII, no spaces or quotes); correct /etc/nvme/hostnqn"
        )
    if not connector.get("found_dsc"):
        raise exception.InvalidConnectorException(
            missing=f"found_dsc: no LightOS discovery client answers on {name}; start it there"
        )
    if needs_address and not usable(host.addresses, networks):
        wanted = f"lightos_data_networks ({', '.join(map(str, networks))})" if networks else ""
        raise exception.InvalidConnectorException(
            missing=f"host_ips: {name} has no IP address {f'in {wanted} ' if wanted else ''}for "
            "the volume's IP ACL; give it one on the data network, or set "
            "lightos_use_ipacl = False"
        )
    return host


def host_of(connector: Connector | None) -> Host | None:
    """The host that a connector names; None when it has no host NQN, so never got access."""
    nqn = (connector or {}).get("nqn")
    return Host(nqn, tuple((connector or {}).get("host_ips") or ())) if nqn else None


def is_same_machine(one: Connector, other: Connector) -> bool:
    """Whether two connectors with one host NQN come from one machine, perhaps renamed since.

    Cloned machines have the same files, and so the same NQN, host id and iSCSI name. What tells
    them apart is the name; else the system UUID (DMI), where both have one; else the address.
    """
    if _name(one) == _name(other):
        return True
    if one.get("system uuid") and other.get("system uuid"):
        return str(one["system uuid"]).lower() == str(other["system uuid"]).lower()
    return bool(one.get("ip")) and one["ip"] == other.get("ip")


def same_nqn_on_two_machines(
    connector: Connector, other: Connector
) -> exception.InvalidConnectorException:
    """The refusal of a host whose NQN another attached host has."""
    return exception.InvalidConnectorException(
        f"Hosts {_described(connector)} and {_described(other)} have the same NVMe host NQN "
        f"{connector['nqn']}, so the cluster could not tell them apart and each would reach the "
        f"other's volumes. Nothing was attached to {connector.get('host')}. Give one of them an "
        "NQN and host id of its own (nvme gen-hostnqn > /etc/nvme/hostnqn; uuidgen > "
        "/etc/nvme/hostid) and restart its services."
    )


def _name(connector: Connector) -> str:
    return str(connector.get("host") or "").lower()


def _described(connector: Connector) -> str:
    return f"{connector.get('host')} ({connector.get('ip') or 'no IP address'})"
