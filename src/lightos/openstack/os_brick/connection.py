# SPDX-License-Identifier: Apache-2.0
"""The connection properties of a LightOS volume, parsed once.

What Cinder sends as the `data` of a connection_info:

    {"uuid": "<UUID of the volume, and of its namespace>",
     "subsysnqn": "<NQN of the cluster's subsystem>",
     "lightos_nodes": {"<any key>": {"target_portal": "<address>",
                                     "target_port": 8009,
                                     "transport_type": "tcp"}, ...}}

An address may be IPv4, or IPv6 with or without brackets; a port may be a number or a string. A
node without an address, as Cinder's own driver sends one that has no data address yet, is left
out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from os_brick import exception

from lightos.discovery.entries import (
    InvalidEntry,
    validated_address,
    validated_nqn,
    validated_port,
)

REQUESTED_SIZE = "lightos_requested_size_bytes"
"""Key that the Nova driver adds when it asks the connector to extend."""


@dataclass(frozen=True)
class LightOSConnection:
    """A volume and where to find it. `services` are addresses and ports of discovery services."""

    volume_uuid: UUID
    subsystem_nqn: str
    services: tuple[tuple[str, int], ...]

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> "LightOSConnection":
        """Parse what Cinder sent; raises BrickException that names the property at fault."""
        volume_uuid = volume_uuid_of(properties)
        try:
            return cls(
                volume_uuid=volume_uuid,
                subsystem_nqn=validated_nqn(properties.get("subsysnqn"), "subsysnqn"),
                services=_services(properties.get("lightos_nodes")),
            )
        except InvalidEntry as error:
            raise exception.BrickException(
                f"LightOS connection properties of volume {volume_uuid} are malformed: {error}"
            ) from None


def volume_uuid_of(properties: Mapping[str, Any]) -> UUID:
    """The only property that finding and forgetting a volume takes; BrickException without."""
    value = properties.get("uuid") if isinstance(properties, Mapping) else None
    try:
        return UUID(value)
    except (TypeError, ValueError, AttributeError):
        raise exception.BrickException(
            f"LightOS connection properties have no volume UUID: {value!r}"
        ) from None


def _services(nodes: Any) -> tuple[tuple[str, int], ...]:
    found = (_service(node) for node in (nodes.values() if isinstance(nodes, Mapping) else ()))
    services = tuple(dict.fromkeys(filter(None, found)))
    if not services:
        raise InvalidEntry("lightos_nodes names no node with an address")
    return services


def _service(node: Any) -> tuple[str, int] | None:
    if not isinstance(node, Mapping):
        raise InvalidEntry(f"node {node!r} is not a mapping")
    if (transport := node.get("transport_type", "tcp")) != "tcp":
        raise InvalidEntry(f"transport_type {transport!r} is not tcp")
    port = node.get("target_port")
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    address = node.get("target_portal")
    return None if address is None else (validated_address(address), validated_port(port))
