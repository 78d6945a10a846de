# SPDX-License-Identifier: Apache-2.0
"""The addresses of nodes and hosts. Pure."""

from __future__ import annotations

import ipaddress

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def normal_address(address: str) -> str:
    """One spelling per host address: no zone, no IPv4-in-IPv6. ValueError for anything else."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def address_violation(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, allow_public: bool
) -> str:
    """Why a node cannot have an address, in words; empty where it can."""
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        return f"{address} is no address of one node"
    if not (allow_public or address.is_loopback or address.is_private):
        return (
            f"{address} is a public address, and the lab is not made for open networks: choose a "
            "loopback or private one, or start the lab with --allow-public-addresses"
        )
    return ""
