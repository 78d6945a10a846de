# SPDX-License-Identifier: Apache-2.0
"""cinder 29's own LightOS driver, unchanged, against the lab: this tests the lab, and the way back.

``LIGHTOS_OVERLAY=0`` in the environment of a Cinder process gives it the driver it shipped with.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from testbed.cinder.client import CinderClient
from testbed.cinder.service import CinderService
from testbed.cluster import GIB, Cluster, connector, free_port
from tests.integration.conftest import StartCinder, assert_nothing_left, ready_client

INCUMBENT_VERSION = "2.3.12"
HOST = connector("compute-1", number=1)


@pytest.fixture(scope="module")
def cinder(
    lab: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CinderService]:
    with CinderService(
        tmp_path_factory.mktemp("incumbent"), lab, free_port(), incumbent=True
    ) as service:
        yield service


def driver_version(client: CinderClient) -> str:
    (pool,) = client.pools()
    return str(pool["capabilities"]["driver_version"])


def test_it_is_the_incumbent(client: CinderClient) -> None:
    assert driver_version(client) == INCUMBENT_VERSION


def test_create_and_delete(client: CinderClient, cluster: Cluster) -> None:
    volume_type = client.create_type(
        "compressed", {"compression": "<is> True", "lightos:num_replicas": "2"}
    )
    volume = client.create_volume(1, volume_type=volume_type)
    found = cluster.volume_of(volume.id)
    assert int(found["size"]) == GIB
    assert found["replicaCount"] == 2

    client.delete_volume(volume.id)
    assert cluster.volumes() == []


def test_attach_extend_detach(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1, volume_type=client.create_type("plain"))
    attachment = client.attach(volume.id, HOST)
    client.complete_attachment(attachment)
    assert attachment.connection_info["driver_volume_type"] == "lightos"
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}

    assert client.extend_volume(volume.id, 2).status == "in-use"
    assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB

    client.detach(attachment)
    assert cluster.host_nqns(volume.id) == set()


def test_snapshot_and_clone(client: CinderClient, cluster: Cluster) -> None:
    plain = client.create_type("plain")
    volume = client.create_volume(1, volume_type=plain)
    snapshot = client.create_snapshot(volume.id)
    restored = client.create_volume(2, snapshot=snapshot)
    clone = client.create_volume(3, source=volume)

    assert int(cluster.volume_of(restored.id)["size"]) == 2 * GIB
    assert int(cluster.volume_of(clone.id)["size"]) == 3 * GIB


def test_there_and_back(lab: dict[str, Any], cluster: Cluster, start_cinder: StartCinder) -> None:
    """One database, three drivers in turn: volumes and attachments pass from one to the other."""
    incumbent = start_cinder(lab, incumbent=True).wait_ready()
    client = ready_client(incumbent)
    plain = client.create_type("plain")
    theirs = client.create_volume(1, volume_type=plain)
    their_snapshot = client.create_snapshot(theirs.id)
    their_attachment = client.attach(theirs.id, HOST)
    client.complete_attachment(their_attachment)
    incumbent.stop()

    ours = start_cinder(lab).wait_ready()
    client = ready_client(ours)
    assert driver_version(client) != INCUMBENT_VERSION
    client.extend_volume(theirs.id, 2)
    client.create_volume(1, snapshot=client.snapshot(their_snapshot.id))
    client.detach(their_attachment)
    assert cluster.host_nqns(theirs.id) == set()
    our_volume = client.create_volume(1, volume_type=plain)
    our_snapshot = client.create_snapshot(our_volume.id)
    our_attachment = client.attach(our_volume.id, HOST)
    client.complete_attachment(our_attachment)
    ours.stop()

    back = start_cinder(lab, incumbent=True).wait_ready()
    client = ready_client(back)
    client.create_volume(1, snapshot=client.snapshot(our_snapshot.id))
    client.detach(our_attachment)
    assert cluster.host_nqns(our_volume.id) == set()
    client.remove_everything()
    assert_nothing_left(cluster)
