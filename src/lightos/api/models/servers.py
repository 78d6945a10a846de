# SPDX-License-Identifier: Apache-2.0
"""Messages about servers, which nodes run on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lightos.api.models.values import HealthState
from lightos.api.wire import (
    BOOLEAN,
    DURATION,
    STRING,
    TIMESTAMP,
    UINT32,
    Model,
    WireEnum,
    enumeration,
    many,
    message,
    wired,
)


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
