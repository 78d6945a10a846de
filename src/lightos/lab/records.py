# SPDX-License-Identifier: Apache-2.0
"""What the cluster remembers, as frozen records, and how a record becomes JSON and back."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from lightos.api.models.nodes import NodeState
from lightos.api.models.snapshots import SnapshotState
from lightos.api.models.volumes import PlacementRestriction, ProtectionState, VolumeState
from lightos.api.wire import Model

__all__ = [
    "ClusterRecord",
    "CredentialRecord",
    "GroupRecord",
    "LimitKind",
    "NodeRecord",
    "NodeState",
    "PolicyRecord",
    "ProjectRecord",
    "ProtectionState",
    "Record",
    "RemovalRecord",
    "ReservationRecord",
    "SnapshotRecord",
    "SnapshotState",
    "VolumeRecord",
    "VolumeState",
]


def _decoder(annotation: Any) -> Callable[[Any], Any]:
    """How a field of this type is read from JSON."""
    arguments = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType):
        inner = _decoder(next(a for a in arguments if a is not types.NoneType))
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(annotation) is tuple:
        item = _decoder(arguments[0])
        return lambda values: tuple(item(value) for value in values)
    if annotation is datetime:
        return datetime.fromisoformat
    if issubclass(annotation, Model):
        read: Callable[[Any], Any] = annotation.from_wire
        return read
    decode: Callable[[Any], Any] = annotation
    return decode


def _encode(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Model):
        return value.to_wire()
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


class Record:
    """Base of the records: kept by `kind` and `uuid`."""

    kind: ClassVar[str]
    uuid: UUID

    def to_json(self) -> dict[str, Any]:
        return {
            field.name: _encode(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read a record; fields with a default may be missing, as earlier versions knew none."""
        decoders = _decoders(cls)  # type: ignore[arg-type]
        optional = _optional_fields(cls)  # type: ignore[arg-type]
        names = [name for name in decoders if name in document or name not in optional]
        return cls(**{name: decoders[name](document[name]) for name in names})


@functools.cache
def _decoders(record_type: type[Record]) -> dict[str, Callable[[Any], Any]]:
    hints = typing.get_type_hints(record_type)
    return {
        field.name: _decoder(hints[field.name])
        for field in dataclasses.fields(record_type)  # type: ignore[arg-type]
    }


@functools.cache
def _optional_fields(record_type: type[Record]) -> frozenset[str]:
    return frozenset(
        field.name
        for field in dataclasses.fields(record_type)  # type: ignore[arg-type]
        if field.default is not dataclasses.MISSING
    )


@dataclass(frozen=True)
class ClusterRecord(Record):
    """The identity of the cluster; the subsystem NQN is derived from the UUID."""

    kind: ClassVar[str] = "cluster"
    uuid: UUID
    name: str

    @property
    def subsystem_nqn(self) -> str:
        return f"nqn.2016-01.com.lightbitslabs:uuid:{self.uuid}"

    @property
    def serial_number(self) -> str:
        """20 ASCII characters (NVM Express Base 2.0, Identify Controller, SN)."""
        return self.uuid.hex[:20]


@dataclass(frozen=True)
class ProjectRecord(Record):
    """A tenant's name space for volumes and snapshots."""

    kind: ClassVar[str] = "project"
    uuid: UUID
    name: str
    description: str = ""
    default_policy_uuid: UUID | None = None
    """The QoS policy of new volumes that name none."""


@dataclass(frozen=True)
class CredentialRecord(Record):
    """A public key, as PEM, that tokens of a project (or of `system`) may be signed with."""

    kind: ClassVar[str] = "credential"
    uuid: UUID
    project: str
    name: str
    public_key: str


class LimitKind(enum.StrEnum):
    """What a QoS policy limits, each apart for reads and for writes."""

    IOPS = "iops"
    MB_PER_SECOND = "mb_per_second"
    IOPS_PER_GB = "iops_per_gb"


@dataclass(frozen=True)
class PolicyRecord(Record):
    """A QoS policy; `projects` may use it, every project where there are none."""

    kind: ClassVar[str] = "policy"
    uuid: UUID
    name: str
    description: str
    projects: tuple[str, ...]
    limit: LimitKind
    read_limit: int
    """0: no limit."""
    write_limit: int


@dataclass(frozen=True)
class NodeRecord(Record):
    """One storage node; `index` gives its place in the placement rotations."""

    kind: ClassVar[str] = "node"
    uuid: UUID
    index: int
    name: str
    address: str
    state: NodeState

    @property
    def failure_domain(self) -> str:
        """Each node is one of its own."""
        return self.name


@dataclass(frozen=True)
class GroupRecord(Record):
    """A placement group; kept once nodes joined or left, before that it follows from the nodes."""

    kind: ClassVar[str] = "group"
    uuid: UUID
    group_id: int
    node_uuids: tuple[UUID, ...]


@dataclass(frozen=True)
class VolumeRecord(Record):
    """A volume; `group_id` is its placement group, which is its ANA group."""

    kind: ClassVar[str] = "volume"
    uuid: UUID
    project: str
    name: str
    state: VolumeState
    size_bytes: int
    sector_size_bytes: int
    replica_count: int
    group_id: int
    nsid: int
    acl: tuple[str, ...]
    ip_acl: tuple[str, ...]
    compression: bool
    etag: int
    source_snapshot_uuid: UUID | None
    source_snapshot_name: str
    labels: tuple[tuple[str, ...], ...]
    created_at: datetime
    qos_policy_uuid: UUID | None = None
    placement_restrictions: tuple[PlacementRestriction, ...] = ()


@dataclass(frozen=True)
class RemovalRecord(Record):
    """Blocks of a volume or snapshot that is gone: what removes them may free them.

    Without it, blocks that nothing names may as well be newer than the metadata.
    """

    kind: ClassVar[str] = "removal"
    uuid: UUID


@dataclass(frozen=True)
class ReservationRecord(Record):
    """The reservation of the volume `uuid`, where it is to survive a restart of the lab.

    Registrant by registrant `host_ids`, `host_nqns` and `keys`; type 0 is none held.
    """

    kind: ClassVar[str] = "reservation"
    uuid: UUID
    generation: int
    reservation_type: int
    holder_id: UUID | None
    host_ids: tuple[UUID, ...]
    host_nqns: tuple[str, ...]
    keys: tuple[int, ...]
    persists: bool


@dataclass(frozen=True)
class SnapshotRecord(Record):
    """A snapshot; it takes placement, ACL and labels from its source volume.

    `doomed`: made under the name of a snapshot that is still Deleting, so it ends Failed.
    """

    kind: ClassVar[str] = "snapshot"
    uuid: UUID
    project: str
    name: str
    state: SnapshotState
    doomed: bool
    description: str
    source_volume_uuid: UUID
    source_volume_name: str
    size_bytes: int
    sector_size_bytes: int
    replica_count: int
    group_id: int
    acl: tuple[str, ...]
    ip_acl: tuple[str, ...]
    compression: bool
    etag: int
    labels: tuple[tuple[str, ...], ...]
    created_at: datetime
    retention_seconds: float | None
    placement_restrictions: tuple[PlacementRestriction, ...] = ()
