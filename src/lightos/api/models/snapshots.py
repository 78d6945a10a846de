# SPDX-License-Identifier: Apache-2.0
"""Messages about snapshots, and the blocks in which two of them differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lightos.api.models.values import DESCRIPTION, PAGE_LIMIT, STRINGS, Label
from lightos.api.wire import (
    BOOLEAN,
    BYTES,
    DURATION,
    INT64,
    STRING,
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

CHANGED_BLOCKS_ALIGNMENT: Final = 64
"""Clusters round the offset of ListChangedBlocks, in logical blocks, down to a multiple of this."""


class SnapshotState(WireEnum, schema="Snapshot.StateEnum"):
    """Life of a snapshot; one with clones may stay Deleting until they are gone."""

    UNKNOWN = 0, "Unknown"
    CREATING = 1, "Creating"
    AVAILABLE = 2, "Available"
    DELETING = 3, "Deleting"
    DELETED = 4, "Deleted"
    FAILED = 7, "Failed"


@dataclass(frozen=True, kw_only=True)
class SnapshotStatistics(Model, schema="SnapshotStatisticsApi"):
    """Space that a snapshot uses, in bytes."""

    physical_capacity_bytes: int = wired("physicalCapacity", UINT64)
    physical_owned_capacity_bytes: int = wired("physicalOwnedCapacity", UINT64)
    physical_owned_memory_bytes: int = wired("physicalOwnedMemory", UINT64)
    physical_memory_bytes: int = wired("physicalMemory", UINT64)
    user_written_bytes: int = wired("userWritten", UINT64)


@dataclass(frozen=True, kw_only=True)
class Snapshot(Model, schema="Snapshot"):
    """A snapshot; `compression` is a boolean on the wire here, and text in Volume."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    project: str = wired("projectName", STRING)
    state: SnapshotState = wired("state", enumeration(SnapshotState, unknown=SnapshotState.UNKNOWN))
    description: str = wired("description", STRING)
    creation_time: datetime | None = wired("creationTime", TIMESTAMP)
    retention_time: timedelta | None = wired("retentionTime", DURATION)
    source_volume_uuid: str = wired("sourceVolumeUUID", STRING)
    source_volume_name: str = wired("sourceVolumeName", STRING)
    size_bytes: int = wired("size", UINT64)
    replica_count: int = wired("replicaCount", UINT32)
    compression: bool = wired("compression", BOOLEAN)
    acl: tuple[str, ...] = wired("acl", STRINGS)
    ip_acl: tuple[str, ...] = wired("IPAcl", STRINGS)
    etag: str = wired("ETag", STRING)
    nsid: int = wired("nsid", UINT32)
    primary_node_uuid: str = wired("primaryNodeUUID", STRING)
    node_uuids: tuple[str, ...] = wired("nodeList", many(STRING))
    sector_size_bytes: int = wired("sectorSize", UINT32)
    statistics: SnapshotStatistics | None = wired("statistics", message(SnapshotStatistics))
    labels: tuple[Label, ...] = wired("labels", many(message(Label)))
    cluster_id: str = wired("clusterId", STRING)
    protection_group_uuid: str = wired("pgUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class CreateSnapshot(Model, schema="CreateSnapshotRequest"):
    """A snapshot to take of a volume, named by UUID or by name."""

    name: str = wired("name", STRING, required=True)
    source_volume_uuid: str = wired("sourceVolumeUUID", STRING)
    source_volume_name: str = wired("sourceVolumeName", STRING)
    project: str = wired("projectName", STRING, required=True)
    retention_time: timedelta | None = wired("retentionTime", DURATION)
    description: str = wired("description", STRING, limits=DESCRIPTION)


@dataclass(frozen=True, kw_only=True)
class GetSnapshot(Model, schema="GetSnapshotRequest"):
    """Names one snapshot, by `Name` (capital N) where the UUID is empty."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ListSnapshots(Model, schema="ListSnapshotsRequest"):
    """Filter and page; `offset_uuid` is exclusive, Deleting ones need `show_all`."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING)
    name: str = wired("Name", STRING)
    offset_uuid: str = wired("offsetUUID", STRING)
    limit: int = wired("limit", INT64, limits=PAGE_LIMIT)
    show_all: bool = wired("showAll", BOOLEAN, limits={"x-default": False})


@dataclass(frozen=True, kw_only=True)
class SnapshotList(Model, schema="ListSnapshotsResponse"):
    """Reply of ListSnapshots: one page."""

    snapshots: tuple[Snapshot, ...] = wired("snapshots", many(message(Snapshot)))


@dataclass(frozen=True, kw_only=True)
class DeleteSnapshot(Model, schema="DeleteSnapshotRequest"):
    """Names the snapshot to delete."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("UUID", STRING, required=True)
    name: str = wired("name", STRING)


@dataclass(frozen=True, kw_only=True)
class SnapshotDeleted(Model, schema="DeleteSnapshotResponse"):
    """Empty: the delete was accepted; the snapshot is gone when GetSnapshot answers 404."""


@dataclass(frozen=True, kw_only=True)
class ListChangedBlocks(Model, schema="ListChangedBlocksRequest"):
    """Names a snapshot, and the one to compare it with; without a base all its data counts."""

    project: str = wired("projectName", STRING, required=True)
    uuid: str = wired("snapshotUUID", STRING)
    name: str = wired("snapshotName", STRING)
    base_uuid: str = wired("baseSnapshotUUID", STRING)
    base_name: str = wired("baseSnapshotName", STRING)
    offset_lba: int = wired(
        "offsetLBA", UINT64, limits={"x-aligned-down-to": CHANGED_BLOCKS_ALIGNMENT}
    )


@dataclass(frozen=True, kw_only=True)
class LbaRange(Model, schema="LBARange"):
    """Logical blocks of a snapshot that may differ from its base.

    The API says neither how long a block is, nor whether `lba_end` is one of the range's own,
    nor what the bits of `data_bitmap` stand for.
    """

    lba_start: int = wired("lbaStart", UINT64)
    lba_end: int = wired("lbaEnd", UINT64)
    data_bitmap: bytes = wired("dataBitMap", BYTES)


@dataclass(frozen=True, kw_only=True)
class ChangedBlocks(Model, schema="ListChangedBlocksResponse"):
    """Reply of ListChangedBlocks: one page; `next_offset_lba` is 0 on the last one."""

    next_offset_lba: int = wired("nextOffsetLBA", UINT64)
    ranges: tuple[LbaRange, ...] = wired("lbaRanges", many(message(LbaRange)))
