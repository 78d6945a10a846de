# SPDX-License-Identifier: Apache-2.0
"""Revert, retype, QoS, manage, migrate and transfer, through real Cinder with our driver.

Two back ends share the lab cluster. What copies data on this machine needs its block devices, and
is tested on a kernel host instead.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openstack import exceptions
from openstack.block_storage.v3.volume import Volume

from testbed.cinder import configuration
from testbed.cinder.client import CinderClient
from testbed.cinder.errors import ResourceFailed
from testbed.cinder.service import CinderService
from testbed.cluster import GIB, Cluster, connector, free_port
from testbed.polling import wait_until

HOST = connector("compute-1", number=1)
POOL = "cinder@lightos#lightos"
OTHER_POOL = "cinder@other#other"


@pytest.fixture(scope="module")
def cinder(
    lab: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CinderService]:
    other = configuration.lightos_backend(lab) | {"volume_backend_name": "other"}
    with CinderService(
        tmp_path_factory.mktemp("moves"),
        lab,
        free_port(),
        incumbent=False,
        extra_backends={"other": other},
    ) as service:
        yield service


@pytest.fixture
def make_on_cluster(client: CinderClient, cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Makes volumes as an administrator would, without Cinder; gives the UUID."""
    made: list[str] = []

    def make(size_bytes: int = GIB, **fields: Any) -> str:
        body = {
            "name": f"data-{uuid.uuid4()}",
            "size": str(size_bytes),
            "replicaCount": 3,
            "acl": {"values": ["ALLOW_NONE"]},
            **fields,
        }
        found = str(cluster.request("POST", "/projects/default/volumes", body)["UUID"])
        made.append(found)
        path = f"/projects/default/volumes/{found}"
        wait_until(lambda: cluster.get(path)["state"] == "Available", f"{path} is Available")
        return found

    yield make
    client.remove_everything()
    for volume in cluster.volumes():
        if volume["UUID"] in made:
            cluster.request("DELETE", f"/projects/default/volumes/{volume['UUID']}")
    wait_until(lambda: not cluster.everything("volumes"), "the cluster is empty")


def policy_of(cluster: Cluster, volume: Volume) -> str | None:
    return cluster.volume_of(volume.id).get("qosPolicyName")


# --- revert --------------------------------------------------------------------------------------


