# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from lightos.lab.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LabError,
    NotFound,
    Unavailable,
)
from lightos.lab.founding import found_cluster
from lightos.lab.records import (
    NodeState,
    ProtectionState,
    RemovalRecord,
    SnapshotState,
    VolumeState,
)
from lightos.lab.view import AnaState, ClusterView
from tests.unit.lab.harness import ADDRESS, FAILBACK_SECONDS, GIB, HOST, Harness

BLOCK = 4096


def as_view(lab: Harness) -> ClusterView:
    """mypy checks here that the cluster is what the NVMe side needs."""
    return lab.cluster


# Volumes


def test_a_new_volume_becomes_available_after_the_transition(lab: Harness) -> None:
    volume = lab.volume(acl=[HOST])
    assert volume.state is VolumeState.CREATING
    assert lab.cluster.nodes.protection_state(volume) is ProtectionState.UNKNOWN
    assert as_view(lab).namespaces(HOST, ADDRESS) == {}
    lab.wait()
    volume = lab.cluster.volumes.find("default", "vol")
    assert volume.state is VolumeState.AVAILABLE
    assert lab.cluster.nodes.protection_state(volume) is ProtectionState.FULLY_PROTECTED
    view = as_view(lab).namespaces(HOST, ADDRESS)[volume.nsid]
    assert (view.uuid, view.size_bytes, view.block_size_bytes, view.ana_group_id) == (
        volume.uuid,
        GIB,
        4096,
        volume.group_id,
    )


@pytest.mark.parametrize(("asked", "made"), [(1, 4096), (4096, 4096), (4097, 8192), (GIB, GIB)])
def test_sizes_are_rounded_up_to_4_kib(lab: Harness, asked: int, made: int) -> None:
    assert lab.volume(size_bytes=asked).size_bytes == made


