# SPDX-License-Identifier: Apache-2.0
"""The messages of the management API v2, each a frozen dataclass with one field table.

Attribute names are ours, with units; the wire name stands beside each. Every field has the
zero value of its kind (or None, where unset differs from zero) as default, because the cluster
leaves zero values out. See `lightos.api.wire` for the rules.
"""
# `wired` wraps dataclasses.field, so it is called per class as that is.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from lightos.api.wire import (
    BOOLEAN,
    BYTES,
    COMPRESSION_OFF,
    COMPRESSION_ON,
    DOUBLE,
    DURATION,
    INT32,
    INT64,
    JSON,
    SIZE,
    SIZE_ON_CREATE,
    STRING,
    SWITCH,
    TIMESTAMP,
    UINT32,
    UINT64,
    Kind,
    Model,
    WireEnum,
    WireError,
    enumeration,
    many,
    mapping,
    message,
    wired,
)

CHANGED_BLOCKS_ALIGNMENT: Final = 64
"""Clusters round the offset of ListChangedBlocks, in logical blocks, down to a multiple of this."""
ALLOW_ANY: Final = "ALLOW_ANY"
"""The only entry of an ACL that admits everyone."""
ALLOW_NONE: Final = "ALLOW_NONE"
"""The only entry of an ACL that admits nobody; an emptied ACL must be written so."""
DEFAULT_PROJECT: Final = "default"
"""The project that every cluster has."""
SIZE_GRANULARITY_BYTES: Final = 4096
"""Clusters round the size of a volume up to a multiple of this."""
MAX_LIST_LIMIT: Final = 1000
"""Objects in one reply of a list call, at most and by default."""
IOPS_LIMIT_GRANULARITY: Final = 256
"""Clusters round the IOPS limits of a policy up to a multiple of this; IOPS per GB are exact."""


