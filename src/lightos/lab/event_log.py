# SPDX-License-Identifier: Apache-2.0
"""What happened in the cluster lately, in words."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from lightos.api.models.events import EventSeverity, EventType
from lightos.api.models.values import ALLOW_NONE
from lightos.lab.changes import Change, Changing
from lightos.lab.cluster import Cluster
from lightos.lab.controller.base import Controller
from lightos.lab.records import (
    NodeRecord,
    NodeState,
    Record,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.traffic import Traffic
from lightos.lab.view import ClusterChange, NodeView

MAX_EVENTS = 10_000
NAMED_VOLUMES = 3
_TOLD_STATES = {
    VolumeState.DELETING: "is being deleted",
    VolumeState.ROLLBACK: "goes back to a snapshot",
    VolumeState.MIGRATING: "is migrating",
    VolumeState.FAILED: "has failed",
}
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


class Component(NamedTuple):
    """A volume, node or cluster that an event is about."""

    uuid: UUID
    name: str


class News(NamedTuple):
    """An event's name for programs, and what it says to people."""

    name: str
    text: str
    severity: EventSeverity = EventSeverity.INFO


@dataclass(frozen=True)
class Event:
    """`kind` is what it is about: node, path, volume, snapshot, host, fault or cluster.

    `project` is empty for what is the whole cluster's; `components` are of that project.
    """

    number: int
    at: datetime
    kind: str
    news: News
    project: str
    components: tuple[Component, ...]

    @property
    def event_type(self) -> EventType:
        return _TYPES[self.kind]


_TYPES = {
    "node": EventType.NODE,
    "host": EventType.NODE,
    "volume": EventType.VOLUME,
    "path": EventType.VOLUME,
    "snapshot": EventType.VOLUME,
    "fault": EventType.CLUSTER,
    "cluster": EventType.CLUSTER,
}


@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted; None is all. `project` is empty for those of no project."""

    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    severities: frozenset[EventSeverity] | None = None
    event_type: EventType | None = None

    def admits(self, event: Event) -> bool:
        return (
            self.project in (None, event.project)
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at <= self.until)
            and (self.severities is None or event.news.severity in self.severities)
            and self.event_type in (None, event.event_type)
        )


class EventLog:
    """The latest events; in memory only."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._last_number = 0

    def note(
        self, kind: str, news: News, *, project: str = "", components: Iterable[Component] = ()
    ) -> None:
        self._last_number += 1
        event = Event(self._last_number, self._now(), kind, news, project, tuple(components))
        self._events.append(event)

    def note_controller(self, node: NodeView, controller: Controller, connected: bool) -> None:
        """A host got a controller of a node, or lost it."""
        did = "connected to" if connected else "disconnected from"
        name = "HostConnected" if connected else "HostDisconnected"
        news = News(name, f"{controller.host_nqn} {did} {node.name}")
        self.note("host", news, components=[Component(node.uuid, node.name)])

    def page(self, wanted: EventFilter, *, before: int | None, limit: int) -> list[Event]:
        """The newest `limit` events that are wanted and older than `before`, newest first."""
        found = (
            event
            for event in reversed(self._events)
            if (before is None or event.number < before) and wanted.admits(event)
        )
        return list(itertools.islice(found, limit))

    def latest(self, count: int) -> list[dict[str, Any]]:
        """The latest events for people, oldest first."""
        shown = reversed(self.page(EventFilter(), before=None, limit=count))
        return [
            {"id": e.number, "time": e.at.isoformat(), "kind": e.kind, "text": e.news.text}
            for e in shown
        ]


