# SPDX-License-Identifier: Apache-2.0
"""Messages about events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lightos.api.wire import (
    INT64,
    STRING,
    TIMESTAMP,
    UINT32,
    Model,
    WireEnum,
    enumeration,
    many,
    mapping,
    message,
    wired,
)


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