def rounded_up(number: int, granularity: int) -> int:
    """What a cluster keeps of a number: the next multiple of `granularity`."""
    return -(-number // granularity) * granularity


@dataclass(frozen=True, kw_only=True)
class StringList(Model, schema="StringList"):
    """A list that can be told apart from an unset one."""

    values: tuple[str, ...] = wired("values", many(STRING))


def _read_string_list(value: JSON) -> tuple[str, ...] | None:
    """Read a StringList; one whose values are null or absent counts as unset, as Cinder sends it.

    An empty list does not: who sends it means to change something.
    """
    values = StringList.from_wire(value).values
    given = isinstance(value, dict) and value.get("values") is not None
    return values if given else None


def _write_string_list(values: tuple[str, ...]) -> JSON:
    return StringList(values=values).to_wire()


STRINGS = Kind(
    {"$ref": "#/components/schemas/StringList"},
    _read_string_list,
    _write_string_list,
    (),
    nested=StringList,
)

OBJECT_NAME = {"pattern": r"^[a-zA-Z0-9-_\.]{1,253}$", "minLength": 1, "maxLength": 253}
LABEL_TEXT = {"pattern": r"^[a-zA-Z0-9_.-]{1,253}$", "minLength": 1, "maxLength": 253}
DESCRIPTION = {"maxLength": 256, "x-max-bytes": 256}
ACL = {"x-special-values": [ALLOW_ANY, ALLOW_NONE]}
COMPRESSION_WORDS = {"x-accepted-values": [*COMPRESSION_ON, *COMPRESSION_OFF]}
QOS_ONE_OF = {"x-oneof": "qosPolicyID"}


def _endpoints(default_port: int) -> dict[str, Any]:
    return {"x-format": "ip:port", "x-default-port": default_port}


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


class SnapshotState(WireEnum, schema="Snapshot.StateEnum"):
    """Life of a snapshot; one with clones may stay Deleting until they are gone."""

    UNKNOWN = 0, "Unknown"
    CREATING = 1, "Creating"
    AVAILABLE = 2, "Available"
    DELETING = 3, "Deleting"
    DELETED = 4, "Deleted"
    FAILED = 7, "Failed"


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


class HealthState(WireEnum, schema="ClusterHealth.State"):
    """Health of the whole cluster."""

    NONE = 0, "None"
    OK = 1, "OK"
    WARNING = 2, "Warning"
    ERROR = 3, "Error"


class UpgradeStatus(WireEnum, schema="ClusterLastUpgrade.UpgradeStatusEnum"):
    """How the last upgrade of the cluster went."""

    UNKNOWN = 0, "Unknown"
    NONE = 1, "None"
    UPGRADE_FAILED = 2, "UpgradeFailed"
    UPGRADING = 3, "Upgrading"


class EncryptionState(WireEnum, schema="ClusterEncryptionStatus.State"):
    """Whether the cluster encrypts data at rest."""

    DISABLED = 0, "Disabled"
    ENABLING = 1, "Enabling"
    ENABLED = 2, "Enabled"
    UNKNOWN = 3, "Unknown"


class RotationState(WireEnum, schema="ClusterEncryptionStatus.RotationState"):
    """Progress of a key rotation. The second name of 2 is a spelling slip of the API."""

    NO_ROTATION = 0, "NoRotation"
    DISTRIBUTING_KEK = 1, "DistributingKEK"
    ENCRYPTING_DEKS = 2, "EncryptingDEKs", "EncryptyingDEKs"


class AuthenticationMode(WireEnum, schema="ClusterInfo.AuthenticationMode"):
    """NVMe in-band authentication of hosts."""

    UNKNOWN = 0, "UnKnown"
    ENABLED = 2, "Enabled"
    DISABLED = 3, "Disabled"


class IdpHealthStatus(WireEnum, schema="IdpHealthStatus"):
    """Health of an identity provider."""

    HEALTHY = 0, "IdpHealthStatus_Healthy"
    UNHEALTHY = 1, "IdpHealthStatus_UnHealthy"
    UNKNOWN = 2, "IdpHealthStatus_Unknown"


class PolicyState(WireEnum, schema="Policy.State"):
    """Life of a policy; Active is the steady state."""

    UNKNOWN = 0, "Unknown"
    CREATING = 1, "Creating"
    ACTIVE = 2, "Active"
    UPDATING = 3, "Updating"
    DEPRECATED = 4, "Deprecated"
    FAILED = 5, "Failed"


class PolicyVisibility(WireEnum, schema="PolicyVisibility"):
    """Which projects may use a QoS policy; Unavailable: not told to this caller."""

    UNAVAILABLE = 0, "Unavailable"
    SCOPED = 1, "Scoped"
    GLOBAL = 2, "Global"


class PolicyType(WireEnum, schema="PolicyType"):
    """What a default policy of a project is about."""

    UNKNOWN = 0, "unknown"
    SNAPSHOT = 1, "snapshot"
    QOS_RATE_LIMIT = 2, "qosRateLimit"


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


class CredentialType(WireEnum, schema="CredsType"):
    """What the payload of a credential is."""

    UNKNOWN = 0, "UnknownType"
    RS256_PUBLIC_KEY = 1, "RS256PubKey"
    TLS_CERTIFICATE_CHAIN_PEM = 2, "TlsCertChainPem"
    TLS_PRIVATE_KEY_PEM = 3, "TlsPrivKeyPem"


class CredentialKind(WireEnum, schema="CredsKind"):
    """Whose credential it is. There is no 1."""

    USER = 0, "UserCreds"
    BEACON = 2, "BeaconCreds"
    UNKNOWN = 127, "UnknownKind"


class ServiceRisk(WireEnum, schema="Server.RiskOfServiceLossEnum"):
    """Whether the loss of a server would cost service."""

    UNKNOWN = 0, "UnknownRiskOfServiceLoss"
    NONE = 1, "NoRiskOfServiceLoss"
    AT_RISK = 2, "InRiskOfServiceLoss"
    SOURCE = 3, "SourceOfRiskOfServiceLoss"


class ServerState(WireEnum, schema="Server.ServerStateEnum"):
    """Life of a server, which nodes run on."""

    UNKNOWN = 0, "UnknownState"
    CREATING = 1, "Creating"
    ENABLED = 2, "Enabled"
    DELETING = 3, "Deleting"
    FAILED = 4, "Failed"
    DISABLED = 5, "Disabled"
    ENABLING = 6, "Enabling"
    DISABLING = 7, "Disabling"


class ServerUpgradeStatus(WireEnum, schema="Server.UpgradeStatusEnum"):
    """What an upgrade does to a server now."""

    UNKNOWN = 0, "Unknown"
    NONE = 1, "None"
    UPGRADE_FAILED = 2, "UpgradeFailed"
    UPGRADING = 3, "Upgrading"
    REBOOTING = 4, "Rebooting"
    RECOVERING = 5, "Recovering"


class LastServerUpgradeStatus(WireEnum, schema="ServerLastUpgrade.UpgradeStatusEnum"):
    """How the last upgrade of a server went."""

    UNKNOWN = 0, "Unknown"
    NONE = 1, "None"
    UPGRADE_FAILED = 2, "UpgradeFailed"
    UPGRADING = 3, "Upgrading"
    REBOOTING = 4, "Rebooting"
    RECOVERING = 5, "Recovering"


class EvictionStatus(WireEnum, schema="ServerEvictionStatus.StatusEnum"):
    """How the last eviction of a server's data went."""

    NONE = 0, "None"
    FAILED = 1, "Failed"
    EVICTING = 2, "Evicting"
    ABORTING = 3, "Aborting"
    COMPLETED = 4, "Completed"
    ABORTED = 5, "Aborted"


class EventType(WireEnum, schema="Event.EventType"):
    """What an event is about."""

    UNKNOWN = 0, "UnknownType"
    CLUSTER = 1, "Cluster"
    NODE = 2, "Node"
    VOLUME = 3, "Volume"
    NVME_SSD = 4, "NVMeSSD"
    SERVER = 5, "Server"
    DATA_INTEGRITY = 6, "DataIntegrity"
    CLUSTER_ENCRYPTION = 7, "ClusterEncryption"


class EventSeverity(WireEnum, schema="Event.EventSeverity"):
    """How bad an event is. The name of 0 is a spelling slip of the API, as is the next enum's."""

    UNKNOWN = 0, "UnkownSeverity"
    INFO = 1, "Info"
    LOW = 2, "Low"
    MEDIUM = 3, "Medium"
    HIGH = 4, "High"
    CRITICAL = 5, "Critical"


class ReportingService(WireEnum, schema="Event.EventReportingService"):
    """Which service of the cluster reports an event."""

    UNKNOWN = 0, "UnkownReportingService"
    CM = 1, "CM"
    NM = 2, "NM"
    API = 3, "API"
    UM = 4, "UM"


# --- version, cluster, nodes -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Version(Model, schema="Version"):
    """Reply of GetVersion."""

    api_version: str = wired("apiVersion", STRING)


@dataclass(frozen=True, kw_only=True)
class ClusterStatistics(Model, schema="ClusterStatisticsApi"):
    """Capacity of the cluster, all in bytes."""

    installed_physical_bytes: int = wired("installedPhysicalStorage", UINT64)
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


@dataclass(frozen=True, kw_only=True)
class ClusterHealth(Model, schema="ClusterHealth"):
    """Health of the cluster and how many objects are in which condition."""

    state: HealthState = wired("state", enumeration(HealthState, unknown=HealthState.NONE))
    degraded_volumes: int = wired("numDegradedVolumes", UINT32)
    read_only_volumes: int = wired("numReadOnlyVolumes", UINT32)
    not_available_volumes: int = wired("numNotAvailableVolumes", UINT32)
    inactive_nodes: int = wired("numInactiveNodes", UINT32)
    healthy_volumes: int = wired("numHealthyVolumes", UINT32)


@dataclass(frozen=True, kw_only=True)
class LastUpgrade(Model, schema="ClusterLastUpgrade"):
    """The last upgrade of the cluster."""

    status: UpgradeStatus = wired(
        "Status", enumeration(UpgradeStatus, unknown=UpgradeStatus.UNKNOWN)
    )
    start_time: datetime | None = wired("StartTime", TIMESTAMP)
    end_time: datetime | None = wired("EndTime", TIMESTAMP)
    target_version: str = wired("TargetVersion", STRING)
    error_message: str = wired("ErrorMessage", STRING)
    progress_step: int = wired("ProgressStep", UINT32)
    progress_total: int = wired("ProgressTotal", UINT32)


@dataclass(frozen=True, kw_only=True)
class EncryptionStatus(Model, schema="ClusterEncryptionStatus"):
    """Encryption at rest; KEK and DEK are key- and data-encrypting keys."""

    encryption_state: EncryptionState = wired(
        "encryptionState", enumeration(EncryptionState, unknown=EncryptionState.UNKNOWN)
    )
    kek_generation: int = wired("kekGeneration", UINT64)
    kek_update_date: datetime | None = wired("kekUpdateDate", TIMESTAMP)
    previous_kek_generations: tuple[int, ...] = wired("previousKekGenerations", many(UINT64))
    rotation_state: RotationState = wired(
        "rotationState", enumeration(RotationState, unknown=RotationState.NO_ROTATION)
    )


@dataclass(frozen=True, kw_only=True)
class IdpHealth(Model, schema="IdpHealthInfo"):
    """Health of one identity provider."""

    server_name: str = wired("serverName", STRING)
    status: IdpHealthStatus = wired(
        "idpHealthStatus", enumeration(IdpHealthStatus, unknown=IdpHealthStatus.UNKNOWN)
    )
    timestamp: datetime | None = wired("timestamp", TIMESTAMP)
    error_message: str = wired("healthErrorMessage", STRING)


@dataclass(frozen=True, kw_only=True)
class FederatedAuthentication(Model, schema="FederatedAuthenticationStatus"):
    """Whether identity providers are in use, and how they are."""

    enabled: bool = wired("federatedAuthenticationEnabled", BOOLEAN)
    idp_health: tuple[IdpHealth, ...] = wired("idpHealthInfos", many(message(IdpHealth)))


_AUTHENTICATION_MODE = enumeration(AuthenticationMode, unknown=AuthenticationMode.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Cluster(Model, schema="ClusterInfo"):
    """Reply of GetCluster: health and statistics, but no NVMe endpoints."""

    uuid: str = wired("UUID", STRING)
    subsystem_nqn: str = wired("subsystemNQN", STRING)
    current_max_replicas: int = wired("currentMaxReplicas", UINT32)
    supported_max_replicas: int = wired("supportedMaxReplicas", UINT32)
    statistics: ClusterStatistics | None = wired("statistics", message(ClusterStatistics))
    etag: str = wired("ETag", STRING)
    health: ClusterHealth | None = wired("health", message(ClusterHealth))
    min_version_in_cluster: str = wired("MinVersionInCluster", STRING)
    min_allowed_version: str = wired("MinAllowedVersion", STRING)
    max_allowed_version: str = wired("MaxAllowedVersion", STRING)
    api_endpoints: tuple[str, ...] = wired("apiEndpoints", many(STRING), limits=_endpoints(443))
    discovery_endpoints: tuple[str, ...] = wired(
        "discoveryEndpoints", many(STRING), limits=_endpoints(8009)
    )
    cluster_name: str = wired("clusterName", STRING)
    last_upgrade: LastUpgrade | None = wired("lastUpgrade", message(LastUpgrade))
    in_band_auth_mode: AuthenticationMode = wired("inBandAuthMode", _AUTHENTICATION_MODE)
    encryption_status: EncryptionStatus | None = wired(
        "encryptionStatus", message(EncryptionStatus)
    )
    federated_authentication: FederatedAuthentication | None = wired(
        "federatedAuthenticationStatus", message(FederatedAuthentication)
    )


@dataclass(frozen=True, kw_only=True)
class ClusterInfo(Model, schema="ClusterInfoV2"):
    """Reply of GetClusterInfo: where the services listen; no statistics."""

    uuid: str = wired("UUID", STRING)
    subsystem_nqn: str = wired("subsystemNQN", STRING)
    current_max_replicas: int = wired("currentMaxReplicas", UINT32)
    supported_max_replicas: int = wired("supportedMaxReplicas", UINT32)
    etag: str = wired("ETag", STRING)
    api_endpoints: tuple[str, ...] = wired("apiEndpoints", many(STRING), limits=_endpoints(443))
    discovery_endpoints: tuple[str, ...] = wired(
        "discoveryEndpoints", many(STRING), limits=_endpoints(8009)
    )
    nvme_endpoints: tuple[str, ...] = wired("nvmeEndpoints", many(STRING), limits=_endpoints(4420))
    cluster_name: str = wired("clusterName", STRING)
    last_upgrade: LastUpgrade | None = wired("lastUpgrade", message(LastUpgrade))
    encryption_status: EncryptionStatus | None = wired(
        "encryptionStatus", message(EncryptionStatus)
    )
    in_band_auth_mode: AuthenticationMode = wired("inBandAuthMode", _AUTHENTICATION_MODE)


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
class GetVersion(Model, schema="GetVersionRequest"):
    """Request of the API version."""


@dataclass(frozen=True, kw_only=True)
class GetCluster(Model, schema="GetClusterRequest"):
    """Request of the cluster, in either form."""


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


# --- volumes -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Label(Model, schema="Label"):
    """A key and a value that the user gives to an object."""

    key: str = wired("key", STRING, limits=LABEL_TEXT)
    value: str = wired("value", STRING, limits=LABEL_TEXT)


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


_LIMIT = {"x-default": str(MAX_LIST_LIMIT), "x-maximum": str(MAX_LIST_LIMIT)}


@dataclass(frozen=True, kw_only=True)
class ListVolumes(Model, schema="ListVolumeRequest"):
    """Filter and page; `offset_uuid` is exclusive, Deleting ones need `show_all`."""

    project: str = wired("projectName", STRING)
    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    failure_domain: str = wired("failureDomain", STRING)
    offset_uuid: str = wired("offsetUUID", STRING)
    limit: int = wired("limit", INT64, limits=_LIMIT)
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


# --- snapshots ---------------------------------------------------------------------------------


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
    limit: int = wired("limit", INT64, limits=_LIMIT)
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


# --- QoS policies ------------------------------------------------------------------------------

_QOS_LIMIT = {"x-oneof": "QoSLimit"}


def _rate(unit: str) -> dict[str, Any]:
    return {"x-unit": unit, "x-unlimited": 0}


_IOPS = {"x-granularity": IOPS_LIMIT_GRANULARITY, "x-unlimited": 0}


@dataclass(frozen=True, kw_only=True)
class IopsLimit(Model, schema="QoSRateLimitPolicy.QoSLimitIOPS"):
    """Commands per second of each volume; 0 is no limit."""

    write_iops: int = wired("writeIOPSLimit", UINT32, limits=_IOPS)
    read_iops: int = wired("readIOPSLimit", UINT32, limits=_IOPS)


@dataclass(frozen=True, kw_only=True)
class BandwidthLimit(Model, schema="QoSRateLimitPolicy.QoSLimitBW"):
    """Megabytes per second of each volume; 0 is no limit."""

    write_mb_per_second: int = wired("writeBWLimit", UINT32, limits=_rate("MB/s"))
    read_mb_per_second: int = wired("readBWLimit", UINT32, limits=_rate("MB/s"))


@dataclass(frozen=True, kw_only=True)
class IopsPerGbLimit(Model, schema="QoSRateLimitPolicy.QoSLimitIOPSPerGB"):
    """Commands per second for each gigabyte of a volume's size; 0 is no limit."""

    write_iops_per_gb: int = wired("writeIOPSPerGBLimit", UINT32, limits=_rate("IOPS per GB"))
    read_iops_per_gb: int = wired("readIOPSPerGBLimit", UINT32, limits=_rate("IOPS per GB"))


@dataclass(frozen=True, kw_only=True)
class RateLimit(Model, schema="QoSRateLimitPolicy"):
    """One of three limits, and who may use it: `projects` are named by a Scoped policy only."""

    projects: tuple[str, ...] = wired("projectsNamesScope", many(STRING))
    visibility: PolicyVisibility = wired(
        "policyVisibility", enumeration(PolicyVisibility, unknown=PolicyVisibility.UNAVAILABLE)
    )
    iops: IopsLimit | None = wired("limitIOPS", message(IopsLimit), limits=_QOS_LIMIT)
    bandwidth: BandwidthLimit | None = wired("limitBw", message(BandwidthLimit), limits=_QOS_LIMIT)
    iops_per_gb: IopsPerGbLimit | None = wired(
        "limitIOPSPerGB", message(IopsPerGbLimit), limits=_QOS_LIMIT
    )

    @property
    def limit(self) -> IopsLimit | BandwidthLimit | IopsPerGbLimit | None:
        """The one limit that is set."""
        return self.iops or self.bandwidth or self.iops_per_gb


@dataclass(frozen=True, kw_only=True)
class Policy(Model, schema="Policy"):
    """A QoS policy; its name is unique in the cluster."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING)
    state: PolicyState = wired("state", enumeration(PolicyState, unknown=PolicyState.UNKNOWN))
    rate_limit: RateLimit | None = wired(
        "QoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "info"}
    )
    """In replies the wire name begins with a capital Q, in requests it does not."""


@dataclass(frozen=True, kw_only=True)
class CreatePolicy(Model, schema="CreatePolicyRequest"):
    """A policy to make."""

    name: str = wired("name", STRING, required=True)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    rate_limit: RateLimit | None = wired(
        "qoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "policy"}
    )


@dataclass(frozen=True, kw_only=True)
class UpdatePolicy(Model, schema="UpdatePolicyRequest"):
    """What to change; what is unset stays. `name` names the policy where `uuid` is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    rate_limit: RateLimit | None = wired(
        "qoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "policy"}
    )


@dataclass(frozen=True, kw_only=True)
class GetPolicy(Model, schema="GetPolicyRequest"):
    """Names one policy, by name where the UUID is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    project: str = wired("projectName", STRING)


@dataclass(frozen=True, kw_only=True)
class ListPolicies(Model, schema="ListPoliciesRequest"):
    """Filter; with a project, only policies that it may use. There are no pages."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    project: str = wired("projectName", STRING)


@dataclass(frozen=True, kw_only=True)
class PolicyList(Model, schema="ListPoliciesResponse"):
    """Reply of ListPolicies."""

    policies: tuple[Policy, ...] = wired("policies", many(message(Policy)))


@dataclass(frozen=True, kw_only=True)
class DeletePolicy(Model, schema="DeletePolicyRequest"):
    """Names the policy to delete, by name where the UUID is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)


@dataclass(frozen=True, kw_only=True)
class PolicyUpdated(Model, schema="UpdatePolicyResponse"):
    """Empty: the update was made."""


@dataclass(frozen=True, kw_only=True)
class PolicyDeleted(Model, schema="DeletePolicyResponse"):
    """Empty: the policy was deleted."""


# --- projects ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DefaultPolicy(Model, schema="DefaultPolicy"):
    """The policy that a project's new volumes get when they name none."""

    policy_type: PolicyType = wired("policyType", enumeration(PolicyType))
    policy_uuid: str = wired("policyUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class Project(Model, schema="Project"):
    """A tenant's name space for volumes and snapshots."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy))
    )


@dataclass(frozen=True, kw_only=True)
class CreateProject(Model, schema="CreateProjectRequest"):
    """A project to make."""

    name: str = wired("name", STRING, required=True)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy))
    )


@dataclass(frozen=True, kw_only=True)
class UpdateProject(Model, schema="UpdateProjectRequest"):
    """The default policies that a project has from now on; its volumes keep theirs."""

    name: str = wired("projectName", STRING, required=True)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy)), required=True
    )


@dataclass(frozen=True, kw_only=True)
class GetProject(Model, schema="GetProjectRequest"):
    """Names one project; the variable of the path is `projectName`, the field's name `name`."""

    name: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class ListProjects(Model, schema="ListProjectsRequest"):
    """Request of every project."""


@dataclass(frozen=True, kw_only=True)
class ProjectList(Model, schema="ListProjectsResponse"):
    """Reply of ListProjects."""

    projects: tuple[Project, ...] = wired("projects", many(message(Project)))


@dataclass(frozen=True, kw_only=True)
class DeleteProject(Model, schema="DeleteProjectRequest"):
    """Names the project to delete."""

    name: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class ProjectUpdated(Model, schema="UpdateProjectResponse"):
    """Empty: the update was made."""


@dataclass(frozen=True, kw_only=True)
class ProjectDeleted(Model, schema="DeleteProjectResponse"):
    """Empty: the project was deleted."""


# --- credentials -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Credential(Model, schema="Credential"):
    """A key that a project's tokens are checked with; `credential_id` is unique in it."""

    project: str = wired("projectName", STRING)
    credential_id: str = wired("ID", STRING)
    credential_type: CredentialType = wired(
        "type", enumeration(CredentialType, unknown=CredentialType.UNKNOWN)
    )
    payload: bytes = wired("payload", BYTES)
    kind: CredentialKind = wired(
        "kind", enumeration(CredentialKind, unknown=CredentialKind.UNKNOWN)
    )


@dataclass(frozen=True, kw_only=True)
class CreateCredential(Model, schema="CreateCredentialRequest"):
    """A credential to make."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)
    credential_type: CredentialType = wired("type", enumeration(CredentialType), required=True)
    payload: bytes = wired("payload", BYTES, required=True)


@dataclass(frozen=True, kw_only=True)
class ListCredentials(Model, schema="ListCredentialsRequest"):
    """Names the project."""

    project: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class CredentialList(Model, schema="ListCredentialsResponse"):
    """Reply of ListCredentials."""

    credentials: tuple[Credential, ...] = wired("credentials", many(message(Credential)))


@dataclass(frozen=True, kw_only=True)
class GetCredential(Model, schema="GetCredentialRequest"):
    """Names one credential."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class DeleteCredential(Model, schema="DeleteCredentialRequest"):
    """Names the credential to delete; tokens of it are refused from then on."""

    project: str = wired("projectName", STRING, required=True)
    credential_id: str = wired("ID", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class CredentialDeleted(Model, schema="DeleteCredentialResponse"):
    """Empty: the credential was deleted."""


# --- servers -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LastServerUpgrade(Model, schema="ServerLastUpgrade"):
    """The last upgrade of a server."""

    status: LastServerUpgradeStatus = wired(
        "Status", enumeration(LastServerUpgradeStatus, unknown=LastServerUpgradeStatus.UNKNOWN)
    )
    start_time: datetime | None = wired("StartTime", TIMESTAMP)
    end_time: datetime | None = wired("EndTime", TIMESTAMP)
    target_version: str = wired("TargetVersion", STRING)
    error_message: str = wired("ErrorMessage", STRING)
    progress_step: int = wired("ProgressStep", UINT32)
    progress_total: int = wired("ProgressTotal", UINT32)


@dataclass(frozen=True, kw_only=True)
class LastEviction(Model, schema="ServerEvictionStatus"):
    """The last time that a server's data were moved away."""

    status: EvictionStatus = wired(
        "status", enumeration(EvictionStatus, unknown=EvictionStatus.NONE)
    )
    start_time: datetime | None = wired("startTime", TIMESTAMP)
    end_time: datetime | None = wired("endTime", TIMESTAMP)
    error_message: str = wired("errorMessage", STRING)
    progress: int = wired("progress", UINT32)


@dataclass(frozen=True, kw_only=True)
class Server(Model, schema="Server"):
    """A machine of the cluster, with the nodes on it."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    service_risk: ServiceRisk = wired(
        "RiskOfServiceLossState", enumeration(ServiceRisk, unknown=ServiceRisk.UNKNOWN)
    )
    node_uuids: tuple[str, ...] = wired("NodesUUIDs", many(STRING))
    state: ServerState = wired("state", enumeration(ServerState, unknown=ServerState.UNKNOWN))
    server_endpoints: tuple[str, ...] = wired("ServerEndpoints", many(STRING))
    etag: str = wired("ETag", STRING)
    version: str = wired("LightOSVersion", STRING)
    upgrade_status: ServerUpgradeStatus = wired(
        "UpgradeStatus", enumeration(ServerUpgradeStatus, unknown=ServerUpgradeStatus.UNKNOWN)
    )
    api_endpoints: tuple[str, ...] = wired("ApiEndpoints", many(STRING))
    last_upgrade: LastServerUpgrade | None = wired("LastUpgrade", message(LastServerUpgrade))
    is_witness: bool = wired("IsWitness", BOOLEAN)
    last_eviction: LastEviction | None = wired("LastEviction", message(LastEviction))
    health: HealthState = wired("health", enumeration(HealthState, unknown=HealthState.NONE))
    permanent_failure_timeout: timedelta | None = wired("ServerPermanenetFailureTimeout", DURATION)
    """The wire name has a spelling slip."""
    tpm2_is_supported: bool = wired("tpm2IsSupported", BOOLEAN)


@dataclass(frozen=True, kw_only=True)
class ListServers(Model, schema="ListServersRequest"):
    """Filter of ListServers."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("Name", STRING)
    service_risk: ServiceRisk = wired("RiskOfServiceLoss", enumeration(ServiceRisk))


@dataclass(frozen=True, kw_only=True)
class ServerList(Model, schema="ListServersResponse"):
    """Reply of ListServers."""

    servers: tuple[Server, ...] = wired("servers", many(message(Server)))


@dataclass(frozen=True, kw_only=True)
class GetServer(Model, schema="GetServerRequest"):
    """Names one server."""

    uuid: str = wired("UUID", STRING, required=True)


# --- connected hosts ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConnectedHost(Model, schema="ConnectedHost"):
    """A host that is connected now, and the volumes that it sees."""

    host_nqn: str = wired("hostNQN", STRING)
    ip_address: str = wired("iPAddress", STRING)
    hostname: str = wired("hostname", STRING)
    volume_uuids: tuple[str, ...] = wired("volumeUUIDs", many(STRING))


@dataclass(frozen=True, kw_only=True)
class ListHosts(Model, schema="ListHostsRequest"):
    """Filter: hosts that see a volume. Clusters ignore the NQN."""

    host_nqn: str = wired("hostNQN", STRING)
    volume_uuid: str = wired("volumeUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class ConnectedHostList(Model, schema="ListHostsResponse"):
    """Reply of ListHosts."""

    hosts: tuple[ConnectedHost, ...] = wired("connectedHosts", many(message(ConnectedHost)))


@dataclass(frozen=True, kw_only=True)
class GetHost(Model, schema="GetHostRequest"):
    """Names one host. Gateways do not take a colon here, which nearly every NQN has."""

    host_nqn: str = wired("hostNQN", STRING, required=True)


# --- events ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ComponentVolume(Model, schema="ComponentVolumeInfo"):
    """A volume that an event is about."""

    uuid: str = wired("ID", STRING)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ComponentVolumeList(Model, schema="VolumeComponentInfoList"):
    """Volumes of one project."""

    volumes: tuple[ComponentVolume, ...] = wired(
        "VolumeComponentInfoList", many(message(ComponentVolume))
    )


@dataclass(frozen=True, kw_only=True)
class ComponentVolumes(Model, schema="ComponentVolumesInfo"):
    """The volumes that an event is about, by project."""

    projects: Mapping[str, ComponentVolumeList] | None = wired(
        "ProjectVolumesMap", mapping(message(ComponentVolumeList))
    )


@dataclass(frozen=True, kw_only=True)
class ComponentSsd(Model, schema="ComponentNVMeSSDInfo"):
    """The NVMe device that an event is about."""

    uuid: str = wired("ID", STRING)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ComponentNode(Model, schema="ComponentNodeInfo"):
    """The node that an event is about."""

    uuid: str = wired("ID", STRING)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ComponentServer(Model, schema="ComponentServerInfo"):
    """The server that an event is about."""

    uuid: str = wired("ID", STRING)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ComponentCluster(Model, schema="ComponentClusterInfo"):
    """The cluster, where an event is about all of it."""

    uuid: str = wired("ID", STRING)
    name: str = wired("Name", STRING)


@dataclass(frozen=True, kw_only=True)
class ComponentDataIntegrity(Model, schema="ComponentDataIntegrityInfo"):
    """Where data were found damaged."""

    node_uuid: str = wired("NodeUUID", STRING)
    server_uuid: str = wired("ServerUUID", STRING)
    ssds: tuple[str, ...] = wired("SSDs", many(STRING))


_COMPONENT = {"x-oneof": "ComponentInfo"}


@dataclass(frozen=True, kw_only=True)
class Event(Model, schema="Event"):
    """Something that happened in the cluster."""

    event_id: str = wired("ID", STRING)
    time: datetime | None = wired("Time", TIMESTAMP)
    event_type: EventType = wired("Type", enumeration(EventType, unknown=EventType.UNKNOWN))
    severity: EventSeverity = wired(
        "Severity", enumeration(EventSeverity, unknown=EventSeverity.UNKNOWN)
    )
    name: str = wired("EventName", STRING)
    code: int = wired("EventCode", UINT32)
    reporting_service: ReportingService = wired(
        "ReportingService", enumeration(ReportingService, unknown=ReportingService.UNKNOWN)
    )
    associated_event_id: str = wired("AssociatedEventID", STRING)
    status: str = wired("Status", STRING)
    cause_code: int = wired("CauseCode", UINT32)
    description: str = wired("Description", STRING)
    volumes: ComponentVolumes | None = wired(
        "ComponentVolumesInfo", message(ComponentVolumes), limits=_COMPONENT
    )
    ssd: ComponentSsd | None = wired(
        "ComponentNVMeSSDInfo", message(ComponentSsd), limits=_COMPONENT
    )
    node: ComponentNode | None = wired(
        "ComponentNodeInfo", message(ComponentNode), limits=_COMPONENT
    )
    server: ComponentServer | None = wired(
        "ComponentServerInfo", message(ComponentServer), limits=_COMPONENT
    )
    cluster: ComponentCluster | None = wired(
        "ComponentClusterInfo", message(ComponentCluster), limits=_COMPONENT
    )
    data_integrity: ComponentDataIntegrity | None = wired(
        "ComponentDataIntegrityInfo", message(ComponentDataIntegrity), limits=_COMPONENT
    )


_MOMENT = {"x-format": "ISO-8601 UTC"}


@dataclass(frozen=True, kw_only=True)
class ListEvents(Model, schema="ListEventsRequest"):
    """Page and filter. Clusters take one filter at a time: time, severity or component type."""

    project: str = wired("projectName", STRING)
    next_token: str = wired("nextToken", STRING)
    since: str = wired("since", STRING, limits=_MOMENT)
    until: str = wired("until", STRING, limits=_MOMENT)
    limit: int = wired("limit", INT64)
    severity: tuple[str, ...] = wired("severity", many(STRING))
    component_type: str = wired("componentType", STRING)


@dataclass(frozen=True, kw_only=True)
class EventList(Model, schema="ListEventsResponse"):
    """Reply of ListEvents: one page; without `next_token` it is the last."""

    events: tuple[Event, ...] = wired("events", many(message(Event)))
    next_token: str = wired("nextToken", STRING)


# --- errors ------------------------------------------------------------------------------------


def _read_detail(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise WireError("expected an object")
    return dict(value)


DETAIL = Kind(
    {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
    _read_detail,
    dict,
)


@dataclass(frozen=True, kw_only=True)
class GatewayError(Model, schema="GatewayError"):
    """Body of every error; `code` is the gRPC status number, not the HTTP status."""

    error: str = wired("error", STRING)
    code: int = wired("code", INT32)
    message: str = wired("message", STRING)
    details: tuple[dict[str, JSON], ...] = wired("details", many(DETAIL))
