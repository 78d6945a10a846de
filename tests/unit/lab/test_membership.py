# SPDX-License-Identifier: Apache-2.0
"""Nodes that join, leave and move: what the cluster makes of it, and what hosts are told."""

from __future__ import annotations

import pytest

from lightos.lab.errors import AlreadyExists, FailedPrecondition, NotFound
from lightos.lab.records import NodeState
from lightos.lab.view import AnaState, ClusterChange
from tests.unit.lab.harness import ADDRESS, FAILBACK_SECONDS, HOST, Harness

ELSEWHERE = "10.0.0.99"


def test_a_new_node_serves_after_the_transition_and_is_told_of(lab: Harness) -> None:
    generation = lab.cluster.discovery_generation
    node = lab.add_node(ELSEWHERE)
    assert lab.cluster.nodes[node].state is NodeState.ACTIVATING
    assert lab.told == [ClusterChange(ana=True)], "its groups are served by others until then"
    lab.wait()
    assert [view.address for view in lab.cluster.serving_nodes()][-1] == ELSEWHERE
    assert lab.cluster.discovery_generation > generation
    assert lab.told[-1].nodes
    assert {view.controller_id_base for view in lab.cluster.serving_nodes()} == {
        1,
        4097,
        8193,
        12289,
    }


def test_a_name_and_a_place_are_given_again(lab: Harness) -> None:
    lab.remove_node(lab.node_uuid(1))
    lab.wait()
    node = lab.cluster.nodes[lab.add_node(ELSEWHERE)]
    assert (node.name, node.index) == ("node2", 1)
    assert [each.name for each in lab.cluster.nodes.values()] == ["node1", "node2", "node3"]


def test_a_cluster_has_at_most_fifteen_nodes(lab: Harness) -> None:
    for number in range(12):
        lab.add_node(f"10.0.0.{number}")
    with pytest.raises(FailedPrecondition, match="15 nodes"):
        lab.cluster.nodes.add(ELSEWHERE)


def test_an_address_belongs_to_one_node(lab: Harness) -> None:
    first, second = list(lab.cluster.nodes.values())[:2]
    for refused in (
        lambda: lab.cluster.nodes.add(first.address),
        lambda: lab.cluster.nodes.move(second.uuid, first.address),
    ):
        with pytest.raises(AlreadyExists, match=r"node1 has the address 127\.0\.0\.1"):
            refused()
    assert lab.cluster.nodes.move(first.uuid, first.address).put == ()
    with pytest.raises(NotFound, match="nodes are node1, node2, node3"):
        lab.cluster.nodes.named("node4")


def test_the_last_node_stays(lab: Harness) -> None:
    lab.remove_node(lab.node_uuid(2))
    lab.remove_node(lab.node_uuid(1))
    with pytest.raises(FailedPrecondition, match="node1 is the only node"):
        lab.cluster.nodes.remove(lab.node_uuid(0))


def test_hosts_find_a_volume_whose_node_left_elsewhere(lab: Harness) -> None:
    volume = lab.ready_volume(replica_count=1, acl=[HOST])
    node = lab.cluster.nodes.primary(volume.group_id)
    assert node is not None
    before = lab.cluster.namespaces(HOST, ADDRESS)[volume.nsid]
    lab.told.clear()
    lab.remove_node(node)
    after = lab.cluster.namespaces(HOST, ADDRESS)[volume.nsid]
    assert after.ana_group_id != before.ana_group_id
    assert lab.told == [ClusterChange(frozenset({volume.nsid}), ana=True, nodes=True)]
    primary = lab.cluster.nodes.primary(after.ana_group_id)
    assert primary in lab.cluster.nodes
    (listed,) = (group for group in lab.cluster.ana_groups(primary) if volume.nsid in group.nsids)
    assert (listed.group_id, listed.state) == (after.ana_group_id, AnaState.OPTIMIZED)


def test_another_member_of_a_group_is_replaced_without_a_word_to_hosts(lab: Harness) -> None:
    lab.add_node(ELSEWHERE)
    lab.wait(2 * FAILBACK_SECONDS)
    volume = lab.ready_volume(replica_count=2, acl=[HOST])
    first, second = lab.cluster.nodes.replicas(volume.group_id)
    seen = lab.cluster.namespaces(HOST, ADDRESS)
    lab.remove_node(second)
    assert lab.cluster.namespaces(HOST, ADDRESS) == seen
    replicas = lab.cluster.nodes.replicas(volume.group_id)
    assert replicas[0] == first
    assert set(replicas) <= set(lab.cluster.nodes)


def test_a_node_that_moved_is_primary_again_once_hosts_had_time_to_find_it(lab: Harness) -> None:
    volume = lab.ready_volume()
    node = lab.cluster.nodes.primary(volume.group_id)
    assert node is not None
    lab.told.clear()
    lab.move_node(node, ELSEWHERE)
    assert lab.cluster.nodes[node].state is NodeState.ACTIVE
    assert lab.cluster.nodes.primary(volume.group_id) not in (node, None)
    assert lab.told == [ClusterChange(ana=True, nodes=True)]
    lab.wait(FAILBACK_SECONDS)
    assert lab.cluster.nodes.primary(volume.group_id) == node


def test_what_a_node_leaves_behind_survives_a_restart(lab: Harness) -> None:
    volume = lab.ready_volume(replica_count=1)
    node = lab.cluster.nodes.primary(volume.group_id)
    assert node is not None
    lab.remove_node(node)
    group = lab.cluster.volumes[volume.uuid].group_id
    replicas = lab.cluster.nodes.replicas(group)
    lab.restart()
    assert lab.cluster.volumes[volume.uuid].group_id == group
    assert lab.cluster.nodes.replicas(group) == replicas
    assert node not in lab.cluster.nodes
