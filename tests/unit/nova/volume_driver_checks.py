# SPDX-License-Identifier: Apache-2.0
"""The volume driver in the real nova package, with our connector below it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import os_brick.privileged
import pytest
from nova import exception as nova_exception
from nova import objects
from nova.virt.libvirt.volume import lightos as in_tree
from os_brick import exception as brick_exception
from oslo_config import cfg, fixture
from oslo_utils import importutils

from lightos.openstack.nova import volume_driver
from lightos.openstack.os_brick import connection, connector
from testbed.sysfs_tree import GIB, SysfsTree

VOLUME = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"
HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
DISK_INFO = {"bus": "virtio", "dev": "vdb", "type": "disk"}
IN_TREE_NAME = "nova.virt.libvirt.volume.lightos.LibvirtLightOSVolumeDriver"

objects.register_all()


class LibvirtHost:
    """What the driver asks of the hypervisor connection: no secret is stored."""

    def find_secret(self, usage_type: str, usage_id: str) -> None:
        return None


@pytest.fixture
def kernel(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "discovery.d"
    folder.mkdir()
    return folder


@pytest.fixture
def driver(
    kernel: SysfsTree, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[volume_driver.LibvirtLightOSVolumeDriver]:
    conf = fixture.Config(cfg.CONF)
    conf.setUp()
    conf.config(group="libvirt", num_nvme_discover_tries=0, virt_type="qemu")
    conf.config(
        group="os_brick",
        lightos_discovery_client_dir_path=str(folder),
        lock_path=str(tmp_path / "locks"),
    )
    monkeypatch.setattr("os_brick.utils.get_host_nqn", lambda: HOST)
    monkeypatch.setattr(os_brick.privileged.default, "client_mode", False)
    # The tree has no devices that one could open, and the privileged half knows only /sys.
    monkeypatch.setattr(connector.privileged, "can_be_opened", lambda *_: True)
    kernel.add_controller("nvme0")
    made = volume_driver.LibvirtLightOSVolumeDriver(LibvirtHost())
    made.connector.sysfs_root = kernel.sysfs
    made.connector.dev_root = kernel.dev
    yield made
    conf.cleanUp()


@pytest.fixture
def instance() -> objects.Instance:
    return objects.Instance(uuid="0d1d3a1e-5f0d-4f55-bd0c-0a1b9cd1a001")


@pytest.fixture
def connection_info() -> dict[str, Any]:
    """As Cinder's attachment API gives it."""
    return {
        "driver_volume_type": "lightos",
        "serial": VOLUME,
        "data": {
            "uuid": VOLUME,
            "subsysnqn": "nqn.2016-01.com.lightbitslabs:a",
            "lightos_nodes": {
                "192.168.75.11": {
                    "target_portal": "192.168.75.11",
                    "target_port": 8009,
                    "transport_type": "tcp",
                }
            },
            "access_mode": "rw",
        },
    }


def test_nova_finds_ours_under_its_own_name(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
) -> None:
    assert importutils.import_class(IN_TREE_NAME) is volume_driver.LibvirtLightOSVolumeDriver
    assert in_tree is volume_driver
    assert type(driver.connector) is connector.LightOSConnector
    assert driver.connector.device_scan_attempts == 0


