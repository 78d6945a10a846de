# SPDX-License-Identifier: Apache-2.0
"""Connectors read, connection properties written."""

import pytest
from cinder import exception

from lightos.api.models.cluster import Cluster, ClusterInfo
from lightos.openstack.cinder.acl import Host
from lightos.openstack.cinder.connection import Fabric, attaching_host, host_of

NQN = "nqn.2014-08.org.nvmexpress:uuid:0c5f8c4e-1111-4c8a-9e3b-aaaaaaaaaaaa"
CONNECTOR = {"host": "compute1", "nqn": NQN, "found_dsc": "found", "host_ips": ["192.168.75.101"]}


def test_connection_info_has_the_incumbents_keys():
    fabric = Fabric.of(
        ClusterInfo(
            subsystem_nqn="nqn.2016-01.com.lightbitslabs:uuid:1",
            discovery_endpoints=("192.168.75.11:8009", "[fd00::12]:8009"),
            nvme_endpoints=("192.168.75.11:4420", "[fd00::12]:4420"),
        )
    )
    assert fabric.connection_info("7d1f0f2f") == {
        "driver_volume_type": "lightos",
        "data": {
            "lightos_nodes": {
                "192.168.75.11": {
                    "target_portal": "192.168.75.11",
                    "target_port": 8009,
                    "transport_type": "tcp",
                },
                "fd00::12": {
                    "target_portal": "fd00::12",
                    "target_port": 8009,
                    "transport_type": "tcp",
                },
            },
            "uuid": "7d1f0f2f",
            "subsysnqn": "nqn.2016-01.com.lightbitslabs:uuid:1",
        },
    }


def test_nvme_endpoints_stand_in_for_missing_discovery_endpoints():
    info = ClusterInfo(subsystem_nqn="nqn.1", nvme_endpoints=("10.0.0.1:4420", "[::1]:4420"))
    assert Fabric.of(info).discovery_services == (("10.0.0.1", 8009), ("::1", 8009))
    assert Fabric.of(Cluster(subsystem_nqn="nqn.1")).addresses == ()


def test_an_endpoint_may_leave_its_port_out():
    info = ClusterInfo(discovery_endpoints=("10.0.0.1", "[fd00::1]"))
    assert Fabric.of(info).discovery_services == (("10.0.0.1", 8009), ("fd00::1", 8009))


def test_attaching_host():
    assert attaching_host(CONNECTOR, needs_address=True) == Host(NQN, ("192.168.75.101",))


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"nqn": None}, "nqn: compute1 has no NVMe host NQN"),
        ({"nqn": ""}, "nqn: compute1"),
        ({"nqn": "ALLOW_ANY"}, "nqn: the NVMe host NQN of compute1 is not an NQN"),
        ({"nqn": f"{NQN}\n"}, "not an NQN"),
        ({"nqn": "nqn." + 220 * "x"}, "not an NQN"),
        ({"nqn": "two words"}, "not an NQN"),
        ({"nqn": [NQN]}, "not an NQN"),
        ({"found_dsc": ""}, "found_dsc: no LightOS discovery client answers on compute1"),
        ({"host_ips": []}, "host_ips: compute1"),
        ({"host_ips": ["fe80::1"]}, "host_ips: compute1"),
    ],
)
def test_a_host_that_could_not_use_a_volume_is_refused_with_the_remedy(changes, missing):
    """Defect 12: no host NQN is an answer, not a KeyError."""
    with pytest.raises(exception.InvalidConnectorException, match=missing):
        attaching_host(CONNECTOR | changes, needs_address=True)


def test_addresses_are_needed_only_for_the_ip_acl():
    connector = {"host": "compute1", "nqn": NQN, "found_dsc": "found"}
    assert attaching_host(connector, needs_address=False) == Host(NQN)
    with pytest.raises(exception.InvalidConnectorException):
        attaching_host(connector, needs_address=True)


@pytest.mark.parametrize("connector", [None, {}, {"host": "compute1"}, {"nqn": None}])
def test_a_connector_without_nqn_is_no_host(connector):
    assert host_of(connector) is None
