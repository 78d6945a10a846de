# SPDX-License-Identifier: Apache-2.0
"""Who may connect to a volume, through Cinder's attachments API with our driver."""

import pytest
from openstack import exceptions
from openstack.block_storage.v3.volume import Volume

from testbed.cinder.client import CinderClient
from testbed.cluster import Cluster, connector

FIRST = connector("compute-1", number=1)
SECOND = connector("compute-2", number=2)


def shared_volume(client: CinderClient) -> Volume:
    volume_type = client.create_type("shared", {"multiattach": "<is> True"})
    return client.create_volume(1, volume_type=volume_type)


def test_connection_info_leads_to_the_volume(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    info = client.attach(volume.id, FIRST).connection_info

    assert info["driver_volume_type"] == "lightos"
    assert info["uuid"] == cluster.volume_of(volume.id)["UUID"]
    assert info["subsysnqn"] == cluster.lab["subsystem_nqn"]
    assert info["lightos_nodes"] == {
        node["address"]: {
            "target_portal": node["address"],
            "target_port": cluster.lab["discovery_port"],
            "transport_type": "tcp",
        }
        for node in cluster.lab["nodes"]
    }


def test_attach_and_detach(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    attachment = client.attach(volume.id, FIRST)
    assert client.complete_attachment(attachment).status == "in-use"
    assert cluster.host_nqns(volume.id) == {FIRST["nqn"]}
    assert cluster.host_addresses(volume.id) == set(FIRST["host_ips"])

    assert client.detach(attachment).status == "available"
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()


def test_reserved_attachment_gets_its_connector_later(
    client: CinderClient, cluster: Cluster
) -> None:
    volume = client.create_volume(1)
    reserved = client.reserve(volume.id)
    assert client.volume(volume.id).status == "reserved"
    assert cluster.host_nqns(volume.id) == set()

    attachment = client.update_attachment(reserved.id, FIRST)
    assert attachment.connection_info["subsysnqn"] == cluster.lab["subsystem_nqn"]
    assert cluster.host_nqns(volume.id) == {FIRST["nqn"]}

    client.complete_attachment(attachment)
    client.detach(attachment)
    assert cluster.host_nqns(volume.id) == set()


def test_two_hosts_share_a_volume(client: CinderClient, cluster: Cluster) -> None:
    volume = shared_volume(client)
    first = client.attach(volume.id, FIRST)
    client.complete_attachment(first)
    second = client.attach(volume.id, SECOND)
    client.complete_attachment(second)
    assert cluster.host_nqns(volume.id) == {FIRST["nqn"], SECOND["nqn"]}
    assert cluster.host_addresses(volume.id) == {*FIRST["host_ips"], *SECOND["host_ips"]}

    assert client.detach(first).status == "in-use"
    assert cluster.host_nqns(volume.id) == {SECOND["nqn"]}
    assert cluster.host_addresses(volume.id) == set(SECOND["host_ips"])

    assert client.detach(second).status == "available"
    assert cluster.host_nqns(volume.id) == set()


def test_two_attachments_of_one_host(client: CinderClient, cluster: Cluster) -> None:
    volume = shared_volume(client)
    first = client.attach(volume.id, FIRST)
    client.complete_attachment(first)
    second = client.attach(volume.id, FIRST)
    client.complete_attachment(second)

    client.detach(first)
    assert cluster.host_nqns(volume.id) == {FIRST["nqn"]}
    assert cluster.host_addresses(volume.id) == set(FIRST["host_ips"])

    client.detach(second)
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()


def test_moving_an_instance_between_hosts(client: CinderClient, cluster: Cluster) -> None:
    """Live migration: the destination is attached before the source lets go."""
    volume = shared_volume(client)
    source = client.attach(volume.id, FIRST)
    client.complete_attachment(source)
    destination = client.attach(volume.id, SECOND)
    client.detach(source)
    client.complete_attachment(destination)

    assert cluster.host_nqns(volume.id) == {SECOND["nqn"]}


@pytest.mark.parametrize("missing", ["nqn", "found_dsc"])
def test_host_that_cannot_connect_is_refused(
    client: CinderClient, cluster: Cluster, missing: str
) -> None:
    volume = client.create_volume(1)
    unfit = {key: value for key, value in FIRST.items() if key != missing}

    with pytest.raises(exceptions.HttpException):
        client.attach(volume.id, unfit)
    assert cluster.host_nqns(volume.id) == set()


def test_attached_volume_is_not_deleted(client: CinderClient, cluster: Cluster) -> None:
    volume = client.create_volume(1)
    client.complete_attachment(client.attach(volume.id, FIRST))

    with pytest.raises(exceptions.BadRequestException):
        client.delete_volume(volume.id)
    assert cluster.host_nqns(volume.id) == {FIRST["nqn"]}
