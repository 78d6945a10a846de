# SPDX-License-Identifier: Apache-2.0
"""os-brick's connector on a real kernel, with the discovery client and the lab."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lightos.openstack.os_brick.connection import REQUESTED_SIZE
from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.guest import GuestCallFailed
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.volumes import MIB, Volumes

AT_ONCE = 50
SCAN_ATTEMPTS = 10
"""Two minutes: so many at once are slow on emulated CPUs."""
LUKS1_HEADER_BYTES = 2 * MIB
"""Up to the data, as cryptsetup lays it out for a key of 256 bits."""


def connection(lab: Lab, volume_uuid: str, **more: Any) -> dict[str, Any]:
    """`data` of the connection_info that Cinder sends."""
    return lab.connection(volume_uuid, **more)


def test_properties_name_the_host_and_its_data_address_only(daemon: DiscoveryDaemon) -> None:
    host = daemon.host
    assert host.call("testbed.brick.implementation") == "lightos.openstack.os_brick.connector"
    properties = host.call("testbed.brick.properties", host.address)
    assert properties["nqn"] == host.host_nqn
    assert properties["found_dsc"] == "found"
    assert properties["host_ips"] == [host.address]


def test_an_encrypted_volume_is_attached_by_a_link_that_goes_with_it(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn)
    encrypted = connection(lab, volume.uuid, encrypted=True)
    path = host.call("testbed.brick.connect", encrypted)["path"]
    device = nvme.find_device(host, volume.uuid)
    assert path != device == host.run(["readlink", "-f", path]).stdout.strip()
    host.call("testbed.brick.disconnect", encrypted, {"path": path})
    assert host.run(["test", "-L", path], check=False).returncode == 1
    assert daemon.files() == []


def test_attach_use_and_detach_beside_another_volume(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    kept, volume = (volumes.create(host.host_nqn) for _ in range(2))
    kept_path = host.call("testbed.brick.connect", connection(lab, kept.uuid))["path"]
    attached = host.call("testbed.brick.connect", connection(lab, volume.uuid))
    assert attached == {"type": "block", "path": nvme.find_device(host, volume.uuid)}
    writer = host.popen(
        ["dd", "if=/dev/urandom", f"of={kept_path}", "bs=64k", "count=256", "oflag=direct"]
    )
    host.run(["dd", "if=/dev/urandom", f"of={attached['path']}", "bs=64k", "count=16"])
    host.call("testbed.brick.disconnect", connection(lab, volume.uuid))
    assert daemon.files() == [f"{kept.uuid}.conf"]
    volumes.set_acl(volume.uuid)
    nvme.wait_for_no_device(host, volume.uuid)
    writer.wait(60)
    host.call("testbed.brick.disconnect", connection(lab, kept.uuid))
    nvme.wait_for_no_device(host, kept.uuid)


def test_a_volume_that_grew_is_seen_at_its_new_size(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn, size_mib=64)
    host.call("testbed.brick.connect", connection(lab, volume.uuid))
    volumes.resize(volume.uuid, 128 * MIB)
    asked = connection(lab, volume.uuid, **{REQUESTED_SIZE: 128 * MIB})
    assert host.call("testbed.brick.extend", asked) == 128 * MIB
    volumes.resize(volume.uuid, 192 * MIB)
    assert host.call("testbed.brick.extend", connection(lab, volume.uuid)) == 192 * MIB


def test_an_encrypted_volume_is_attached_extended_and_detached(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    """With LUKS, as for images that Cinder copies; Nova has QEMU decrypt."""
    host = daemon.host
    volume = volumes.create(host.host_nqn, size_mib=64)
    host.run(["mkdir", "-p", "/dev/disk/by-id"])
    host.run(["modprobe", "dm-crypt"])
    encrypted = connection(lab, volume.uuid, encrypted=True)

    link = host.call("testbed.brick.connect", encrypted)["path"]
    device = nvme.find_device(host, volume.uuid)
    assert link == f"/dev/disk/by-id/os-brick{str(device).replace('/', '+')}"
    attached = {**encrypted, "device_path": link}
    info = {"driver_volume_type": "lightos", "data": attached}
    host.call("tests.kernel.guest_encryptor.attach", info)
    host.call("tests.kernel.guest_data.write", link, 0, 1)
    assert not host.call("tests.kernel.guest_data.holds", device, LUKS1_HEADER_BYTES, 1)

    volumes.resize(volume.uuid, 128 * MIB)
    asked = {**attached, REQUESTED_SIZE: 128 * MIB}
    assert host.call("testbed.brick.extend", asked) == 128 * MIB
    decrypted_bytes = host.call("tests.kernel.guest_encryptor.extend", info)
    assert decrypted_bytes == 128 * MIB - LUKS1_HEADER_BYTES

    host.call("tests.kernel.guest_encryptor.detach", info)
    host.call("testbed.brick.disconnect", attached)
    assert host.run(["test", "-L", link], check=False).returncode == 1
    assert daemon.files() == []

    assert host.call("testbed.brick.connect", encrypted)["path"] == link
    host.call("tests.kernel.guest_encryptor.attach", info)
    assert host.call("tests.kernel.guest_data.holds", link, 0, 1)
    host.call("tests.kernel.guest_encryptor.detach", info)
    host.call("testbed.brick.disconnect", attached)
    volumes.set_acl(volume.uuid)
    nvme.wait_for_no_device(host, volume.uuid)


def test_a_volume_that_this_host_may_not_use_is_refused_and_leaves_nothing(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create()
    with pytest.raises(GuestCallFailed, match="ACL names this host") as raised:
        host.call("tests.kernel.guest_brick.connect_within", connection(lab, volume.uuid), 1)
    assert raised.value.type_name == "VolumeDeviceNotFound"
    assert daemon.files() == []


@pytest.mark.parametrize("force", [False, True])
def test_a_volume_that_is_gone_can_be_detached_again(
    daemon: DiscoveryDaemon, lab: Lab, force: bool
) -> None:
    gone = connection(lab, "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01")
    daemon.host.call("testbed.brick.disconnect", gone, force=force)
    assert daemon.files() == []


def test_two_services_of_the_host_have_one_volume(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    """Nova, and Cinder that copies it: the file stays for Nova, and goes with the last of them."""
    host = daemon.host
    volume = volumes.create(host.host_nqn)
    shared = connection(lab, volume.uuid)
    service = "tests.kernel.guest_brick.as_service"
    path = host.call(service, "nova", "connect_volume", shared)["path"]
    assert host.call(service, "cinder", "connect_volume", shared)["path"] == path
    host.call(service, "cinder", "disconnect_volume", shared, {"path": path})
    assert daemon.files() == [f"{volume.uuid}.conf"]
    host.call("tests.kernel.guest_data.write", path, 0, 1)
    host.call(service, "nova", "disconnect_volume", shared, {"path": path})
    assert daemon.files() == []


def test_many_volumes_at_once_leave_nothing(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    created = [volumes.create(host.host_nqn, size_mib=16).uuid for _ in range(AT_ONCE)]
    connections = [connection(lab, uuid) for uuid in created]

    def attach(volume: dict[str, Any]) -> str:
        return str(host.call("testbed.brick.connect", volume, SCAN_ATTEMPTS)["path"])

    def devices() -> dict[str, str]:
        return dict(host.call("tests.kernel.guest_sysfs.devices"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        paths = list(pool.map(attach, connections))
        found = devices()
        assert paths == [found[uuid] for uuid in created]
        list(pool.map(lambda each: host.call("testbed.brick.disconnect", each), connections))
    assert daemon.files() == []
    for uuid in created:
        volumes.set_acl(uuid)
    wait_until(lambda: devices().keys().isdisjoint(created), "no device of these volumes")


PRIVSEP = """
from os_brick import privileged
from oslo_config import cfg
from lightos.discovery.entries import InvalidEntry
from lightos.openstack.os_brick import privileged as ours
cfg.CONF(["--config-file", {config!r}], project="test")
uuid = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"
nqn = "nqn.2016-01.com.lightbitslabs:a"
print(ours.publish_discovery_file(uuid, nqn, nqn, [["10.0.0.1", 8009]], "nova"))
assert privileged.default.channel is not None
for bad in [
    ("../x", nqn, 8009, "nova"), (uuid, "x\\ny", 8009, "nova"), (uuid, nqn, 0, "nova"),
    (uuid, nqn, 8009, "nova\\n-t tcp"),
]:
    try:
        ours.publish_discovery_file(bad[0], bad[1], nqn, [["10.0.0.1", bad[2]]], bad[3])
    except ValueError as error:
        print(type(error).__name__)
print(ours.flush(uuid, "nvme0n1", "1"), ours.flush(uuid, "../sda", "2"))
ours.publish_discovery_file(uuid, nqn, nqn, [["10.0.0.1", 8009]], "os-brick")
print(*ours.release_discovery_file(uuid, "os-brick"), ours.release_discovery_file(uuid, "nova"))
privileged.default.stop()
"""


def test_the_privileged_half_runs_in_os_bricks_own_privsep_daemon(tmp_path: Path) -> None:
    """On this machine: a new privsep-helper, with the capabilities that os-brick gives it."""
    folder = tmp_path / "discovery.d"
    folder.mkdir()
    config = tmp_path / "service.conf"
    helper = Path(sys.executable).with_name("privsep-helper")
    config.write_text(
        f"[os_brick]\nlightos_discovery_client_dir_path = {folder}\n"
        f"[privsep_osbrick]\nhelper_command = {helper} --config-file {config}\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRIVSEP.format(config=str(config))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        "True", "ValueError", "InvalidEntry", "InvalidEntry", "ValueError", "True", "True", "nova",
        "()",
    ]  # fmt: skip
    assert os.listdir(folder) == []
