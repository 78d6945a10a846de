# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lightos.openstack.os_brick.host_addresses import data_addresses

INTERFACES = [
    ("lo", "127.0.0.1"),
    ("lo", "::1"),
    ("eth0", "10.0.0.5"),
    ("eth0", "52:54:00:00:00:01"),
    ("eth0", "fe80::5054:ff:fe00:1%eth0"),
    ("bond0.100", "192.168.75.101"),
    ("bond0.100", "fd00::101"),
    ("br-ex", "172.24.4.1"),
    ("br-0123456789ab", "172.18.0.1"),
    ("docker0", "172.17.0.1"),
    ("virbr0", "192.168.122.1"),
    ("eth1", "169.254.7.7"),
    ("eth1", ""),
    ("bond0.100", "192.168.75.101"),
]


def test_loopback_link_local_and_guests_bridges_are_left_out() -> None:
    assert data_addresses(INTERFACES) == ["10.0.0.5", "192.168.75.101", "fd00::101", "172.24.4.1"]


@pytest.mark.parametrize(
    ("networks", "chosen"),
    [
        (["192.168.75.0/24"], ["192.168.75.101"]),
        (["192.168.75.7/24", "fd00::/8"], ["192.168.75.101", "fd00::101"]),
        (["192.168.122.0/24"], ["192.168.122.1"]),
        (["10.9.0.0/16"], []),
    ],
)
def test_only_data_networks_that_are_configured(networks: list[str], chosen: list[str]) -> None:
    assert data_addresses(INTERFACES, networks) == chosen


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match="storage"):
        data_addresses(INTERFACES, ["storage"])
