# SPDX-License-Identifier: Apache-2.0
"""A volume's life through real Cinder with our driver; the cluster is compared after each step."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openstack import exceptions

from testbed.cinder.client import CinderClient, openstack_command
from testbed.cinder.errors import ResourceFailed
from testbed.cinder.service import CinderService
from testbed.cluster import GIB, Cluster, connector, stopped_node


def test_untyped_volume_has_the_configured_defaults(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)

    found = cluster.volume_of(volume.id)
    assert found["state"] == "Available"
    assert int(found["size"]) == GIB
    assert found["replicaCount"] == 3
    assert found["compression"] in {False, "False", "false"}
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()

    client.delete_volume(volume.id)
    assert cluster.volumes() == []


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_volume_type_sets_compression_and_replicas(
    client: CinderClient, cluster: Cluster, replicas: int
) -> None:
    volume_type = client.create_type(
        f"compressed-{replicas}",
        {"compression": "<is> True", "lightos:num_replicas": str(replicas)},
    )
    volume = client.create_volume(2, volume_type=volume_type)

    found = cluster.volume_of(volume.id)
    assert int(found["size"]) == 2 * GIB
    assert found["replicaCount"] == replicas
    assert found["compression"] in {True, "True", "true"}


@pytest.mark.parametrize("replicas", ["4", "0", "many"])
def test_impossible_number_of_replicas_is_an_error_that_names_it(
    client: CinderClient, cinder: CinderService, cluster: Cluster, replicas: str
) -> None:
    volume_type = client.create_type(f"replicas-{replicas}", {"lightos:num_replicas": replicas})
    with pytest.raises(ResourceFailed, match='state "error"'):
        client.create_volume(1, volume_type=volume_type)
    assert "replica" in cinder.log_errors()
    assert cluster.volumes() == []


def test_snapshot(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    snapshot = client.create_snapshot(volume.id)

    found = cluster.snapshot_of(snapshot.id)
    assert found["state"] == "Available"
    assert found["sourceVolumeUUID"] == cluster.volume_of(volume.id)["UUID"]

    client.delete_snapshot(snapshot.id)
    assert cluster.snapshots() == []
    assert client.volume(volume.id).status == "available"


@pytest.mark.parametrize("size_gib", [1, 3])
def test_volume_from_snapshot(client: CinderClient, cluster: Cluster, size_gib: int) -> None:
    source = client.create_volume(1)
    snapshot = client.create_snapshot(source.id)
    volume = client.create_volume(size_gib, snapshot=snapshot)

    found = cluster.volume_of(volume.id)
    assert int(found["size"]) == size_gib * GIB
    assert found["state"] == "Available"
    assert cluster.host_nqns(volume.id) == set()


@pytest.mark.parametrize("size_gib", [1, 3])
def test_clone(client: CinderClient, cluster: Cluster, size_gib: int) -> None:
    source = client.create_volume(1)
    clone = client.create_volume(size_gib, source=source)

    assert int(cluster.volume_of(clone.id)["size"]) == size_gib * GIB
    assert int(cluster.volume_of(source.id)["size"]) == GIB
    assert not [s for s in cluster.snapshots() if s["state"] == "Available"]


def test_attached_volume_can_be_cloned_and_snapshotted(
    client: CinderClient, cluster: Cluster
) -> None:
    host = connector("compute-1", number=1)
    source = client.create_volume(1)
    client.complete_attachment(client.attach(source.id, host))

    clone = client.create_volume(2, source=source)
    snapshot = client.create_snapshot(source.id, force=True)
    volume = client.create_volume(1, snapshot=snapshot)

    assert cluster.host_nqns(source.id) == {host["nqn"]}
    assert cluster.host_nqns(clone.id) == set()
    assert cluster.host_nqns(volume.id) == set()


def test_extend(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)

    assert client.extend_volume(volume.id, 2).size == 2
    assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB


def test_extend_while_attached(client: CinderClient, cluster: Cluster) -> None:
    host = connector("compute-1", number=1)
    volume = client.create_volume(1)
    client.complete_attachment(client.attach(volume.id, host))

    extended = client.extend_volume(volume.id, 4)

    assert (extended.size, extended.status) == (4, "in-use")
    assert int(cluster.volume_of(volume.id)["size"]) == 4 * GIB
    assert cluster.host_nqns(volume.id) == {host["nqn"]}


def test_shrinking_is_refused(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(2)

    with pytest.raises(exceptions.BadRequestException):
        client.extend_volume(volume.id, 1)
    assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB


def test_many_at_once(client: CinderClient, cluster: Cluster) -> None:
    with ThreadPoolExecutor(max_workers=6) as pool:
        volumes = list(pool.map(lambda _: client.create_volume(1), range(12)))
        assert {v["name"] for v in cluster.volumes()} == {f"volume-{v.id}" for v in volumes}

        snapshots = list(pool.map(lambda v: client.create_snapshot(v.id), volumes))
        assert len(cluster.snapshots()) == 12

        list(pool.map(lambda s: client.delete_snapshot(s.id), snapshots))
        list(pool.map(lambda v: client.delete_volume(v.id), volumes))
    assert cluster.volumes() == []


def test_loss_of_the_first_node_goes_unnoticed(
    client: CinderClient, cluster: Cluster, lab_dir: Path
) -> None:
    volume_type = client.create_type("two-replicas", {"lightos:num_replicas": "2"})
    with stopped_node(lab_dir, cluster.lab["nodes"][0]["name"]):
        volume = client.create_volume(1, volume_type=volume_type)
        client.complete_attachment(client.attach(volume.id, connector("compute-1", number=1)))
        client.extend_volume(volume.id, 2)
        assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB
        client.remove_everything()
        assert cluster.volumes() == []


def test_pool_reports_the_cluster(client: CinderClient, cluster: Cluster) -> None:
    (pool,) = client.pools()
    capabilities = pool["capabilities"]
    statistics = cluster.get("/cluster")["statistics"]

    assert pool["name"].startswith("cinder@lightos#")
    assert capabilities["volume_backend_name"] == "lightos"
    assert capabilities["thin_provisioning_support"] is True
    assert capabilities["multiattach"] is True
    assert capabilities["online_extend_support"] is True
    total_gib = int(statistics["effectivePhysicalStorage"]) / GIB
    assert capabilities["total_capacity_gb"] == pytest.approx(total_gib, abs=1)
    assert 0 < capabilities["free_capacity_gb"] <= capabilities["total_capacity_gb"]


def test_openstack_command_line(client: CinderClient, cinder: CinderService) -> None:
    volume = client.create_volume(1, name="shown")

    shown = subprocess.run(
        [*openstack_command(cinder), "volume", "list", "-f", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [(v["ID"], v["Name"], v["Status"]) for v in json.loads(shown.stdout)] == [
        (volume.id, "shown", "available")
    ]