class Chronicle(Changing):
    """The cluster as its change queue sees it, with every change written down as it is taken.

    What a volume counted in `traffic` is no longer told apart when it is gone.
    """

    def __init__(self, cluster: Cluster, log: EventLog, traffic: Traffic) -> None:
        self._cluster = cluster
        self._log = log
        self._traffic = traffic
        self._primaries = cluster.nodes.primaries()
        cluster.subscribe(self._changed)

    def make(self, change: Change[Any]) -> None:
        self._cluster.make(change)

    def take(self, change: Change[Any]) -> None:
        for record in change.drop:
            self._note_all(record, _end(record))
            if isinstance(record, VolumeRecord):
                self._traffic.forget(record.uuid)
        for record in change.put:
            self._note_all(record, self._news(record))
        self._cluster.take(change)

    def finish_due(self) -> Change[Any]:
        return self._cluster.finish_due()

    def postpone(self, change: Change[Any]) -> None:
        self._cluster.postpone(change)

    def seconds_to_next_due(self) -> float | None:
        return self._cluster.seconds_to_next_due()

    def _note_all(self, record: Record, told: Iterator[News]) -> None:
        for news in told:
            project, component = _component(record)
            self._log.note(record.kind, news, project=project, components=[component])

    def _news(self, record: Record) -> Iterator[News]:
        match record:
            case NodeRecord():
                return _node_news(self._cluster.nodes.get(record.uuid), record)
            case VolumeRecord():
                return _volume_news(self._cluster.volumes.get(record.uuid), record)
            case SnapshotRecord():
                return _snapshot_news(self._cluster.snapshots.get(record.uuid), record)
        return iter(())

    def _changed(self, change: ClusterChange) -> None:
        if change.ana:
            before, self._primaries = self._primaries, self._cluster.nodes.primaries()
            self._note_moves(before, self._primaries)

    def _note_moves(
        self, before: Mapping[int, UUID | None], after: Mapping[int, UUID | None]
    ) -> None:
        """One event for all volumes of a project that moved alike: tenants see only their own."""
        moved: dict[tuple[str, UUID | None, UUID | None], list[Component]] = defaultdict(list)
        for volume in self._cluster.volumes.values():
            old, new = before.get(volume.group_id), after.get(volume.group_id)
            if old != new:
                moved[volume.project, old, new].append(Component(volume.uuid, volume.name))
        for (project, old, new), volumes in moved.items():
            shown = ", ".join(volume.name for volume in volumes[:NAMED_VOLUMES])
            left = len(volumes) - NAMED_VOLUMES
            more = f" and {left} more" if left > 0 else ""
            text = f"primary of {shown}{more}: {self._node_name(old)} → {self._node_name(new)}"
            severity = EventSeverity.CRITICAL if new is None else EventSeverity.INFO
            news = News("PrimaryMoved", text, severity)
            self._log.note("path", news, project=project, components=volumes)

    def _node_name(self, uuid: UUID | None) -> str:
        node = None if uuid is None else self._cluster.nodes.get(uuid)
        return "none" if node is None else node.name


def size_text(size_bytes: int) -> str:
    """A size in the largest binary unit that it is at least one of."""
    size, unit = float(size_bytes), "bytes"
    for larger in _UNITS:
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}"


def _component(record: Record) -> tuple[str, Component]:
    """The project of what an event is about, and its component: a snapshot's is its volume."""
    match record:
        case VolumeRecord():
            return record.project, Component(record.uuid, record.name)
        case SnapshotRecord():
            return record.project, Component(record.source_volume_uuid, record.source_volume_name)
        case NodeRecord():
            return "", Component(record.uuid, record.name)
    raise TypeError(f"a {record.kind} is nothing to tell of")


def _end(record: Record) -> Iterator[News]:
    match record:
        case NodeRecord():
            yield News("NodeRemoved", f"{record.name} left the cluster", EventSeverity.MEDIUM)
        case VolumeRecord():
            yield News("VolumeDeleted", f"{record.name} is gone")
        case SnapshotRecord():
            yield News("SnapshotDeleted", f"{record.name} is gone")


def _node_news(before: NodeRecord | None, node: NodeRecord) -> Iterator[News]:
    if before is None:
        yield News("NodeAdded", f"{node.name} joins on {node.address}")
        return
    if before.address != node.address:
        yield News("NodeMoved", f"{node.name} moves to {node.address}")
    if before.state is not node.state:
        state = node.state.wire_name
        down = node.state is NodeState.INACTIVE
        severity = EventSeverity.HIGH if down else EventSeverity.INFO
        yield News(f"Node{state}", f"{node.name} is {state}", severity)


def _volume_news(before: VolumeRecord | None, volume: VolumeRecord) -> Iterator[News]:
    if before is None:
        made = f"{size_text(volume.size_bytes)}, {_replicas(volume)}"
        yield News("VolumeCreated", f"{volume.name} is made: {made}")
        return
    if before.name != volume.name:
        yield News("VolumeRenamed", f"{before.name} is called {volume.name} now")
    if before.size_bytes != volume.size_bytes:
        grown = f"{size_text(before.size_bytes)} → {size_text(volume.size_bytes)}"
        yield News("VolumeResized", f"{volume.name} has another size: {grown}")
    for host_nqn in volume.acl:
        if host_nqn not in before.acl and host_nqn != ALLOW_NONE:
            yield News("VolumeAdmits", f"{volume.name} admits {host_nqn}")
    for host_nqn in before.acl:
        if host_nqn not in volume.acl and host_nqn != ALLOW_NONE:
            yield News("VolumeDismisses", f"{volume.name} no longer admits {host_nqn}")
    if before.state is not volume.state and volume.state in _TOLD_STATES:
        failed = volume.state is VolumeState.FAILED
        severity = EventSeverity.HIGH if failed else EventSeverity.INFO
        text = f"{volume.name} {_TOLD_STATES[volume.state]}"
        yield News(f"Volume{volume.state.wire_name}", text, severity)


def _replicas(volume: VolumeRecord) -> str:
    return "1 replica" if volume.replica_count == 1 else f"{volume.replica_count} replicas"


def _snapshot_news(before: SnapshotRecord | None, snapshot: SnapshotRecord) -> Iterator[News]:
    if before is None:
        text = f"{snapshot.name} is taken of {snapshot.source_volume_name}"
        yield News("SnapshotCreated", text)
    elif before.state is not snapshot.state and snapshot.state is SnapshotState.FAILED:
        yield News("SnapshotFailed", f"{snapshot.name} has failed", EventSeverity.HIGH)
