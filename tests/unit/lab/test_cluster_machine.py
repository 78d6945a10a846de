# SPDX-License-Identifier: Apache-2.0
"""Any sequence of operations, restarts and node failures, against a model of plain dicts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from lightos.lab.errors import (
    ClusterError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from lightos.lab.policies import rate_limits
from lightos.lab.records import LimitKind, NodeState, SnapshotState, VolumeState
from lightos.lab.view import AnaState, RateLimits
from tests.unit.lab.harness import ADDRESS, HOST, Harness

BLOCK = 4096
SIZE = 16 * BLOCK
POLICY_NAMES = st.sampled_from(["gold", "silver"])


class ClusterMachine(RuleBasedStateMachine):
    """`contents` holds what each living volume or snapshot must read as in its first block."""

    volumes: Bundle[UUID] = Bundle("volumes")
    snapshots: Bundle[UUID] = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.lab = Harness(Path(self.directory.name))
        self.contents: dict[UUID, bytes] = {}
        self.names = 0

    def teardown(self) -> None:
        self.lab.close()
        self.directory.cleanup()

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    @rule(target=volumes, replicas=st.integers(1, 3), open_to_all=st.booleans())
    def create_volume(self, replicas: int, open_to_all: bool) -> object:
        acl = ["ALLOW_ANY" if open_to_all else "ALLOW_NONE"]
        replicas = min(replicas, len(self.lab.cluster.nodes))
        try:
            volume = self.lab.volume(self.name(), replica_count=replicas, size_bytes=SIZE, acl=acl)
        except Unavailable:
            assert len(self.lab.cluster.serving_nodes()) == 0
            return multiple()
        self.contents[volume.uuid] = bytes(BLOCK)
        return volume.uuid

    @rule(volume=volumes, byte=st.integers(1, 255))
    def write(self, volume: UUID, byte: int) -> None:
        if volume in self.contents:
            self.lab.store.write(volume, 0, bytes([byte]) * BLOCK)
            self.contents[volume] = bytes([byte]) * BLOCK

    @rule(target=snapshots, volume=volumes)
    def create_snapshot(self, volume: UUID) -> object:
        record = self.lab.cluster.volumes.get(volume)
        if record is None:
            return multiple()
        try:
            snapshot = self.lab.snapshot(record, self.name())
        except FailedPrecondition:
            assert record.state in (VolumeState.CREATING, VolumeState.DELETING)
            return multiple()
        self.contents[snapshot.uuid] = self.contents[volume]
        return snapshot.uuid

    @rule(target=volumes, snapshot=snapshots, grow=st.booleans())
    def clone(self, snapshot: UUID, grow: bool) -> object:
        record = self.lab.cluster.snapshots.get(snapshot)
        if record is None:
            return multiple()
        try:
            volume = self.lab.volume(
                self.name(),
                source_snapshot=snapshot,
                size_bytes=record.size_bytes + grow * SIZE,
                replica_count=record.replica_count,
            )
        except FailedPrecondition:
            assert record.state is not SnapshotState.AVAILABLE
            return multiple()
        self.contents[volume.uuid] = self.contents[snapshot]
        return volume.uuid

    @rule(volume=volumes, snapshot=snapshots)
    def roll_back(self, volume: UUID, snapshot: UUID) -> None:
        cluster = self.lab.cluster
        try:
            cluster.carry_out(cluster.volumes.roll_back(None, volume, snapshot=snapshot))
        except ClusterError:
            return
        self.contents[volume] = self.contents[snapshot]

    @rule(volume=volumes, grow=st.booleans(), close=st.booleans())
    def update(self, volume: UUID, grow: bool, close: bool) -> None:
        record = self.lab.cluster.volumes.get(volume)
        if record is None or record.state is not VolumeState.AVAILABLE:
            return
        updated = self.lab.update(
            volume,
            if_match=str(record.etag),
            size_bytes=record.size_bytes + grow * SIZE,
            acl=["ALLOW_NONE"] if close else [HOST],
        )
        assert updated.etag != record.etag

    @rule(name=POLICY_NAMES, limit=st.sampled_from(LimitKind), write_limit=st.integers(0, 1000))
    def put_policy(self, name: str, limit: LimitKind, write_limit: int) -> None:
        tenants = self.lab.cluster.tenants
        if tenants.policies.find(name) is None:
            change = tenants.create_policy(
                name=name,
                description="",
                projects=(),
                limit=limit,
                read_limit=0,
                write_limit=write_limit,
            )
        else:
            change = tenants.update_policy(name, limit=(limit, 0, write_limit))
        self.lab.cluster.carry_out(change)

    @rule(volume=volumes, name=POLICY_NAMES)
    def set_policy(self, volume: UUID, name: str) -> None:
        tenants = self.lab.cluster.tenants
        try:
            self.lab.update(volume, qos_policy=name)
        except InvalidArgument:
            assert tenants.policies.find(name) is None
        except (FailedPrecondition, NotFound, Unavailable):
            record = self.lab.cluster.volumes.get(volume)
            assert record is None or record.state is not VolumeState.AVAILABLE

    @rule(volume=volumes)
    def clear_policy(self, volume: UUID) -> None:
        record = self.lab.cluster.volumes.get(volume)
        if record is not None and record.state is VolumeState.AVAILABLE:
            self.lab.update(volume, qos_policy="")

    @rule(name=POLICY_NAMES)
    def delete_policy(self, name: str) -> None:
        tenants = self.lab.cluster.tenants
        policy = tenants.policies.find(name)
        try:
            self.lab.cluster.carry_out(tenants.delete_policy(name))
        except NotFound:
            assert policy is None
        except FailedPrecondition:
            assert policy is not None
            assert list(tenants.users(policy))

    @rule(volume=consumes(volumes))
    def delete_volume(self, volume: UUID) -> None:
        self.delete(volume)

    @rule(snapshot=consumes(snapshots))
    def delete_snapshot(self, snapshot: UUID) -> None:
        self.delete(snapshot)

    def delete(self, uuid: UUID) -> None:
        self.lab.wait()
        if uuid in self.lab.cluster.volumes:
            self.lab.delete_volume(uuid)
        elif uuid in self.lab.cluster.snapshots:
            self.lab.delete_snapshot(uuid)
        self.contents.pop(uuid, None)

    def node(self, index: int) -> UUID:
        nodes = list(self.lab.cluster.nodes)
        return nodes[index % len(nodes)]

    @rule(index=st.integers(0, 4))
    def stop_node(self, index: int) -> None:
        self.lab.cluster.carry_out(self.lab.cluster.nodes.stop(self.node(index)))

    @rule(index=st.integers(0, 4))
    def start_node(self, index: int) -> None:
        self.lab.cluster.carry_out(self.lab.cluster.nodes.start(self.node(index)))

    @rule()
    def add_node(self) -> None:
        if len(self.lab.cluster.nodes) < 5:
            self.lab.add_node(self.name())

    @rule(index=st.integers(0, 4))
    def remove_node(self, index: int) -> None:
        cluster, node = self.lab.cluster, self.node(index)
        before = dict(cluster.nodes)
        try:
            self.lab.remove_node(node)
        except FailedPrecondition:
            assert cluster.nodes == before
        else:
            assert node not in cluster.nodes

    @rule(index=st.integers(0, 4))
    def move_node(self, index: int) -> None:
        self.lab.move_node(self.node(index), self.name())

    @rule(seconds=st.sampled_from([0.5, 1.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.lab.wait(seconds)

    @rule()
    def restart(self) -> None:
        before = (
            dict(self.lab.cluster.volumes),
            dict(self.lab.cluster.snapshots),
            dict(self.lab.cluster.nodes),
            self.replicas(),
            dict(self.lab.cluster.tenants.policies),
        )
        self.lab.restart()
        cluster = self.lab.cluster
        after = (dict(cluster.volumes), dict(cluster.snapshots), dict(cluster.nodes))
        assert (*after, self.replicas(), dict(cluster.tenants.policies)) == before

    def replicas(self) -> dict[UUID, tuple[UUID, ...]]:
        cluster = self.lab.cluster
        return {
            record.uuid: tuple(cluster.nodes.replicas(record.group_id))
            for record in (*cluster.volumes.values(), *cluster.snapshots.values())
        }

    @invariant()
    def every_object_has_its_replicas_on_nodes_that_exist(self) -> None:
        cluster = self.lab.cluster
        for uuid, replicas in self.replicas().items():
            record = cluster.volumes.get(uuid) or cluster.snapshots[uuid]
            assert len(set(replicas)) == record.replica_count
            assert set(replicas) <= set(cluster.nodes)

    @invariant()
    def every_node_heads_one_group_for_each_replica_count(self) -> None:
        nodes = set(self.lab.cluster.nodes)
        groups = self.lab.cluster.ana_groups(min(nodes))
        assert len(groups) == len(nodes) * min(3, len(nodes))
        assert len({group.group_id for group in groups}) == len(groups)
        assert max(group.group_id for group in groups) <= self.lab.cluster.max_ana_group_id
        heads = [self.lab.cluster.nodes.replicas(group.group_id)[0] for group in groups]
        assert all(heads.count(node) == min(3, len(nodes)) for node in nodes)

    @invariant()
    def contents_are_as_written(self) -> None:
        for uuid, content in self.contents.items():
            assert self.lab.store.read(uuid, 0, BLOCK) == content

    @invariant()
    def blocks_are_those_of_volumes_and_snapshots(self) -> None:
        cluster = self.lab.cluster
        assert self.lab.store.uuids() == set(cluster.volumes) | set(cluster.snapshots)

    @invariant()
    def every_volume_has_the_limits_of_its_policy(self) -> None:
        cluster = self.lab.cluster
        policies = cluster.tenants.policies
        for volume in cluster.volumes.values():
            if volume.qos_policy_uuid is None:
                assert cluster.rate_limits(volume.uuid) == RateLimits()
            elif volume.state is not VolumeState.DELETING:
                policy = policies[volume.qos_policy_uuid]
                assert cluster.rate_limits(volume.uuid) == rate_limits(policy, volume.size_bytes)

    @invariant()
    def nsids_are_unique(self) -> None:
        nsids = [volume.nsid for volume in self.lab.cluster.volumes.values()]
        assert len(set(nsids)) == len(nsids)

    @invariant()
    def a_host_sees_what_its_acl_and_state_allow(self) -> None:
        serving = (VolumeState.AVAILABLE, VolumeState.UPDATING, VolumeState.ROLLBACK)
        expected = {
            volume.nsid
            for volume in self.lab.cluster.volumes.values()
            if volume.state in serving and {HOST, "ALLOW_ANY"} & set(volume.acl)
        }
        assert set(self.lab.cluster.namespaces(HOST, ADDRESS)) == expected

    @invariant()
    def every_group_with_a_serving_replica_has_one_optimized_node(self) -> None:
        cluster = self.lab.cluster
        for volume in cluster.volumes.values():
            replicas = cluster.nodes.replicas(volume.group_id)
            serving = [n for n in replicas if cluster.nodes[n].state is NodeState.ACTIVE]
            optimized = [
                node
                for node in cluster.nodes
                if cluster.ana_state(node, volume.group_id) is AnaState.OPTIMIZED
            ]
            assert len(optimized) == bool(serving)
            assert set(optimized) <= set(serving)

    @invariant()
    def the_ana_log_lists_each_visible_namespace_once(self) -> None:
        cluster = self.lab.cluster
        visible = sorted(
            volume.nsid
            for volume in cluster.volumes.values()
            if volume.state not in (VolumeState.CREATING, VolumeState.DELETING)
        )
        for node in cluster.nodes:
            listed = [nsid for group in cluster.ana_groups(node) for nsid in group.nsids]
            assert sorted(listed) == visible


TestClusterMachine = ClusterMachine.TestCase
TestClusterMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
