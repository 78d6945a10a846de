# SPDX-License-Identifier: Apache-2.0
"""Who may reach a volume. Pure: the lists that are, and the lists that shall be.

A volume has two lists and a host must pass both: host NQNs (`acl`) and IP addresses (`IPAcl`).
`ALLOW_ANY` and `ALLOW_NONE` stand alone, and an emptied list must be written as `ALLOW_NONE`.

The lists are rewritten around what is in them, because other writers (another cinder-volume,
the operator) may have put entries there. Only this driver's switch from an open list to a
closed one needs more: it admits the hosts that Cinder has attachments for, the `neighbours`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE

MAX_ADDRESSES = 16
"""Entries that the cluster takes in an IP ACL."""

ANYONE = (ALLOW_ANY,)
NOBODY = (ALLOW_NONE,)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


MAX_ADDRESSES_PER_HOST = MAX_ADDRESSES // 2
"""So that two hosts fit whatever addresses they have: a live migration needs both."""


class NoRoom(ValueError):
    """The host cannot be admitted without taking an address from another one."""


@dataclass(frozen=True)
class Host:
    """A host as its connector describes it: NQN, and addresses in the order it names them."""

    nqn: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Access:
    """The two lists of a volume, as the management API holds them."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...]


def closed(*, filter_addresses: bool) -> Access:
    """Nobody has access."""
    return Access(NOBODY, NOBODY if filter_addresses else ANYONE)


def admit(
    access: Access,
    host: Host,
    *,
    neighbours: Iterable[Host] = (),
    filter_addresses: bool,
    data_addresses: Iterable[str] = (),
    networks: Sequence[Network] = (),
) -> Access:
    """The lists with `host` in them, and with everyone who was admitted before.

    `data_addresses` are the cluster's own: of a host with more addresses than there is room
    for, those nearest to them are taken. With `networks`, no address outside them is.

    :raises NoRoom: when none of the host's addresses fits.
    """
    neighbours = tuple(neighbours)
    hosts = _named(access.hosts, (neighbour.nqn for neighbour in neighbours))
    hosts = tuple(dict.fromkeys((*hosts, host.nqn)))
    if not filter_addresses:
        return Access(hosts, ANYONE)

    targets = tuple(data_addresses)
    own = nearest_first(usable(host.addresses, networks), targets)[:MAX_ADDRESSES_PER_HOST]
    if not own:
        raise NoRoom(f"host {host.nqn} has no IP address that could be admitted")
    taken = _addresses_to_keep(access, neighbours, targets, networks)
    new = [address for address in own if address not in taken]
    addresses = (*taken, *new[: max(MAX_ADDRESSES - len(taken), 0)])
    if own[0] not in addresses:
        raise NoRoom(
            f"{len(taken)} addresses of other hosts are in the IP ACL, which holds at most "
            f"{MAX_ADDRESSES}: none is left for {own[0]} of host {host.nqn}"
        )
    return Access(hosts, addresses)


def dismiss(
    access: Access, host: Host, *, neighbours: Iterable[Host] = (), filter_addresses: bool
) -> Access:
    """The lists without `host`; an address that a neighbour has too stays."""
    if host.nqn not in access.hosts and ALLOW_ANY not in access.hosts:
        return access
    neighbours = tuple(neighbour for neighbour in neighbours if neighbour.nqn != host.nqn)
    hosts = _named(access.hosts, (neighbour.nqn for neighbour in neighbours))
    hosts = tuple(nqn for nqn in hosts if nqn != host.nqn)
    if not hosts:
        return closed(filter_addresses=filter_addresses)
    if not filter_addresses:
        return Access(hosts, ANYONE)
    shared = {address for neighbour in neighbours for address in usable(neighbour.addresses)}
    leaving = set(usable(host.addresses)) - shared
    return Access(hosts, tuple(a for a in access.addresses if a not in leaving) or NOBODY)


def usable(addresses: Iterable[str], networks: Sequence[Network] = ()) -> tuple[str, ...]:
    """The addresses that can carry data, normalised and once each; text that is none is left out.

    Loopback, link-local, multicast and unspecified addresses never reach a storage node. With
    `networks`, neither do addresses outside them.
    """
    return tuple(
        dict.fromkeys(
            str(address)
            for address in map(_parse, addresses)
            if address is not None
            and not address.is_loopback
            and not address.is_link_local
            and not address.is_multicast
            and not address.is_unspecified
            and (not networks or any(address in network for network in networks))
        )
    )


def nearest_first(addresses: Iterable[str], data_addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted by the smallest subnet shared with a data address, then by number."""
    targets = [target for target in map(_parse, data_addresses) if target is not None]

    def rank(text: str) -> tuple[int, int, int]:
        address = ipaddress.ip_address(text)
        host_bits = min((_host_bits(address, target) for target in targets), default=0)
        return host_bits, address.version, int(address)

    return tuple(sorted(addresses, key=rank))


def _named(entries: tuple[str, ...], neighbours: Iterable[str]) -> tuple[str, ...]:
    """The entries without the two special ones; an open list becomes the neighbours."""
    if ALLOW_ANY in entries:
        return tuple(dict.fromkeys(neighbours))
    return tuple(entry for entry in entries if entry != ALLOW_NONE)


def _addresses_to_keep(
    access: Access,
    neighbours: tuple[Host, ...],
    data_addresses: tuple[str, ...],
    networks: Sequence[Network],
) -> tuple[str, ...]:
    """The addresses that are in the list; of an open list, those of the neighbours.

    :raises NoRoom: when some neighbour of an open list would be left without an address.
    """
    if ALLOW_ANY not in access.addresses:
        return tuple(address for address in access.addresses if address != ALLOW_NONE)
    queues = [
        nearest_first(usable(host.addresses, networks), data_addresses) for host in neighbours
    ]
    # Every neighbour gets its nearest address before any gets a second one.
    ranks = range(max(map(len, queues), default=0))
    in_turn = (queue[rank] for rank in ranks for queue in queues if rank < len(queue))
    kept = tuple(dict.fromkeys(in_turn))[: MAX_ADDRESSES - 1]
    cut_off = [
        host.nqn
        for host, queue in zip(neighbours, queues, strict=True)
        if not queue or queue[0] not in kept
    ]
    if cut_off:
        raise NoRoom(f"the IP ACL is open and closing it would cut off {', '.join(cut_off)}")
    return kept


def _parse(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _host_bits(one: IPAddress, other: IPAddress) -> int:
    """Bits that the smallest subnet with both leaves to its hosts."""
    if one.version != other.version:
        return ipaddress.IPV6LENGTH + 1
    return (int(one) ^ int(other)).bit_length()