def test_revert_to_the_latest_snapshot(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    client.extend_volume(volume.id, 2)
    snapshot = client.create_snapshot(volume.id)
    before = cluster.volume_of(volume.id)["ETag"]

    assert client.revert(volume.id, snapshot.id).size == 2
    found = cluster.volume_of(volume.id)
    assert (int(found["size"]), found["state"]) == (2 * GIB, "Available")
    assert found["ETag"] != before
    assert client.snapshot(snapshot.id).status == "available"
    assert len(cluster.snapshots()) == 1


def test_revert_across_an_extend_is_cinders_to_refuse(client: CinderClient) -> None:
    volume = client.create_volume(1)
    snapshot = client.create_snapshot(volume.id)
    client.extend_volume(volume.id, 2)
    with pytest.raises(exceptions.BadRequestException, match="size must be equal"):
        client.revert(volume.id, snapshot.id)
    assert client.volume(volume.id).status == "available"


def test_revert_of_an_attached_volume_is_refused(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    snapshot = client.create_snapshot(volume.id)
    client.complete_attachment(client.attach(volume.id, HOST))
    with pytest.raises(exceptions.ConflictException):
        client.revert(volume.id, snapshot.id)
    assert client.volume(volume.id).status == "in-use"
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


# --- QoS and retype ------------------------------------------------------------------------------


def test_qos_specs_limit_volumes_and_leave_nothing(client: CinderClient, cluster: Cluster) -> None:
    limited = client.create_qos_type("limited", {"total_iops_sec": "1024"})
    volumes = [client.create_volume(1, volume_type=limited) for _ in range(2)]
    assert {policy_of(cluster, volume) for volume in volumes} == {"cinder-iops-1024"}
    client.delete_volume(volumes[0].id)
    assert len(cluster.get("/policies")["policies"]) == 1
    client.delete_volume(volumes[1].id)
    assert cluster.get("/policies").get("policies", []) == []


def test_impossible_qos_specs_end_in_error(client: CinderClient) -> None:
    """The scheduler has to save the state of a volume that came back to it."""
    impossible = client.create_qos_type("impossible", {"total_iops_sec": "none"})
    with pytest.raises(ResourceFailed, match="total_iops_sec"):
        client.create_volume(1, volume_type=impossible)


def test_qos_specs_of_the_front_end_are_novas(client: CinderClient, cluster: Cluster) -> None:
    limited = client.create_qos_type("nova", {"read_iops_sec": "1"}, consumer="front-end")
    assert policy_of(cluster, client.create_volume(1, volume_type=limited)) is None


def test_retype_in_place(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    client.complete_attachment(client.attach(volume.id, HOST))
    uuid = cluster.volume_of(volume.id)["UUID"]
    for volume_type, policy, compressed in (
        (client.create_type("squeezed", {"compression": "<is> True"}), None, "true"),
        (client.create_qos_type("fast", {"total_iops_sec": "2560"}), "cinder-iops-2560", "false"),
        (client.create_qos_type("wide", {"total_bytes_sec": "9000000"}), "cinder-mb-9", "false"),
        (client.create_type("free"), None, "false"),
    ):
        assert client.retype(volume.id, volume_type).status == "in-use"
        found = cluster.volume_of(volume.id)
        assert (found["UUID"], found.get("qosPolicyName")) == (uuid, policy)
        assert found["compression"].lower() == compressed
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_retype_that_takes_a_migration_is_not_done_without_one(
    client: CinderClient, cluster: Cluster
) -> None:
    volume = client.create_volume(1)
    before = cluster.volume_of(volume.id)
    with pytest.raises(ResourceFailed, match="was not retyped"):
        client.retype(volume.id, client.create_type("one", {"lightos:num_replicas": "1"}))
    assert cluster.volume_of(volume.id)["ETag"] == before["ETag"]


def test_retype_to_a_type_that_cannot_be(client: CinderClient, cinder: CinderService) -> None:
    volume = client.create_volume(1)
    wrong = client.create_type("wrong", {"lightos:replicas": "2"})
    with pytest.raises(ResourceFailed):
        client.retype(volume.id, wrong)
    assert "no such spec, only lightos:num_replicas" in cinder.log_file.read_text()


# --- between two back ends of the cluster --------------------------------------------------------


def test_migration_inside_the_cluster_moves_no_data(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    before = cluster.volume_of(volume.id)
    (pool,) = {POOL, OTHER_POOL} - {volume.host}

    moved = client.migrate(volume.id, pool)
    assert (moved.host, moved.status) == (pool, "available")
    assert cluster.volume_of(volume.id) == before
    client.extend_volume(volume.id, 2)
    assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB


def test_retype_to_the_other_back_end(client: CinderClient, cluster: Cluster) -> None:
    here = client.create_type("here", {"volume_backend_name": "lightos"})
    there = client.create_type("there", {"volume_backend_name": "other"})
    volume = client.create_volume(1, volume_type=here)
    before = cluster.volume_of(volume.id)

    assert client.retype(volume.id, there, policy="on-demand").host == OTHER_POOL
    assert cluster.volume_of(volume.id) == before
    client.complete_attachment(client.attach(volume.id, HOST))
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


# --- manage --------------------------------------------------------------------------------------


def test_unmanage_and_manage_again(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(2)
    uuid = cluster.volume_of(volume.id)["UUID"]
    client.unmanage_volume(volume.id)
    (entry,) = client.manageable_volumes(POOL)
    assert entry["safe_to_manage"] is True
    assert entry["extra_info"]["name"] == f"volume-{volume.id}"

    again = client.manage_volume(OTHER_POOL, {"source-name": f"volume-{volume.id}"})
    assert again.size == 2
    assert cluster.volume_of(again.id)["UUID"] == uuid
    (entry,) = client.manageable_volumes(POOL)
    assert (entry["safe_to_manage"], entry["cinder_id"]) == (False, again.id)


def test_manage_with_a_type_of_limits(
    client: CinderClient, cluster: Cluster, make_on_cluster: Callable[..., str]
) -> None:
    limited = client.create_qos_type("limited", {"total_iops_sec_per_gb": "20"})
    reference = {"source-id": make_on_cluster()}
    volume = client.manage_volume(POOL, reference, volume_type=limited)
    assert policy_of(cluster, volume) == "cinder-iops-per-gb-20"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"size_bytes": GIB + 4096}, "not whole GiB"),
        ({"acl": {"values": [HOST["nqn"]]}}, "hosts have access"),
    ],
)
def test_what_cannot_be_managed_is_not_touched(
    client: CinderClient,
    cluster: Cluster,
    make_on_cluster: Callable[..., str],
    fields: dict[str, Any],
    reason: str,
) -> None:
    found = make_on_cluster(**fields)
    (entry,) = client.manageable_volumes(POOL)
    assert reason in entry["reason_not_safe"]
    with pytest.raises(ResourceFailed, match='state "error"'):
        client.manage_volume(POOL, {"source-id": found})
    for volume in client.volumes():
        client.delete_volume(volume.id)
    assert [volume["UUID"] for volume in cluster.volumes()] == [found]


def test_manageable_volumes_come_in_pages(
    client: CinderClient, make_on_cluster: Callable[..., str]
) -> None:
    for size_gib in (1, 3, 2):
        make_on_cluster(size_gib * GIB)
    page = client.manageable_volumes(POOL, sort="size:desc", limit=2)
    assert [entry["size"] for entry in page] == [3, 2]
    marker = json.dumps(page[-1]["reference"])
    (last,) = client.manageable_volumes(POOL, sort="size:desc", limit=2, marker=marker)
    assert last["size"] == 1


def test_snapshots_are_unmanaged_and_managed_again(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    snapshot = client.create_snapshot(volume.id)
    found = cluster.snapshot_of(snapshot.id)
    client.unmanage_snapshot(snapshot.id)
    (entry,) = client.manageable_snapshots(POOL)
    assert entry["safe_to_manage"] is True
    assert entry["source_reference"] == {"source-id": found["sourceVolumeUUID"]}

    again = client.manage_snapshot(volume.id, entry["reference"])
    (entry,) = client.manageable_snapshots(POOL)
    assert entry["cinder_id"] == again.id
    clone = client.create_volume(2, snapshot=again)
    assert cluster.volume_of(clone.id)["sourceSnapshotUUID"] == found["UUID"]


# --- transfer ------------------------------------------------------------------------------------


def test_transfer_to_another_project(
    client: CinderClient, cinder: CinderService, cluster: Cluster
) -> None:
    volume = client.create_volume(1)
    before = cluster.volume_of(volume.id)
    other = CinderClient.of(cinder, project="other")
    taken = other.accept_transfer(*client.offer_transfer(volume.id))
    assert taken.id == volume.id
    assert cluster.volume_of(volume.id) == before
    other.complete_attachment(other.attach(volume.id, HOST))
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}
    other.remove_everything()
