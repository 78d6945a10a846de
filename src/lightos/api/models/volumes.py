# SPDX-License-Identifier: Apache-2.0
"""Messages about volumes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lightos.api.models.values import ACL, ALLOW_ANY, OBJECT_NAME, PAGE_LIMIT, STRINGS, Label
from lightos.api.wire import (
    BOOLEAN,
    COMPRESSION_OFF,
    COMPRESSION_ON,
    DOUBLE,
    INT64,
    SIZE,
    SIZE_ON_CREATE,
    STRING,
    SWITCH,
    TIMESTAMP,
    UINT32,
    UINT64,
    Model,
    WireEnum,
    enumeration,
    many,
    message,
    wired,
)

SIZE_GRANULARITY_BYTES: Final = 4096
"""Clusters round the size of a volume up to a multiple of this."""
COMPRESSION_WORDS = {"x-accepted-values": [*COMPRESSION_ON, *COMPRESSION_OFF]}
QOS_ONE_OF = {"x-oneof": "qosPolicyID"}


class VolumeState(WireEnum, schema="Volume.StateEnum"):
    """Life of a volume. Creating, Deleting, Updating, Rollback and Migrating pass by themselves.

    Updating still serves I/O, but a further update or delete is refused with 503. Migrating is
    internal and as good as Available. Failed is final.
    """

    UNKNOWN = 0, "Unknown"
    CREATING = 1, "Creating"
    AVAILABLE = 2, "Available"
    DELETING = 3, "Deleting"
    DELETED = 4, "Deleted"
    FAILED = 7, "Failed"
    UPDATING = 8, "Updating"
    ROLLBACK = 9, "Rollback"
    MIGRATING = 10, "Migrating"


class ProtectionState(WireEnum, schema="ProtectionStateEnum"):
    """How many replicas of a volume are in step; Unknown only while it is created."""

    UNKNOWN = 0, "Unknown"
    FULLY_PROTECTED = 1, "FullyProtected"
    DEGRADED = 2, "Degraded"
    READ_ONLY = 3, "ReadOnly"
    NOT_AVAILABLE = 4, "NotAvailable"


class SectorSize(WireEnum, schema="CreateVolumeRequest.SectorSizeEnum"):
    """Sector size asked for on create; the number is bytes."""

    DEFAULT = 0, "sectorSize_Default"
    BYTES_512 = 512, "sectorSize_512B"
    BYTES_4096 = 4096, "sectorSize_4K"


class MatchOperator(WireEnum, schema="LabelMatchExpression.Operator"):
    """How a placement restriction compares."""

    UNKNOWN = 0, "Unknown"
    IN = 1, "In"


class MatchKey(WireEnum, schema="LabelValueKeyPair.Key"):
    """What a placement restriction looks at; FD is a failure domain."""

    UNKNOWN = 0, "Unknown"
    FD = 1, "FD"
    PRIMARY_FD = 2, "PrimaryFD"
    CLUSTER_ID = 3, "ClusterID"


@dataclass(frozen=True, kw_only=True)
class MatchPair(Model, schema="LabelValueKeyPair"):
    """One thing that a placement restriction matches."""

    key: MatchKey = wired("key", enumeration(MatchKey))
    value: str = wired("value", STRING)


@dataclass(frozen=True, kw_only=True)
class PlacementRestriction(Model, schema="LabelMatchExpression"):
    """Where a volume of one replica may be placed."""

    operator: MatchOperator = wired("operator", enumeration(MatchOperator))
    pairs: tuple[MatchPair, ...] = wired("labelValueKeyPairs", many(message(MatchPair)))


@dataclass(frozen=True, kw_only=True)
class VolumeStatistics(Model, schema="VolumeStatisticsApi"):
    """Space that a volume uses, in bytes, and its data integrity counters."""

    logical_used_bytes: int = wired("logicalUsedStorage", UINT64)
    physical_used_bytes: int = wired("physicalUsedStorage", UINT64)
    compression_ratio: float = wired("compressionRatio", DOUBLE)
    total_compression_ratio: float = wired("totalCompressionRatio", DOUBLE)
    physical_capacity_bytes: int = wired("physicalCapacity", UINT64)
    physical_owned_capacity_bytes: int = wired("physicalOwnedCapacity", UINT64)
    physical_owned_memory_bytes: int = wired("physicalOwnedMemory", UINT64)
    physical_memory_bytes: int = wired("physicalMemory", UINT64)
    user_written_bytes: int = wired("userWritten", UINT64)
    unrecoverable_integrity_errors: int = wired("unrecoverableDataIntegrityErrors", UINT32)
    recoverable_integrity_errors: int = wired("recoverableDataIntegrityErrors", UINT32)


@dataclass(frozen=True, kw_only=True)
class Volume(Model, schema="Volume"):
    """A volume; its UUID is also the UUID of its NVMe namespace, `nsid`."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING, limits=OBJECT_NAME)
    project: str = wired("projectName", STRING)
    state: VolumeState = wired("state", enumeration(VolumeState, unknown=VolumeState.UNKNOWN))
    protection_state: ProtectionState = wired(
        "protectionState", enumeration(ProtectionState, unknown=ProtectionState.UNKNOWN)
    )
    size_bytes: int = wired("size", UINT64)
    replica_count: int = wired("replicaCount", UINT32, limits={"x-valid-values": [1, 2, 3]})
    compression: bool = wired("compression", SWITCH, default=False)
    acl: tuple[str, ...] = wired("acl", STRINGS)
    ip_acl: tuple[str, ...] = wired("IPAcl", STRINGS)
    etag: str = wired("ETag", STRING)
    nsid: int = wired("nsid", UINT32)
    primary_node_uuid: str = wired("primaryNodeUUID", STRING)
    node_uuids: tuple[str, ...] = wired("nodeList", many(STRING))
    sector_size_bytes: int = wired("sectorSize", UINT32, limits={"x-valid-values": [512, 4096]})
    source_snapshot_uuid: str = wired("sourceSnapshotUUID", STRING)
    source_snapshot_name: str = wired("sourceSnapshotName", STRING)
    placement_restrictions: tuple[PlacementRestriction, ...] = wired(
        "placementRestrictions", many(message(PlacementRestriction))
    )
    qos_policy_uuid: str = wired("qosPolicyUUID", STRING)
    qos_policy_name: str = wired("qosPolicyName", STRING)
    labels: tuple[Label, ...] = wired("labels", many(message(Label)))
    creation_time: datetime | None = wired("creationTime", TIMESTAMP)
    statistics: VolumeStatistics | None = wired("statistics", message(VolumeStatistics))
    connected_hosts: tuple[str, ...] = wired("connectedHosts", many(STRING))
    rebuild_progress: str = wired("rebuildProgress", STRING)
    cluster_id: str = wired("clusterId", STRING)
    protection_group_uuid: str = wired("pgUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class CreateVolume(Model, schema="CreateVolumeRequest"):
    """A volume to make, empty or from a snapshot; the QoS policy goes by UUID or by name."""

    name: str = wired("name", STRING, required=True, limits=OBJECT_NAME)
    size_bytes: int | None = wired(
        "size",
        SIZE_ON_CREATE,
        required=True,
        limits={"x-examples": ["10737418240", "10737418240b", "10 gib"]},
    )
    acl: tuple[str, ...] = wired("acl", STRINGS, required=True, limits=ACL)
    replica_count: int = wired(
        "replicaCount", UINT32, required=True, limits={"minimum": 1, "maximum": 3}
    )
    compression: bool = wired(
        "compression",
        SWITCH,
        default=False,
        limits={**COMPRESSION_WORDS, "x-default": "disabled"},
    )
    ip_acl: tuple[str, ...] = wired("IPAcl", STRINGS, limits={**ACL, "x-default": ALLOW_ANY})
    min_replicas: int = wired("minReplicas", UINT32)
    sector_size: SectorSize = wired(
        "sectorSize", enumeration(SectorSize), limits={"x-default": "sectorSize_4K"}
    )
    project: str = wired("projectName", STRING, required=True)
    source_snapshot_uuid: str = wired("sourceSnapshotUUID", STRING)
    source_snapshot_name: str = wired("sourceSnapshotName", STRING)
    placement_restrictions: tuple[PlacementRestriction, ...] = wired(
        "placementRestrictions", many(message(PlacementRestriction))
    )
    qos_policy_uuid: str = wired("qosPolicyUUID", STRING, limits=QOS_ONE_OF)
    qos_policy_name: str = wired("qosPolicyName", STRING, limits=QOS_ONE_OF)
    labels: tuple[Label, ...] = wired("labels", many(message(Label)), limits={"maxItems": 16})


@dataclass(frozen=True, kw_only=True)
class UpdateVolume(Model, schema="UpdateVolumeRequest"):
    """What to change; None stays as it is. Labels, where given, replace all labels.

    An empty QoS policy, UUID or name, takes the volume back to its project's default policy,
    which the volume then shows; where there is none, it has no limits.
    """

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("name", STRING)
    """Names the volume where `uuid` is empty; see `new_name` for a rename."""
    acl: tuple[str, ...] | None = wired("acl", STRINGS, default=None, limits=ACL)
    ip_acl: tuple[str, ...] | None = wired("IPAcl", STRINGS, default=None, limits=ACL)
    size_bytes: int | None = wired("size", SIZE, limits={"x-examples": ["10737418240", "10 gib"]})
    compression: bool | None = wired("compression", SWITCH, limits=COMPRESSION_WORDS)
    qos_policy_uuid: str | None = wired("qosPolicyUUID", STRING, default=None, limits=QOS_ONE_OF)
    qos_policy_name: str | None = wired("qosPolicyName", STRING, default=None, limits=QOS_ONE_OF)
    force: bool = wired("Force", BOOLEAN)
    """Allows a smaller size."""
    labels: tuple[Label, ...] = wired("labels", many(message(Label)), limits={"maxItems": 16})
    new_name: str = wired("newName", STRING, limits=OBJECT_NAME)


@dataclass(frozen=True, kw_only=True)
class GetVolume(Model, schema="GetVolumeRequest"):
    """Names one volume, by name where the UUID is empty."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("name", STRING)


@dataclass(frozen=True, kw_only=True)
class ListVolumes(Model, schema="ListVolumeRequest"):
    """Filter and page; `offset_uuid` is exclusive, Deleting ones need `show_all`."""

    project: str = wired("projectName", STRING)
    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    failure_domain: str = wired("failureDomain", STRING)
    offset_uuid: str = wired("offsetUUID", STRING)
    limit: int = wired("limit", INT64, limits=PAGE_LIMIT)
    snapshot_uuid: str = wired("snapshotUUID", STRING)
    show_all: bool = wired("showAll", BOOLEAN, limits={"x-default": False})


@dataclass(frozen=True, kw_only=True)
class VolumeList(Model, schema="ListVolumesResponse"):
    """Reply of ListVolumes: one page."""

    volumes: tuple[Volume, ...] = wired("volumes", many(message(Volume)))


@dataclass(frozen=True, kw_only=True)
class DeleteVolume(Model, schema="DeleteVolumeRequest"):
    """Names the volume to delete."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("name", STRING)


@dataclass(frozen=True, kw_only=True)
class RollbackVolume(Model, schema="RollbackVolumeRequest"):
    """Names a volume and the snapshot that its content goes back to."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("Name", STRING)
    source_snapshot_uuid: str = wired("srcSnapshotUUID", STRING)
    source_snapshot_name: str = wired("srcSnapshotName", STRING)


@dataclass(frozen=True, kw_only=True)
class VolumeUpdated(Model, schema="UpdateVolumeResponse"):
    """Empty: the update was accepted."""


@dataclass(frozen=True, kw_only=True)
class VolumeDeleted(Model, schema="DeleteVolumeResponse"):
    """Empty: the delete was accepted; the volume is gone when GetVolume answers 404."""


@dataclass(frozen=True, kw_only=True)
class VolumeRolledBack(Model, schema="RollbackVolumeResponse"):
    """Empty: the rollback was accepted."""
