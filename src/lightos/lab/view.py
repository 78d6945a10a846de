# SPDX-License-Identifier: Apache-2.0
"""What the NVMe/TCP side of the lab sees of the cluster, and of its blocks.

The target and the discovery service know nothing of REST, projects or names: they ask a
`ClusterView` which namespaces a host may see and which paths are optimized, and they read
and write through a `BlockStore`. Both protocols are the only seam between the three.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from lightos.lab.reservations.rules import Notice, Reservation


class AnaState(enum.IntEnum):
    """Asymmetric namespace access state (NVM Express Base 2.0, figure "ANA Group Descriptor")."""

    OPTIMIZED = 0x01
    NON_OPTIMIZED = 0x02
    INACCESSIBLE = 0x03
    PERSISTENT_LOSS = 0x04
    CHANGE = 0x0F


@dataclass(frozen=True)
class NamespaceView:
    """One namespace as a host sees it; `uuid` is the volume's UUID and the key in the store."""

    nsid: int
    uuid: UUID
    size_bytes: int
    block_size_bytes: int
    ana_group_id: int


@dataclass(frozen=True)
class NodeView:
    """One storage node: a discovery service and an I/O controller on its own address."""

    uuid: UUID
    name: str
    address: str
    controller_id_base: int
    """Controller ids that this node hands out start here; nodes never share an id."""


@dataclass(frozen=True)
class AnaGroup:
    """State of one ANA group on one node. `nsids` lists every namespace of the group."""

    group_id: int
    state: AnaState
    nsids: tuple[int, ...]
    change_count: int


class RateUnit(enum.Enum):
    """What a rate limit counts: commands, or the bytes that they move."""

    COMMANDS = enum.auto()
    BYTES = enum.auto()


@dataclass(frozen=True)
class RateLimit:
    """At most `per_second` of `unit`."""

    per_second: int
    unit: RateUnit


@dataclass(frozen=True)
class RateLimits:
    """What a volume may do, over all nodes and hosts together; None is no limit."""

    read: RateLimit | None = None
    write: RateLimit | None = None


@dataclass(frozen=True)
class ReservationChange:
    """What a change of a namespace's reservation is to hosts: notices, and commands to abort."""

    nsid: int
    notices: tuple[Notice, ...] = ()
    aborted: frozenset[bytes] = frozenset()
    """Identifiers of the hosts whose outstanding commands on the namespace end."""


@dataclass(frozen=True)
class ClusterChange:
    """What a subscriber is told; it then asks the view again, so nothing can be stale.

    `nsids` are namespaces whose visibility, size or identity changed; `ana` says that at
    least one group changed its state; `nodes` that the set of serving nodes changed; `limits`
    that the rate limits of at least one volume did. `reservation` is what hosts have to be told.
    """

    nsids: frozenset[int] = frozenset()
    ana: bool = False
    nodes: bool = False
    limits: bool = False
    reservation: ReservationChange | None = None


class ClusterView(Protocol):
    """The cluster, read-only, as the target and the discovery service need it."""

    @property
    def subsystem_nqn(self) -> str: ...

    @property
    def serial_number(self) -> str: ...

    @property
    def nvme_port(self) -> int: ...

    @property
    def discovery_port(self) -> int: ...

    @property
    def max_namespaces(self) -> int: ...

    @property
    def max_ana_group_id(self) -> int: ...

    @property
    def discovery_generation(self) -> int:
        """Changes whenever `serving_nodes` does (discovery log page GENCTR)."""

    def serving_nodes(self) -> Sequence[NodeView]:
        """Nodes whose controllers answer now."""

    def host_may_connect(self, host_nqn: str, host_address: str) -> bool:
        """Whether a host may connect to the I/O subsystem at all."""

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        """Namespaces whose ACL admits this host NQN from this address, by nsid."""

    def ana_groups(self, node_uuid: UUID) -> Sequence[AnaGroup]:
        """Every ANA group as this node reports it, in ascending group id."""

    def ana_state(self, node_uuid: UUID, ana_group_id: int) -> AnaState:
        """State of one group on one node; called for every I/O, so it must be cheap."""

    def ana_change_count(self) -> int: ...

    def ana_moved_at(self, ana_group_id: int) -> int:
        """`ana_change_count` when the group last got another primary."""

    def rate_limits(self, volume_uuid: UUID) -> RateLimits:
        """What a volume may do now; called for every I/O, so it must be cheap."""

    def reservation(self, volume_uuid: UUID) -> Reservation | None:
        """Who registered with a volume and holds it; called for every I/O, so it must be cheap.

        None where nobody ever did.
        """

    def subscribe(self, listener: Callable[[ClusterChange], None]) -> Callable[[], None]:
        """Call `listener` on the event loop after each change; the result unsubscribes."""


class BlockStore(Protocol):
    """Thin, copy-on-write volumes and snapshots on disk, each named by a UUID.

    Offsets and lengths are bytes, multiples of 512. Reads of what was never written give
    zeroes. Errors: `KeyError` for an unknown UUID, `ValueError` beyond the size, `OSError`
    (`ENOSPC` included) from the disk; a failed write leaves the old or the new content.
    """

    def create_volume(self, uuid: UUID, size_bytes: int) -> None: ...

    def create_snapshot(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None: ...

    def clone_snapshot(self, snapshot_uuid: UUID, volume_uuid: UUID, size_bytes: int) -> None: ...

    def roll_back(self, volume_uuid: UUID, snapshot_uuid: UUID) -> None: ...

    def resize_volume(self, uuid: UUID, size_bytes: int) -> None: ...

    def delete(self, uuid: UUID) -> None:
        """Forget a volume or snapshot; space that nothing else refers to is freed."""

    def uuids(self) -> frozenset[UUID]: ...

    def used_bytes(self, uuid: UUID) -> int:
        """Bytes that this volume or snapshot alone holds on disk."""

    def is_untouched(self, uuid: UUID) -> bool:
        """Whether nothing was written since it was made: to it, or to what a snapshot is of."""

    def total_used_bytes(self) -> int: ...

    def read(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> bytes: ...

    def write(self, uuid: UUID, offset_bytes: int, data: bytes | memoryview) -> None: ...

    def deallocate(self, uuid: UUID, offset_bytes: int, length_bytes: int) -> None:
        """Afterwards the range reads as zeroes and whole extents take no space."""

    def differences(
        self, uuid: UUID, base_uuid: UUID | None, offset_bytes: int
    ) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Where a snapshot does not have its data in common with another one, or has any at all.

        Piece by piece `(position, [(offset, length), ...])`: what was found before `position`,
        from `offset_bytes` on, a multiple of 4096. May block: call in a thread.
        """

    def flush(self, uuid: UUID) -> None:
        """Return once every earlier write is on stable storage. May block: call in a thread."""

    def close(self) -> None: ...
