# SPDX-License-Identifier: Apache-2.0
"""Volumes of one replica that may be on some of the nodes only."""

from __future__ import annotations

import sqlite3
from uuid import UUID

import pytest

from lightos.api.models.volumes import MatchKey, MatchOperator, MatchPair, PlacementRestriction
from lightos.lab.errors import FailedPrecondition, InvalidArgument, Unavailable
from lightos.lab.records import SnapshotRecord, VolumeRecord
from tests.unit.lab.harness import GIB, Harness


def within(*domains: str, key: MatchKey = MatchKey.FD) -> PlacementRestriction:
    pairs = tuple(MatchPair(key=key, value=domain) for domain in domains)
    return PlacementRestriction(operator=MatchOperator.IN, pairs=pairs)


def restricted(lab: Harness, name: str, *restrictions: PlacementRestriction) -> VolumeRecord:
    return lab.ready_volume(name, replica_count=1, placement_restrictions=restrictions)


def nodes_of(lab: Harness, record: VolumeRecord | SnapshotRecord) -> list[str]:
    return [lab.cluster.nodes[node].name for node in lab.cluster.nodes.replicas(record.group_id)]


def names_of(lab: Harness, count: int, *restrictions: PlacementRestriction) -> set[str]:
    made = [restricted(lab, f"v{number}", *restrictions) for number in range(count)]
    return {name for volume in made for name in nodes_of(lab, volume)}


def cluster_uuid(lab: Harness) -> str:
    return str(lab.cluster.record.uuid)


def test_a_volume_goes_where_its_restriction_says(lab: Harness) -> None:
    assert names_of(lab, 4, within("node3")) == {"node3"}


def test_the_primary_of_one_replica_is_that_replica(lab: Harness) -> None:
    assert names_of(lab, 4, within("node2", key=MatchKey.PRIMARY_FD)) == {"node2"}


def test_one_pair_of_a_restriction_is_enough(lab: Harness) -> None:
    assert names_of(lab, 6, within("node1", "node3", "nowhere")) == {"node1", "node3"}


def test_every_restriction_has_to_be_met(lab: Harness) -> None:
    assert names_of(lab, 4, within("node1", "node2"), within("node2", "node3")) == {"node2"}


def test_the_whole_cluster_is_named_by_its_uuid(lab: Harness) -> None:
    everywhere = within(cluster_uuid(lab), key=MatchKey.CLUSTER_ID)
    assert names_of(lab, 6, everywhere) == {"node1", "node2", "node3"}


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"replica_count": 3}, "one replica, not of 3"),
        ({"placement_restrictions": [within("node9")]}, "admit no node"),
        ({"placement_restrictions": [within("node1"), within("node2")]}, "admit no node"),
        ({"placement_restrictions": [within("node1", key=MatchKey.CLUSTER_ID)]}, "admit no node"),
        ({"placement_restrictions": [within("node1", key=MatchKey.UNKNOWN)]}, "key of"),
        ({"placement_restrictions": [within()]}, "labelValueKeyPairs of"),
        (
            {"placement_restrictions": [PlacementRestriction(pairs=within("node1").pairs)]},
            "operator of",
        ),
    ],
)
def test_bad_restrictions_make_nothing(
    lab: Harness, asked: dict[str, object], refusal: str
) -> None:
    wanted = {"replica_count": 1, "placement_restrictions": [within("node1")]} | asked
    with pytest.raises(InvalidArgument, match=refusal):
        lab.volume(**wanted)
    assert not lab.cluster.volumes
    assert not lab.store.uuids()


def test_lists_by_failure_domain_have_what_has_a_replica_there(lab: Harness) -> None:
    alone = restricted(lab, "alone", within("node3"))
    pair = lab.ready_volume("pair", replica_count=2)
    everywhere = lab.ready_volume("everywhere", replica_count=3)
    for domain in ("node1", "node2", "node3"):
        found = lab.cluster.volumes.page(None, limit=9, failure_domain=domain)
        has = [each for each in (alone, pair, everywhere) if domain in nodes_of(lab, each)]
        assert {each.name for each in found} == {each.name for each in has}
    assert not lab.cluster.volumes.page(None, limit=9, failure_domain="node9")


def test_a_volume_waits_for_its_node_rather_than_go_elsewhere(lab: Harness) -> None:
    lab.stop_node(2)
    with pytest.raises(Unavailable, match="no storage node that the placementRestrictions admit"):
        restricted(lab, "vol", within("node3"))


def test_restrictions_survive_a_restart(lab: Harness) -> None:
    volume = restricted(lab, "vol", within("node3", "node1"))
    assert volume.placement_restrictions == (within("node3", "node1"),)
    lab.restart()
    assert lab.cluster.volumes[volume.uuid] == volume


def test_a_state_folder_from_before_restrictions_opens(lab: Harness) -> None:
    volume = lab.ready_volume()
    snapshot = lab.ready_snapshot(volume)
    lab.close()
    with sqlite3.connect(lab.directory / "cluster.sqlite") as database:
        database.execute("UPDATE record SET body = json_remove(body, '$.placement_restrictions')")
    database.close()
    lab.open()
    assert lab.cluster.volumes[volume.uuid] == volume
    assert lab.cluster.snapshots[snapshot.uuid] == snapshot


@pytest.mark.parametrize(
    ("restrictions", "expected"),
    [((), "node3"), ((within("node3", "node1"),), "node3"), ((within("node1"),), "node1")],
)
def test_a_clone_stays_where_its_snapshot_is_unless_it_may_not(
    lab: Harness, restrictions: tuple[PlacementRestriction, ...], expected: str
) -> None:
    lab.ready_snapshot(restricted(lab, "vol", within("node3")))
    clone = lab.ready_volume(
        "clone",
        source_snapshot="snap",
        size_bytes=GIB,
        replica_count=1,
        placement_restrictions=restrictions,
    )
    assert nodes_of(lab, clone) == [expected]
    assert clone.placement_restrictions == restrictions


def node_named(lab: Harness, name: str) -> UUID:
    return lab.cluster.nodes.named(name).uuid


def test_a_node_that_leaves_hands_volumes_to_nodes_that_they_may_be_on(lab: Harness) -> None:
    lab.stop_node(2)
    volume = restricted(lab, "vol", within("node2", "node3"))
    snapshot = lab.ready_snapshot(volume)
    free = lab.ready_volume("free", replica_count=1, source_snapshot="snap")
    assert nodes_of(lab, volume) == nodes_of(lab, free) == ["node2"]
    lab.remove_node(node_named(lab, "node2"))
    assert nodes_of(lab, lab.cluster.volumes[volume.uuid]) == ["node3"]
    assert nodes_of(lab, lab.cluster.snapshots[snapshot.uuid]) == ["node3"]
    assert nodes_of(lab, lab.cluster.volumes[free.uuid]) == ["node1"]


def test_the_only_node_that_something_may_be_on_stays(lab: Harness) -> None:
    volume = restricted(lab, "vol", within("node2"))
    lab.ready_snapshot(volume)
    for kept in ("volume vol", "snapshot snap"):
        with pytest.raises(FailedPrecondition, match=f"{kept} of project default admit node2 only"):
            lab.cluster.nodes.remove(node_named(lab, "node2"))
        if kept == "volume vol":
            lab.delete_volume(volume.uuid)
            lab.wait()
    lab.delete_snapshot(lab.cluster.snapshots.find("default", "snap").uuid)
    lab.wait()
    lab.remove_node(node_named(lab, "node2"))
