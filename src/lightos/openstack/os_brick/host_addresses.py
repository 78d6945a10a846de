# SPDX-License-Identifier: Apache-2.0
"""Which of this host's addresses LightOS may see it from. Pure."""

import ipaddress
import re
from collections.abc import Iterable

_VIRTUAL_INTERFACE = re.compile(
    r"lo|docker.*|podman.*|br-[0-9a-f]{12}|veth.*|virbr.*|vnet.*|lxcbr.*|lxdbr.*|cni.*|flannel.*"
    r"|cali.*|cilium.*|kube-.*|nodelocaldns|tap.*|qbr.*|qvb.*|qvo.*|qr-.*|qg-.*|ovs-system"
)
"""Interfaces that lead to guests and containers, never to storage."""


def data_addresses(
    interfaces: Iterable[tuple[str, str]], networks: Iterable[str] = ()
) -> list[str]:
    """Choose among (interface name, address) pairs; in order, without duplicates.

    With `networks` (CIDR) the addresses inside them, else all but loopback, link-local and
    those of interfaces for guests and containers. What is no IP address (a MAC) is dropped.

    Raises:
        ValueError: one of `networks` is not a network.
    """
    allowed = [ipaddress.ip_network(network, strict=False) for network in networks]
    chosen: dict[str, None] = {}
    for interface, text in interfaces:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            continue
        if address.is_loopback or address.is_link_local or address.is_unspecified:
            continue
        if allowed:
            if not any(address in network for network in allowed):
                continue
        elif _VIRTUAL_INTERFACE.fullmatch(interface):
            continue
        chosen[str(address)] = None
    return list(chosen)
