# SPDX-License-Identifier: Apache-2.0
"""Messages about the cluster as a whole: version, capacity, health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lightos.api.models.values import HealthState
from lightos.api.wire import (
    BOOLEAN,
    DOUBLE,
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


def _endpoints(default_port: int) -> dict[str, Any]:
    return {"x-format": "ip:port", "x-default-port": default_port}


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
class GetVersion(Model, schema="GetVersionRequest"):
    """Request of the API version."""


@dataclass(frozen=True, kw_only=True)
class GetCluster(Model, schema="GetClusterRequest"):
    """Request of the cluster, in either form."""