@pytest.mark.parametrize(
    "asked",
    [
        {"size_bytes": 0},
        {"size_bytes": 1 << 60},
        {"replica_count": 0},
        {"replica_count": 4},
        {"name": ""},
        {"name": "a/b"},
        {"name": "n" * 254},
        {"acl": []},
        {"ip_acl": ["nowhere"]},
        {"labels": [("a", "1"), ("a", "2")]},
    ],
)
def test_bad_requests_make_nothing(lab: Harness, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        lab.volume(**{"name": "vol"} | asked)  # type: ignore[arg-type]
    assert not lab.cluster.volumes
    assert not lab.store.uuids()


def test_more_replicas_than_nodes_are_refused(tmp_path: Path) -> None:
    lab = Harness(tmp_path, nodes=2)
    with pytest.raises(InvalidArgument, match="3 replicas need 3 nodes, and this cluster has 2"):
        lab.volume(replica_count=3)
    lab.close()


def test_names_are_unique_in_a_project_only(lab: Harness) -> None:
    lab.volume("vol")
    with pytest.raises(AlreadyExists):
        lab.volume("vol")
    assert lab.volume("vol", "blue").project == "blue"
    with pytest.raises(NotFound, match="project green"):
        lab.volume("vol", "green")


def test_a_volume_is_not_found_through_another_project(lab: Harness) -> None:
    volume = lab.volume("vol")
    with pytest.raises(NotFound):
        lab.cluster.volumes.find("blue", volume.uuid)
    with pytest.raises(NotFound):
        lab.cluster.volumes.find("blue", "vol")
    with pytest.raises(NotFound):
        lab.cluster.volumes.delete("blue", volume.uuid)


def test_every_accepted_update_changes_the_etag(lab: Harness) -> None:
    volume = lab.ready_volume()
    updated = lab.update(volume.uuid, if_match=str(volume.etag), acl=[HOST])
    assert updated.state is VolumeState.UPDATING
    assert updated.etag != volume.etag
    lab.wait()
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.AVAILABLE
    assert lab.cluster.volumes[volume.uuid].etag == updated.etag
    with pytest.raises(FailedPrecondition, match="ETag"):
        lab.update(volume.uuid, if_match=str(volume.etag), acl=["ALLOW_NONE"])
    assert lab.cluster.volumes[volume.uuid].acl == (HOST,)
    lab.update(volume.uuid, acl=["ALLOW_NONE"])  # without If-Match the last one wins


def test_what_an_update_does_not_name_stays(lab: Harness) -> None:
    volume = lab.ready_volume(acl=[HOST], labels=[("tier", "gold")], compression=True)
    lab.update(volume.uuid, size_bytes=2 * GIB)
    lab.wait()
    after = lab.cluster.volumes[volume.uuid]
    assert (after.acl, after.labels, after.compression) == ((HOST,), (("tier", "gold"),), True)
    assert after.size_bytes == 2 * GIB


@pytest.mark.parametrize("state", ["creating", "updating"])
def test_a_busy_volume_takes_no_update_and_no_delete(lab: Harness, state: str) -> None:
    uuid = lab.volume().uuid
    if state == "updating":
        lab.wait()
        lab.update(uuid, acl=[HOST])
    with pytest.raises(Unavailable):
        lab.update(uuid, size_bytes=2 * GIB)
    with pytest.raises(Unavailable):
        lab.delete_volume(uuid)
    lab.wait()
    lab.delete_volume(uuid)


def test_a_volume_in_updating_serves(lab: Harness) -> None:
    volume = lab.ready_volume(acl=[HOST])
    lab.update(volume.uuid, size_bytes=2 * GIB)
    assert as_view(lab).namespaces(HOST, ADDRESS)[volume.nsid].size_bytes == 2 * GIB


def test_shrinking_needs_force_and_cuts_for_good(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.write(volume.uuid, GIB - BLOCK, b"x" * BLOCK)
    with pytest.raises(FailedPrecondition, match="Force"):
        lab.update(volume.uuid, size_bytes=GIB // 2)
    lab.update(volume.uuid, size_bytes=GIB // 2, force=True)
    lab.wait()
    lab.update(volume.uuid, size_bytes=GIB)
    lab.wait()
    assert lab.store.read(volume.uuid, GIB - BLOCK, BLOCK) == bytes(BLOCK)


def test_rename(lab: Harness) -> None:
    volume = lab.ready_volume("old")
    lab.ready_volume("taken")
    with pytest.raises(AlreadyExists):
        lab.update(volume.uuid, new_name="taken")
    lab.update(volume.uuid, new_name="new")
    assert lab.cluster.volumes.find("default", "new").uuid == volume.uuid
    with pytest.raises(NotFound):
        lab.cluster.volumes.find("default", "old")


def test_a_deleted_volume_is_gone_after_the_transition(lab: Harness) -> None:
    volume = lab.ready_volume(acl=[HOST])
    lab.delete_volume(volume.uuid)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.DELETING
    assert as_view(lab).namespaces(HOST, ADDRESS) == {}
    with pytest.raises(AlreadyExists):
        lab.volume("vol")
    with pytest.raises(FailedPrecondition):
        lab.update(volume.uuid, acl=[HOST])
    with pytest.raises(FailedPrecondition, match="it is Deleting"):
        lab.delete_volume(volume.uuid)
    lab.wait()
    with pytest.raises(NotFound):
        lab.cluster.volumes.find("default", volume.uuid)
    assert not lab.store.uuids()
    assert lab.volume("vol").uuid != volume.uuid


def test_nsids_are_unique_and_not_soon_given_again(lab: Harness) -> None:
    first = lab.ready_volume("a")
    second = lab.ready_volume("b")
    lab.delete_volume(second.uuid)
    lab.wait()
    assert len({first.nsid, second.nsid, lab.volume("c").nsid}) == 3


def test_lists_are_paged_in_uuid_order_and_hide_what_is_deleting(lab: Harness) -> None:
    volumes = sorted((lab.ready_volume(f"v{n}") for n in range(5)), key=lambda v: v.uuid)
    lab.volume("other", "blue")
    page = lab.cluster.volumes.page("default", limit=2)
    assert [v.uuid for v in page] == [v.uuid for v in volumes[:2]]
    lab.delete_volume(volumes[1].uuid)
    lab.delete_volume(volumes[2].uuid)
    rest = lab.cluster.volumes.page("default", limit=9, offset=volumes[1].uuid)
    assert [v.uuid for v in rest] == [v.uuid for v in volumes[3:]]
    everything = lab.cluster.volumes.page("default", limit=9, show_all=True)
    assert [v.uuid for v in everything] == [v.uuid for v in volumes]
    assert len(lab.cluster.volumes.page(None, limit=9)) == 4
    with pytest.raises(NotFound):
        lab.cluster.volumes.page("green", limit=9)


# Snapshots


def test_a_snapshot_holds_the_content_of_its_moment(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.write(volume.uuid, 0, b"1" * BLOCK)
    snapshot = lab.ready_snapshot(volume)
    lab.store.write(volume.uuid, 0, b"2" * BLOCK)
    clone = lab.ready_volume("clone", source_snapshot="snap", size_bytes=2 * GIB)
    assert lab.store.read(clone.uuid, 0, BLOCK) == b"1" * BLOCK
    assert (clone.source_snapshot_uuid, clone.source_snapshot_name) == (snapshot.uuid, "snap")
    assert clone.group_id == volume.group_id


def test_a_clone_is_not_smaller_than_its_snapshot(lab: Harness) -> None:
    lab.ready_snapshot(lab.ready_volume())
    with pytest.raises(InvalidArgument, match="smaller"):
        lab.volume("clone", source_snapshot="snap", size_bytes=GIB // 2)


def test_a_clone_needs_an_available_snapshot(lab: Harness) -> None:
    volume = lab.ready_volume()
    snapshot = lab.snapshot(volume)
    with pytest.raises(FailedPrecondition, match="Creating"):
        lab.volume("clone", source_snapshot=snapshot.uuid)
    with pytest.raises(NotFound):
        lab.volume("clone", source_snapshot=uuid4())


def test_a_snapshot_with_clones_stays_deleting_until_they_are_gone(lab: Harness) -> None:
    volume = lab.ready_volume()
    snapshot = lab.ready_snapshot(volume)
    clone = lab.ready_volume("clone", source_snapshot="snap")
    lab.delete_snapshot(snapshot.uuid)
    lab.wait(100)
    assert lab.cluster.snapshots.find("default", "snap").state is SnapshotState.DELETING
    with pytest.raises(FailedPrecondition, match="Deleting already"):
        lab.delete_snapshot(snapshot.uuid)
    lab.delete_volume(volume.uuid)
    lab.wait()
    assert set(lab.cluster.snapshots) == {snapshot.uuid}
    lab.restart()
    lab.wait(100)
    assert set(lab.cluster.snapshots) == {snapshot.uuid}
    lab.delete_volume(clone.uuid)
    lab.wait()
    assert not lab.cluster.snapshots
    assert not lab.store.uuids()


def test_under_the_name_of_a_deleting_snapshot_a_new_one_ends_failed(lab: Harness) -> None:
    volume = lab.ready_volume()
    old = lab.ready_snapshot(volume)
    clone = lab.ready_volume("clone", source_snapshot="snap")
    lab.delete_snapshot(old.uuid)
    new = lab.snapshot(volume)
    assert new.state is SnapshotState.CREATING
    lab.wait()
    assert lab.cluster.snapshots.find("default", new.uuid).state is SnapshotState.FAILED
    with pytest.raises(FailedPrecondition):
        lab.delete_snapshot(new.uuid)
    lab.restart()
    lab.wait(100)  # the cluster drops it by itself
    assert set(lab.cluster.snapshots) == {old.uuid}
    lab.delete_volume(clone.uuid)
    lab.wait()
    assert lab.ready_snapshot(volume).state is SnapshotState.AVAILABLE


def test_snapshot_names_are_unique(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.snapshot(volume)
    with pytest.raises(AlreadyExists):
        lab.snapshot(volume)


def test_a_snapshot_outlives_its_volume(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.write(volume.uuid, 0, b"1" * BLOCK)
    lab.ready_snapshot(volume)
    lab.delete_volume(volume.uuid)
    lab.wait()
    clone = lab.ready_volume("clone", source_snapshot="snap")
    assert lab.store.read(clone.uuid, 0, BLOCK) == b"1" * BLOCK


def test_a_snapshot_goes_when_its_retention_time_is_over(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.snapshot(volume, retention_seconds=60.0)
    lab.wait(30)
    lab.restart()
    assert lab.cluster.snapshots.find("default", "snap").state is SnapshotState.AVAILABLE
    lab.wait(31)
    assert not lab.cluster.snapshots


def test_roll_back(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.write(volume.uuid, 0, b"1" * BLOCK)
    lab.ready_snapshot(volume)
    lab.store.write(volume.uuid, 0, b"2" * BLOCK)
    lab.update(volume.uuid, size_bytes=2 * GIB)
    lab.wait()
    lab.cluster.carry_out(lab.cluster.volumes.roll_back("default", volume.uuid, snapshot="snap"))
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.ROLLBACK
    lab.store.write(volume.uuid, BLOCK, b"3" * BLOCK)
    lab.restart()
    lab.wait()
    after = lab.cluster.volumes[volume.uuid]
    assert (after.state, after.size_bytes) == (VolumeState.AVAILABLE, 2 * GIB)
    assert lab.store.read(volume.uuid, 0, 2 * BLOCK) == b"1" * BLOCK + b"3" * BLOCK
    lab.ready_volume("other")
    with pytest.raises(InvalidArgument, match="not taken of volume other"):
        lab.cluster.volumes.roll_back("default", "other", snapshot="snap")


def test_a_volume_that_is_deleting_cannot_be_rolled_back(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.ready_snapshot(volume)
    lab.delete_volume(volume.uuid)
    with pytest.raises(Unavailable, match="it is Deleting"):
        lab.cluster.volumes.roll_back("default", volume.uuid, snapshot="snap")


# Nodes and paths


def test_nodes_by_what_names_them(lab: Harness) -> None:
    first, second, third = lab.cluster.nodes.values()
    matching = lab.cluster.nodes.matching
    assert matching() == [first, second, third]
    assert matching(name="node2") == matching(uuid=second.uuid, failure_domain="node2") == [second]
    assert matching(name="node9") == matching(name="node9", uuid=first.uuid) == []
    for conflicting in (
        {"name": "node1", "uuid": second.uuid},
        {"name": "node1", "failure_domain": "node2"},
    ):
        with pytest.raises(InvalidArgument, match="different nodes"):
            matching(**conflicting)


def test_one_node_is_optimized_and_the_others_are_inaccessible(lab: Harness) -> None:
    for replicas in (1, 2, 3):
        volume = lab.ready_volume(f"v{replicas}", replica_count=replicas)
        primary = lab.cluster.nodes.primary(volume.group_id)
        for node in lab.cluster.nodes:
            expected = AnaState.OPTIMIZED if node == primary else AnaState.INACCESSIBLE
            assert as_view(lab).ana_state(node, volume.group_id) is expected
            (group,) = [g for g in as_view(lab).ana_groups(node) if g.group_id == volume.group_id]
            assert (group.state, group.nsids) == (expected, (volume.nsid,))


def test_volumes_are_spread_over_the_nodes(lab: Harness) -> None:
    primaries = [lab.cluster.nodes.primary(lab.ready_volume(f"v{n}").group_id) for n in range(6)]
    assert sorted(primaries, key=str) == sorted([*lab.cluster.nodes] * 2, key=str)


def test_volumes_that_are_made_at_once_are_spread_over_the_nodes(lab: Harness) -> None:
    """While they are Creating no host sees them, and each counts nonetheless."""
    volumes = [lab.volume(f"v{n}") for n in range(6)]
    primaries = [lab.cluster.nodes.primary(volume.group_id) for volume in volumes]
    assert sorted(primaries, key=str) == sorted([*lab.cluster.nodes] * 2, key=str)


def test_a_stopped_node_hands_over_and_takes_back_later(lab: Harness) -> None:
    volume = lab.ready_volume()
    group = volume.group_id
    (preferred,) = lab.optimized(group)
    count, generation = lab.cluster.ana_change_count(), lab.cluster.discovery_generation
    lab.told.clear()

    lab.stop_node(preferred)
    assert [(change.ana, change.nodes) for change in lab.told] == [(True, True)]
    assert lab.optimized(group) == [(preferred + 1) % 3]
    assert lab.cluster.ana_change_count() > count
    assert lab.cluster.discovery_generation != generation
    assert len(as_view(lab).serving_nodes()) == 2
    assert lab.cluster.nodes.protection_state(volume) is ProtectionState.DEGRADED

    lab.start_node(preferred)
    assert lab.cluster.nodes[lab.node_uuid(preferred)].state is NodeState.ACTIVATING
    assert len(as_view(lab).serving_nodes()) == 2
    lab.wait()
    assert len(as_view(lab).serving_nodes()) == 3
    assert lab.optimized(group) == [(preferred + 1) % 3]  # hosts get time to reconnect
    assert lab.cluster.nodes.protection_state(volume) is ProtectionState.FULLY_PROTECTED
    lab.told.clear()
    lab.wait(FAILBACK_SECONDS)
    assert lab.optimized(group) == [preferred]
    assert [(change.ana, change.nodes) for change in lab.told] == [(True, False)]


def test_a_node_that_is_needed_serves_as_soon_as_it_is_active(lab: Harness) -> None:
    volume = lab.ready_volume(replica_count=1)
    (primary,) = lab.optimized(volume.group_id)
    lab.stop_node(primary)
    assert lab.optimized(volume.group_id) == []
    assert lab.cluster.nodes.protection_state(volume) is ProtectionState.NOT_AVAILABLE
    lab.start_node(primary)
    lab.wait()
    assert lab.optimized(volume.group_id) == [primary]


def test_without_nodes_a_volume_is_refused_for_now(lab: Harness) -> None:
    for index in range(3):
        lab.stop_node(index)
    with pytest.raises(Unavailable, match="no storage node"):
        lab.volume()
    assert as_view(lab).serving_nodes() == ()


def test_a_node_stopped_while_it_starts_stays_down(lab: Harness) -> None:
    lab.stop_node(0)
    lab.start_node(0)
    lab.stop_node(0)
    lab.wait(100)
    assert lab.cluster.nodes[lab.node_uuid(0)].state is NodeState.INACTIVE
    with pytest.raises(NotFound):
        lab.cluster.nodes.stop(uuid4())


def test_controller_ids_of_nodes_never_overlap(lab: Harness) -> None:
    bases = [node.controller_id_base for node in as_view(lab).serving_nodes()]
    assert bases == [1, 4097, 8193]


# Restart and broken disks


def test_a_restart_keeps_everything_and_resumes_what_was_under_way(lab: Harness) -> None:
    ready = lab.ready_volume("ready", acl=[HOST], labels=[("a", "b")])
    snapshot = lab.ready_snapshot(ready)
    clone = lab.ready_volume("clone", source_snapshot="snap")
    creating = lab.volume("creating")
    lab.delete_volume(clone.uuid)
    lab.update(ready.uuid, size_bytes=2 * GIB)
    lab.stop_node(1)
    lab.start_node(1)
    before = (
        dict(lab.cluster.volumes),
        dict(lab.cluster.snapshots),
        dict(lab.cluster.nodes),
        lab.cluster.record,
    )
    lab.restart()
    after = (
        dict(lab.cluster.volumes),
        dict(lab.cluster.snapshots),
        dict(lab.cluster.nodes),
        lab.cluster.record,
    )
    assert after == before
    lab.wait()
    assert set(lab.cluster.volumes) == {ready.uuid, creating.uuid}
    assert {v.state for v in lab.cluster.volumes.values()} == {VolumeState.AVAILABLE}
    assert lab.cluster.snapshots == {snapshot.uuid: snapshot}
    assert len(lab.cluster.serving_nodes()) == 3


def test_blocks_that_nothing_names_are_removed_at_start(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.create_volume(UUID(int=7), GIB)  # a create that a crash cut short
    lab.restart()
    assert lab.store.uuids() == {volume.uuid}


def test_a_removal_that_a_crash_cut_short_is_ended_at_start(
    lab: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = lab.ready_volume()
    lab.store.write(volume.uuid, 0, bytes(BLOCK))
    snapshot = lab.ready_snapshot(volume)
    lab.store.write(volume.uuid, 0, bytes(BLOCK))
    lab.delete_snapshot(snapshot.uuid)
    lab.delete_volume(volume.uuid)
    with monkeypatch.context() as crash:
        crash.setattr(lab.store, "delete", lambda _uuid: None)
        lab.wait()
        assert not lab.cluster.volumes
        assert lab.store.uuids() == {volume.uuid, snapshot.uuid}
    lab.restart()
    assert not lab.store.uuids()
    assert lab.database.load(RemovalRecord) == []


def test_removals_are_forgotten_with_the_next_change(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.delete_volume(volume.uuid)
    lab.wait()
    assert lab.database.load(RemovalRecord) == [RemovalRecord(volume.uuid)]
    lab.volume("next")
    assert lab.database.load(RemovalRecord) == []


@pytest.mark.parametrize("newer", ["written volume", "two volumes", "snapshot", "clone"])
def test_blocks_that_are_newer_than_the_metadata_stay(
    lab: Harness, newer: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = lab.ready_volume()
    lab.store.write(old.uuid, 0, b"1" * BLOCK)
    lab.close()
    file = lab.directory / "cluster.sqlite"
    copy = file.read_bytes()
    lab.open()
    lab.wait()
    match newer:
        case "written volume":
            lab.store.write(lab.ready_volume("new").uuid, 0, b"2" * BLOCK)
        case "two volumes":
            lab.ready_volume("new")
            lab.ready_volume("newer")
        case "snapshot":
            lab.ready_snapshot(old)
            lab.store.write(old.uuid, 0, b"2" * BLOCK)
        case "clone":
            lab.ready_volume("new", source_snapshot=lab.ready_snapshot(old).uuid)
    held = lab.store.uuids()
    contents = {uuid: lab.store.read(uuid, 0, BLOCK) for uuid in held}
    lab.close()
    newest = file.read_bytes()
    file.write_bytes(copy)
    for _ in range(2):
        caplog.clear()
        lab.open()
        lab.wait()
        assert set(lab.cluster.volumes) == {old.uuid}
        assert "restore the newest one" in caplog.text
        assert {uuid: lab.store.read(uuid, 0, BLOCK) for uuid in held} == contents
        lab.close()
    file.write_bytes(newest)
    lab.open()
    named = {*lab.cluster.volumes, *lab.cluster.snapshots}
    assert (named, lab.store.uuids()) == (held, held)


def test_a_resize_that_a_crash_cut_short_is_finished_at_start(lab: Harness) -> None:
    volume = lab.ready_volume()
    change = lab.cluster.volumes.update(None, volume.uuid, size_bytes=2 * GIB)
    lab.database.commit(change.put)
    lab.restart()
    lab.store.write(volume.uuid, 2 * GIB - BLOCK, b"1" * BLOCK)


def test_missing_blocks_are_found_at_start(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.store.delete(volume.uuid)
    with pytest.raises(LabError, match="damaged"):
        lab.restart()


def test_a_full_metadata_disk_refuses_and_loses_nothing(lab: Harness) -> None:
    volume = lab.ready_volume()
    snapshot = lab.ready_snapshot(volume)
    connection = lab.database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(100):
            lab.volume(f"n{number}", labels=[("k" * 250, "v" * 250)])

    with pytest.raises(Internal, match="free space"):
        fill()
    assert lab.store.uuids() == set(lab.cluster.volumes) | {snapshot.uuid}
    connection.execute("PRAGMA max_page_count = 1000000")
    lab.wait(5)
    assert {v.state for v in lab.cluster.volumes.values()} == {VolumeState.AVAILABLE}
    lab.restart()
    assert lab.cluster.volumes[volume.uuid] == volume


def test_state_changes_wait_for_a_full_disk(lab: Harness) -> None:
    volume = lab.volume()
    lab.seconds += 1
    change = lab.cluster.finish_due()
    assert lab.cluster.seconds_to_next_due() is None
    lab.cluster.postpone(change)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.CREATING
    lab.wait(5)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.AVAILABLE


def test_a_cluster_with_volumes_keeps_its_number_of_nodes_and_may_change_addresses(
    lab: Harness,
) -> None:
    lab.volume()
    with pytest.raises(LabError, match="cluster of 3 nodes, not 2"):
        found_cluster(lab.database, node_count=2)
    uuids = list(lab.cluster.nodes)
    addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    found_cluster(lab.database, addresses=addresses, projects=["green"])
    lab.restart()
    assert [node.address for node in lab.cluster.nodes.values()] == addresses
    assert list(lab.cluster.nodes) == uuids
    assert set(lab.cluster.projects) == {"default", "blue", "green"}


def test_an_address_that_cannot_be_had_changes_nothing(lab: Harness) -> None:
    def refuse(address: str) -> None:
        raise LabError(f"{address} is in use")

    with pytest.raises(LabError, match=r"10\.0\.0\.1 is in use"):
        found_cluster(lab.database, addresses=["10.0.0.1"], check_address=refuse)
    nodes = list(lab.cluster.nodes.values())
    lab.restart()
    assert list(lab.cluster.nodes.values()) == nodes
    found_cluster(lab.database, check_address=refuse)


def test_a_cluster_without_volumes_may_have_another_number_of_nodes(lab: Harness) -> None:
    lab.nodes = 5
    lab.restart()
    assert [node.name for node in lab.cluster.nodes.values()] == [f"node{n}" for n in range(1, 6)]


def test_what_a_host_sees_is_worked_out_once_per_change(lab: Harness) -> None:
    volumes = [lab.volume(f"v{n}", acl=[HOST]) for n in range(300)]
    lab.wait()
    first = as_view(lab).namespaces(HOST, ADDRESS)
    assert len(first) == len(volumes)
    assert as_view(lab).namespaces(HOST, ADDRESS) is first
    lab.snapshot(lab.cluster.volumes[volumes[0].uuid])
    assert as_view(lab).namespaces(HOST, ADDRESS) is first
