# SPDX-License-Identifier: Apache-2.0
"""Messages about storage nodes."""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.wire import (
    BOOLEAN,
    DOUBLE,
    INT32,
    STRING,
    UINT32,
    UINT64,
    Model,
    WireEnum,
    enumeration,
    many,
    message,
    wired,
)


class NodeState(WireEnum, schema="DurosNodeInfo.State"):
    """Life of a node; only Active serves. There is no 5."""

    UNKNOWN = 0, "Unknown"
    ACTIVE = 1, "Active"
    ACTIVATING = 2, "Activating"
    INACTIVE = 3, "Inactive"
    UNATTACHED = 4, "Unattached"
    ATTACHING = 6, "Attaching"
    DETACHING = 7, "Detaching"


class NodeStatus(WireEnum, schema="DurosNodeInfo.StatusEnum"):
    """Whether a node sees its peers."""

    NO_STATUS = 0, "NoStatus"
    CONNECTIVITY_OK = 1, "ConnectivityOK"
    CONNECTIVITY_PROBLEM = 2, "ConnectivityProblem"
    ISSUED_DELETE_PEER = 3, "IssuedDeletePeer"


@dataclass(frozen=True, kw_only=True)
class NodeStatistics(Model, schema="NodeStatisticsApi"):
    """Capacity of one node in bytes, and its data integrity counters."""

    managed_physical_bytes: int = wired("managedPhysicalStorage", UINT64)
    effective_physical_bytes: int = wired("effectivePhysicalStorage", UINT64)
    logical_bytes: int = wired("logicalStorage", UINT64)
    logical_used_bytes: int = wired("logicalUsedStorage", UINT64)
    physical_used_bytes: int = wired("physicalUsedStorage", UINT64)
    physical_used_with_parity_bytes: int = wired("physicalUsedStorageIncludingParity", UINT64)
    free_physical_bytes: int = wired("freePhysicalStorage", UINT64)
    estimated_free_logical_bytes: int = wired("estimatedFreeLogicalStorage", UINT64)
    estimated_logical_bytes: int = wired("estimatedLogicalStorage", UINT64)
    compression_ratio: float = wired("compressionRatio", DOUBLE)
    unrecoverable_integrity_errors: int = wired("UnrecoverableDataIntegrityErrors", UINT32)
    recoverable_integrity_errors: int = wired("RecoverableDataIntegrityErrors", UINT32)
    garbage_collector_integrity_errors: int = wired("GarbageCollectorDataIntegrityErrors", UINT64)
    metadata_utilization: float = wired("metadataUtilization", DOUBLE)


@dataclass(frozen=True, kw_only=True)
class JournalNvmeDevice(Model, schema="JournalNvmeDevice"):
    """A node's journal on one NVMe device."""

    device_serial: str = wired("deviceSerial", STRING)


@dataclass(frozen=True, kw_only=True)
class JournalRaidDevice(Model, schema="JournalRaidDevice"):
    """A node's journal on a RAID of devices."""

    device_uuid: str = wired("deviceUUID", STRING)
    member_device_serials: tuple[str, ...] = wired("memberDeviceSerials", many(STRING))


_JOURNAL = {"x-oneof": "JournalDeviceInfo"}


@dataclass(frozen=True, kw_only=True)
class Node(Model, schema="DurosNodeInfo"):
    """A storage node; `nvme_endpoint` is `ip:port`, an IPv6 address in brackets."""

    name: str = wired("name", STRING)
    uuid: str = wired("UUID", STRING)
    state: NodeState = wired("state", enumeration(NodeState, unknown=NodeState.UNKNOWN))
    status: NodeStatus = wired("status", enumeration(NodeStatus, unknown=NodeStatus.NO_STATUS))
    nvme_endpoint: str = wired(
        "nvmeEndpoint",
        STRING,
        limits={"x-format": "ip:port", "x-examples": ["192.168.16.16:4420", "[::1]:4420"]},
    )
    failure_domains: tuple[str, ...] = wired("failureDomains", many(STRING))
    failure_info: str = wired("failureInfo", STRING)
    hostname: str = wired("hostname", STRING)
    in_local_rebuild: bool = wired("inLocalRebuild", BOOLEAN)
    local_rebuild_progress: int = wired("localRebuildProgress", UINT32)
    managed_devices: int = wired("numManagedDevices", INT32)
    max_nvme_devices: int = wired("maxNvmeDevices", UINT32)
    erasure_coding: bool = wired("ec", BOOLEAN)
    statistics: NodeStatistics | None = wired("statistics", message(NodeStatistics))
    server_uuid: str = wired("serverUUID", STRING)
    etag: str = wired("ETag", STRING)
    read_only: bool = wired("readOnly", BOOLEAN)
    powerup_progress: int = wired("powerupProgress", UINT32)
    permanent_failure: bool = wired("permanentFailure", BOOLEAN)
    journal_device_not_found: str | None = wired(
        "journalDeviceNotFound", STRING, default=None, limits=_JOURNAL
    )
    journal_nvme_device: JournalNvmeDevice | None = wired(
        "journalNvmeDevice", message(JournalNvmeDevice), limits=_JOURNAL
    )
    journal_raid_device: JournalRaidDevice | None = wired(
        "journalRaidDevice", message(JournalRaidDevice), limits=_JOURNAL
    )


@dataclass(frozen=True, kw_only=True)
class ListNodes(Model, schema="ListNodeRequest"):
    """Filter of ListNodes."""

    name: str = wired("name", STRING)
    uuid: str = wired("UUID", STRING)
    failure_domain: str = wired("failureDomain", STRING)


@dataclass(frozen=True, kw_only=True)
class NodeList(Model, schema="ListNodesResponse"):
    """Reply of ListNodes."""

    nodes: tuple[Node, ...] = wired("nodes", many(message(Node)))


@dataclass(frozen=True, kw_only=True)
class GetNode(Model, schema="GetNodeRequest"):
    """Names one node."""

    uuid: str = wired("UUID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class StartNode(Model, schema="StartNodeInstanceRequest"):
    """Starts a stopped node."""

    node_uuid: str = wired("nodeUUID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class StopNode(Model, schema="StopNodeInstanceRequest"):
    """Stops a node; its volumes move to other replicas."""

    node_uuid: str = wired("nodeUUID", STRING, required=True)
    force: bool = wired("force", BOOLEAN)


@dataclass(frozen=True, kw_only=True)
class RestartNode(Model, schema="RestartNodeInstanceRequest"):
    """Stops and starts a node."""

    node_uuid: str = wired("nodeUUID", STRING, required=True)
    consider_backend: bool = wired("considerBackend", BOOLEAN)
    force: bool = wired("force", BOOLEAN)


@dataclass(frozen=True, kw_only=True)
class NodeStarted(Model, schema="StartNodeInstanceResponse"):
    """Empty: the start was accepted."""


@dataclass(frozen=True, kw_only=True)
class NodeStopped(Model, schema="StopNodeInstanceResponse"):
    """Empty: the stop was accepted."""


@dataclass(frozen=True, kw_only=True)
class NodeRestarted(Model, schema="RestartNodeInstanceResponse"):
    """Empty: the restart was accepted."""
