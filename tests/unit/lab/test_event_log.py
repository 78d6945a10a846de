# SPDX-License-Identifier: Apache-2.0
"""What the lab's event log says of changes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from lightos.lab.changes import Change
from lightos.lab.event_log import MAX_EVENTS, Chronicle, EventLog, News, size_text
from lightos.lab.records import VolumeRecord
from lightos.lab.traffic import IoCounters, Traffic
from tests.unit.lab.harness import GIB, HOST, Harness


class Told:
    """A cluster whose changes go through a chronicle; `new` is what was written since."""

    def __init__(self, lab: Harness) -> None:
        self.lab = lab
        self.traffic = Traffic()
        self.log = EventLog(lambda: datetime(2030, 1, 1, tzinfo=UTC))
        self.chronicle = Chronicle(lab.cluster, self.log, self.traffic)
        self._seen = 0

    def take(self, change: Change[VolumeRecord]) -> VolumeRecord:
        self.chronicle.make(change)
        self.chronicle.take(change)
        return change.put[0] if change.put else next(iter(self.lab.cluster.volumes.values()))

    def settle(self) -> None:
        while (seconds := self.chronicle.seconds_to_next_due()) is not None:
            self.lab.seconds += seconds
            change = self.chronicle.finish_due()
            self.chronicle.make(change)
            self.chronicle.take(change)

    def new(self) -> list[tuple[str, str]]:
        fresh = [e for e in self.log.latest(MAX_EVENTS) if e["id"] > self._seen]
        self._seen = max((e["id"] for e in fresh), default=self._seen)
        return [(e["kind"], e["text"]) for e in fresh]


@pytest.fixture
def told(lab: Harness) -> Told:
    return Told(lab)


def test_a_volumes_life(told: Told) -> None:
    volumes = told.lab.cluster.volumes
    asked = {"replica_count": 1, "compression": False, "sector_size_bytes": 4096}
    access = {"acl": ["ALLOW_NONE"], "ip_acl": ["ALLOW_ANY"]}
    made = volumes.create("default", name="vol", size_bytes=GIB, **asked, **access)
    uuid = told.take(made).uuid
    told.settle()
    assert told.new() == [("volume", "vol is made: 1 GiB, 1 replica")]
    told.take(volumes.update(None, uuid, size_bytes=2 * GIB, acl=[HOST], new_name="disk"))
    told.settle()
    assert told.new() == [
        ("volume", "vol is called disk now"),
        ("volume", "disk has another size: 1 GiB → 2 GiB"),
        ("volume", f"disk admits {HOST}"),
    ]
    told.take(volumes.update(None, uuid, acl=["ALLOW_NONE"]))
    told.settle()
    assert told.new() == [("volume", f"disk no longer admits {HOST}")]
    told.traffic.note_read(uuid, 4096)
    told.take(volumes.delete(None, uuid))
    told.settle()
    assert told.new() == [("volume", "disk is being deleted"), ("volume", "disk is gone")]
    assert told.traffic.of(uuid) == IoCounters()
    assert told.traffic.total() == IoCounters(reads=1, read_bytes=4096)


def test_a_node_that_stops_and_starts_and_the_primaries_that_move(told: Told) -> None:
    volumes = [told.lab.ready_volume(f"v{number}") for number in range(12)]
    first = told.lab.cluster.nodes.primary(volumes[0].group_id)
    assert first is not None
    mine = [v.name for v in volumes if told.lab.cluster.nodes.primary(v.group_id) == first]
    name = told.lab.cluster.nodes[first].name
    assert told.new() == []
    told.take(told.lab.cluster.nodes.stop(first))
    stopped, *moves = told.new()
    assert stopped == ("node", f"{name} is Inactive")
    assert {kind for kind, _ in moves} == {"path"}
    assert mine[0] in " ".join(text for _, text in moves)
    assert all(f": {name} → node" in text for _, text in moves)
    told.take(told.lab.cluster.nodes.start(first))
    told.settle()
    activating, active, *back = told.new()
    assert activating == ("node", f"{name} is Activating")
    assert active == ("node", f"{name} is Active")
    assert all(text.endswith(f"→ {name}") for _, text in back)


def test_of_many_volumes_that_move_some_are_named(told: Told) -> None:
    source = told.lab.ready_volume("v0")
    snapshot = told.lab.ready_snapshot(source).uuid
    for number in range(1, 5):  # where the snapshot is
        told.lab.volume(f"v{number}", source_snapshot=snapshot)
    told.settle()
    told.new()
    replicas = told.lab.cluster.nodes.replicas(source.group_id)
    for node in replicas:
        told.take(told.lab.cluster.nodes.stop(node))
    first, second, third = (told.lab.cluster.nodes[node].name for node in replicas)
    assert [text for kind, text in told.new() if kind == "path"] == [
        f"primary of v0, v1, v2 and 2 more: {first} → {second}",
        f"primary of v0, v1, v2 and 2 more: {second} → {third}",
        f"primary of v0, v1, v2 and 2 more: {third} → none",
    ]


def test_the_oldest_events_go(told: Told) -> None:
    for number in range(MAX_EVENTS + 5):
        told.log.note("fault", News("FaultAdded", f"number {number}"))
    texts = [event["text"] for event in told.log.latest(MAX_EVENTS)]
    assert len(texts) == MAX_EVENTS
    assert (texts[0], texts[-1]) == ("number 5", f"number {MAX_EVENTS + 4}")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(512, "512 bytes"), (4096, "4 KiB"), (GIB, "1 GiB"), (3 * GIB // 2, "1.5 GiB")],
)
def test_sizes_in_words(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_traffic_of_a_volume_that_did_nothing() -> None:
    assert Traffic().of(uuid4()) == IoCounters()
