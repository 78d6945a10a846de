# SPDX-License-Identifier: Apache-2.0
"""What happened in the cluster lately, in words."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from lightos.api.models import ALLOW_NONE
from lightos.lab.changes import Change, Changing
from lightos.lab.cluster import Cluster
from lightos.lab.controller.base import Controller
from lightos.lab.records import (
    NodeRecord,
    Record,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.traffic import Traffic
from lightos.lab.view import ClusterChange

MAX_EVENTS = 200
NAMED_VOLUMES = 3
_TOLD_STATES = {
    VolumeState.DELETING: "is being deleted",
    VolumeState.ROLLBACK: "goes back to a snapshot",
    VolumeState.MIGRATING: "is migrating",
    VolumeState.FAILED: "has failed",
}
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Event:
    """`kind` is what it is about: node, path, volume, snapshot, host or fault."""

    number: int
    at: datetime
    kind: str
    text: str


class EventLog:
    """The latest events, oldest first; in memory only."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._last_number = 0

    def note(self, kind: str, text: str) -> None:
        self._last_number += 1
        self._events.append(Event(self._last_number, self._now(), kind, text))

    def note_controller(self, node_name: str, controller: Controller, connected: bool) -> None:
        """A host got a controller of a node, or lost it."""
        did = "connected to" if connected else "disconnected from"
        self.note("host", f"{controller.host_nqn} {did} {node_name}")

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"id": e.number, "time": e.at.isoformat(), "kind": e.kind, "text": e.text}
            for e in self._events
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
            self._note_all(record.kind, _end(record))
            if isinstance(record, VolumeRecord):
                self._traffic.forget(record.uuid)
        for record in change.put:
            self._note_all(record.kind, self._news(record))
        self._cluster.take(change)

    def finish_due(self) -> Change[Any]:
        return self._cluster.finish_due()

    def postpone(self, change: Change[Any]) -> None:
        self._cluster.postpone(change)

    def seconds_to_next_due(self) -> float | None:
        return self._cluster.seconds_to_next_due()

    def _note_all(self, kind: str, texts: Iterator[str]) -> None:
        for text in texts:
            self._log.note(kind, text)

    def _news(self, record: Record) -> Iterator[str]:
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
            self._note_all("path", self._moves(before, self._primaries))

    def _moves(
        self, before: Mapping[int, UUID | None], after: Mapping[int, UUID | None]
    ) -> Iterator[str]:
        moved: dict[tuple[str, str], list[str]] = defaultdict(list)
        for volume in self._cluster.volumes.values():
            old, new = before.get(volume.group_id), after.get(volume.group_id)
            if old != new:
                moved[self._node_name(old), self._node_name(new)].append(volume.name)
        for (old_name, new_name), names in moved.items():
            shown = ", ".join(names[:NAMED_VOLUMES])
            more = f" and {len(names) - NAMED_VOLUMES} more" if len(names) > NAMED_VOLUMES else ""
            yield f"primary of {shown}{more}: {old_name} → {new_name}"

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


def _end(record: Record) -> Iterator[str]:
    match record:
        case NodeRecord():
            yield f"{record.name} left the cluster"
        case VolumeRecord() | SnapshotRecord():
            yield f"{record.name} is gone"


def _node_news(before: NodeRecord | None, node: NodeRecord) -> Iterator[str]:
    if before is None:
        yield f"{node.name} joins on {node.address}"
        return
    if before.address != node.address:
        yield f"{node.name} moves to {node.address}"
    if before.state is not node.state:
        yield f"{node.name} is {node.state.wire_name}"


def _volume_news(before: VolumeRecord | None, volume: VolumeRecord) -> Iterator[str]:
    if before is None:
        yield f"{volume.name} is made: {size_text(volume.size_bytes)}, {_replicas(volume)}"
        return
    if before.name != volume.name:
        yield f"{before.name} is called {volume.name} now"
    if before.size_bytes != volume.size_bytes:
        grown = f"{size_text(before.size_bytes)} → {size_text(volume.size_bytes)}"
        yield f"{volume.name} has another size: {grown}"
    for host_nqn in volume.acl:
        if host_nqn not in before.acl and host_nqn != ALLOW_NONE:
            yield f"{volume.name} admits {host_nqn}"
    for host_nqn in before.acl:
        if host_nqn not in volume.acl and host_nqn != ALLOW_NONE:
            yield f"{volume.name} no longer admits {host_nqn}"
    if before.state is not volume.state and volume.state in _TOLD_STATES:
        yield f"{volume.name} {_TOLD_STATES[volume.state]}"


def _replicas(volume: VolumeRecord) -> str:
    return "1 replica" if volume.replica_count == 1 else f"{volume.replica_count} replicas"


def _snapshot_news(before: SnapshotRecord | None, snapshot: SnapshotRecord) -> Iterator[str]:
    if before is None:
        yield f"{snapshot.name} is taken of {snapshot.source_volume_name}"
    elif before.state is not snapshot.state and snapshot.state is SnapshotState.FAILED:
        yield f"{snapshot.name} has failed"
