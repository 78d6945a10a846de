# SPDX-License-Identifier: Apache-2.0
"""Our driver and connector beside those that OpenStack ships, in every combination that can meet
while a cloud is upgraded, or rolled back, host by host. docs/compatibility.rst is the list."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lightos.openstack.os_brick.connection import REQUESTED_SIZE
from testbed import nvme
from testbed.brick_process import BrickProcess
from testbed.cluster import GIB
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.cinder_volume import CinderVolume

OURS, INCUMBENT = "ours", "OpenStack's"
COMBINATIONS = tuple(itertools.product((INCUMBENT, OURS), repeat=2))
"""(driver, connector)"""
SWITCHES = ((INCUMBENT, OURS), (OURS, INCUMBENT))
"""(before, after): an upgrade and a roll back"""
PORT = 7502


@dataclass
class Cinder:
    """One cinder-volume, which is restarted with the other driver when that is asked for."""

    folder: Path
    lab: Lab
    _driver: str = ""
    _process: CinderVolume | None = None

    def call(self, driver: str, operation: str, *args: Any, **kwargs: Any) -> Any:
        if driver != self._driver:
            self.end()
            self._process = CinderVolume(self.folder, self.lab.info, incumbent=driver == INCUMBENT)
            self._process.ready()
            self._driver = driver
        assert self._process is not None
        return self._process.call(operation, *args, **kwargs)

    def end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


@dataclass
class Host:
    """A compute host that has services with either connector."""

    daemon: DiscoveryDaemon
    connectors: dict[str, Callable[..., Any]]
    _properties: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def guest(self) -> KernelHost:
        assert isinstance(self.daemon.host, KernelHost)
        return self.daemon.host

    def call(self, connector: str, operation: str, *args: Any) -> Any:
        """A function of `testbed.brick`."""
        return self.connectors[connector](f"testbed.brick.{operation}", *args)

    def properties(self, connector: str) -> dict[str, Any]:
        if connector not in self._properties:
            address = self.guest.address
            self._properties[connector] = self.call(connector, "properties", address)
        return self._properties[connector]


@dataclass(frozen=True)
class Attached:
    """A volume on the host, and what Nova keeps of it."""

    volume_id: str
    attachment_id: str
    connection: dict[str, Any]
    path: str

    @property
    def uuid(self) -> str:
        return str(self.connection["uuid"])


@dataclass
class Cloud:
    """What a test does: Cinder's part and the host's part of each operation."""

    cinder: Cinder
    host: Host

    def attach(self, driver: str, connector: str) -> Attached:
        """A new volume, with data on it."""
        volume_id = self.cinder.call(driver, "create_volume", 1)
        attached = self.attach_again(driver, connector, volume_id)
        self.guest_call("write", attached.path, 0, _seed(volume_id))
        return attached

    def attach_again(self, driver: str, connector: str, volume_id: str) -> Attached:
        properties = self.host.properties(connector)
        attachment_id, connection = self.cinder.call(driver, "attach", volume_id, properties)
        path = self.host.call(connector, "connect", connection)["path"]
        assert path == nvme.find_device(self.host.guest, connection["uuid"])
        return Attached(volume_id, attachment_id, connection, path)

    def extend(self, driver: str, connector: str, attached: Attached) -> None:
        """To 2 GiB, as Cinder and Nova do it, and write where there was nothing before."""
        self.cinder.call(driver, "extend_volume", attached.volume_id, 2)
        if connector == OURS:
            asked = {**attached.connection, REQUESTED_SIZE: 2 * GIB}  # by our Nova driver
            assert self.host.call(connector, "extend", asked) == 2 * GIB
        else:
            self.host.call(connector, "extend", attached.connection)
        wait_until(
            lambda: nvme.size_bytes(self.host.guest, attached.path) == 2 * GIB,
            f"{attached.path} to grow",
        )
        self.guest_call("write", attached.path, GIB, _seed(attached.volume_id) + 1)
        assert self.guest_call("holds", attached.path, GIB, _seed(attached.volume_id) + 1)

    def detach(self, driver: str, connector: str, attached: Attached) -> None:
        """The data is still there, and nothing of the volume stays on the host."""
        assert self.guest_call("holds", attached.path, 0, _seed(attached.volume_id))
        device = {"type": "block", "path": attached.path}
        self.host.call(connector, "disconnect", attached.connection, device)
        self.cinder.call(driver, "detach", attached.attachment_id)
        nvme.wait_for_no_device(self.host.guest, attached.uuid)
        assert f"{attached.uuid}.conf" not in self.host.daemon.files()

    def delete(self, driver: str, attached: Attached) -> None:
        self.cinder.call(driver, "delete_volume", attached.volume_id)

    def guest_call(self, function: str, *args: Any) -> Any:
        return self.host.guest.call(f"tests.kernel.guest_data.{function}", *args)


def _seed(volume_id: str) -> int:
    return int(volume_id[:8], 16)


@pytest.fixture(scope="module")
def incumbents_process(host: KernelHost) -> Iterator[BrickProcess]:
    with BrickProcess(host, PORT, incumbent=True) as process:
        yield process


@pytest.fixture(scope="module")
def cinder(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cinder]:
    made = Cinder(tmp_path_factory.mktemp("cinder"), lab)
    yield made
    made.end()


@pytest.fixture
def cloud(incumbents_process: BrickProcess, cinder: Cinder, daemon: DiscoveryDaemon) -> Cloud:
    connectors = {OURS: daemon.host.call, INCUMBENT: incumbents_process.call}
    return Cloud(cinder, Host(daemon, connectors))


def test_the_connectors_are_the_two(cloud: Cloud) -> None:
    assert [cloud.host.call(each, "implementation") for each in (OURS, INCUMBENT)] == [
        "lightos.openstack.os_brick.connector",
        "os_brick.initiator.connectors.lightos",
    ]


@pytest.mark.parametrize(
    ("driver", "connector"),
    [
        pytest.param(*each, marks=[] if len(set(each)) == 2 else pytest.mark.nightly)
        for each in COMBINATIONS
    ],
)
def test_attach_use_extend_and_detach(cloud: Cloud, driver: str, connector: str) -> None:
    attached = cloud.attach(driver, connector)
    cloud.extend(driver, connector, attached)
    cloud.detach(driver, connector, attached)
    again = cloud.attach_again(driver, connector, attached.volume_id)
    cloud.detach(driver, connector, again)
    cloud.delete(driver, again)


@pytest.mark.parametrize(("before", "after"), SWITCHES)
@pytest.mark.parametrize("driver", [OURS, INCUMBENT])
def test_a_volume_attached_before_the_host_is_switched(
    cloud: Cloud, driver: str, before: str, after: str
) -> None:
    attached = cloud.attach(driver, before)
    cloud.extend(driver, after, attached)
    cloud.detach(driver, after, attached)
    cloud.delete(driver, attached)


@pytest.mark.parametrize(("before", "after"), SWITCHES)
def test_a_volume_attached_before_cinder_is_switched(cloud: Cloud, before: str, after: str) -> None:
    attached = {connector: cloud.attach(before, connector) for connector in (OURS, INCUMBENT)}
    for connector, each in attached.items():
        cloud.extend(after, connector, each)
        cloud.detach(after, connector, each)
        cloud.delete(after, each)