def test_an_attached_volume_is_a_block_device_with_native_io(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    kernel: SysfsTree,
    connection_info: dict[str, Any],
    instance: objects.Instance,
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    driver.connect_volume(connection_info, instance)
    assert connection_info["data"]["device_path"] == "/dev/nvme0n3"
    disk = driver.get_config(connection_info, DISK_INFO)
    xml = disk.format_dom()
    assert xml.get("type") == "block"
    assert xml.find("source").get("dev") == "/dev/nvme0n3"
    assert dict(xml.find("driver").attrib) == {
        "name": "qemu",
        "type": "raw",
        "cache": "none",
        "discard": "unmap",
        "io": "native",
    }
    assert xml.find("serial").text == VOLUME
    assert xml.find("target").get("dev") == "vdb"


def test_a_volume_that_does_not_appear_is_an_error_and_leaves_nothing(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    folder: Path,
    connection_info: dict[str, Any],
    instance: objects.Instance,
) -> None:
    with pytest.raises(brick_exception.VolumeDeviceNotFound):
        driver.connect_volume(connection_info, instance)
    assert "device_path" not in connection_info["data"]
    assert os.listdir(folder) == []


@pytest.mark.parametrize("force", [False, True])
def test_detach_of_a_device_that_is_gone(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    folder: Path,
    connection_info: dict[str, Any],
    instance: objects.Instance,
    force: bool,
) -> None:
    (folder / f"{VOLUME}.conf").touch()
    driver.disconnect_volume(connection_info, instance, force=force)
    driver.disconnect_volume(connection_info, instance, force=force)
    assert os.listdir(folder) == []


def test_a_detach_that_fails_is_reported(  # noqa: PLR0917 - fixtures
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    kernel: SysfsTree,
    folder: Path,
    connection_info: dict[str, Any],
    instance: objects.Instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: str) -> None:
        raise OSError(errno.EIO, "I/O error")

    kernel.add_namespace("nvme0n3", VOLUME)
    driver.connect_volume(connection_info, instance)
    monkeypatch.setattr(connector.privileged, "flush", fail)
    with pytest.raises(brick_exception.BrickException, match="was not flushed: I/O error"):
        driver.disconnect_volume(connection_info, instance)
    assert os.listdir(folder) == [f"{VOLUME}.conf"]
    with pytest.raises(brick_exception.ExceptionChainer):
        driver.disconnect_volume(connection_info, instance, force=True)
    assert os.listdir(folder) == []


def test_extend_asks_for_the_size_that_nova_was_told(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    kernel: SysfsTree,
    connection_info: dict[str, Any],
    instance: objects.Instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert volume_driver.REQUESTED_SIZE == connection.REQUESTED_SIZE
    kernel.add_namespace("nvme0n3", VOLUME, 2 * GIB)
    assert driver.extend_volume(connection_info, instance, 2 * GIB) == 2 * GIB
    monkeypatch.setattr(connector, "_LEAST_EXTEND_SECONDS", 0.05)
    with pytest.raises(brick_exception.BrickException, match="did not grow"):
        driver.extend_volume(connection_info, instance, 3 * GIB)
    assert connection.REQUESTED_SIZE not in connection_info["data"]


class ConnectorThatTellsTheMoment:
    """As OpenStack's own: each time the next of these sizes, and the last one again."""

    def __init__(self, *sizes: int | None) -> None:
        self._sizes = list(sizes)

    def extend_volume(self, _properties: dict[str, Any]) -> int | None:
        return self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]


def test_a_connector_that_tells_the_old_size_is_asked_again(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    connection_info: dict[str, Any],
    instance: objects.Instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volume_driver, "_GROWTH_INTERVALS_SECONDS", (0.001,))
    driver.connector = ConnectorThatTellsTheMoment(None, GIB, 2 * GIB)
    assert driver.extend_volume(connection_info, instance, 2 * GIB) == 2 * GIB
    monkeypatch.setattr(volume_driver, "_GROWTH_SECONDS", 0.05)
    driver.connector = ConnectorThatTellsTheMoment(GIB)
    with pytest.raises(nova_exception.VolumeExtendFailed, match=f"{VOLUME}.*did not grow to"):
        driver.extend_volume(connection_info, instance, 2 * GIB)


def test_logs_name_the_instance(
    driver: volume_driver.LibvirtLightOSVolumeDriver,
    kernel: SysfsTree,
    connection_info: dict[str, Any],
    instance: objects.Instance,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    with caplog.at_level(logging.DEBUG, logger=volume_driver.__name__):
        driver.connect_volume(connection_info, instance)
        driver.extend_volume(connection_info, instance, GIB)
        driver.disconnect_volume(connection_info, instance)
    ours = [r for r in caplog.records if r.name == volume_driver.__name__]
    assert len(ours) == 2
    for record in ours:
        assert instance.uuid in str(record.__dict__.get("instance"))
