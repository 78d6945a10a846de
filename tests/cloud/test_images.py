# SPDX-License-Identifier: Apache-2.0
"""Volumes and Glance's images: what comes out is what went in, byte for byte."""

from __future__ import annotations

import os
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from openstack.image.v2.image import Image

from lightos.lab.control import ControlClient
from lightos.lab.state_folder import StateFolder
from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import ENCRYPTED_TYPE, Cloud
from testbed.cloud.disk import MIB, Content, Disks, InnerCluster, file_sha256
from testbed.cloud.images import upload
from testbed.cluster import GIB

pytestmark = pytest.mark.nightly

LUKS_MAGIC = b"LUKS\xba\xbe"


def calls(cloud: Cloud, operation: str) -> int:
    """How often the cluster was asked for an operation so far."""
    with ControlClient(StateFolder(cloud.lab.state_dir)) as control:
        counted: dict[str, int] = control.ask("GET", "traffic")["calls"]
    return counted.get(operation, 0)


def random_image(cloud: Cloud, folder: Path) -> tuple[Image, bytes]:
    """A raw image and its content."""
    content = os.urandom(8 * MIB)
    file = folder / "image.raw"
    file.write_bytes(content)
    image = cloud.admin.image.create_image(
        name="random",
        filename=str(file),
        disk_format="raw",
        container_format="bare",
        wait=True,
    )
    return image, content


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_image_of_a_volume_and_volume_of_that_image(
    cloud: Cloud, cinder: CinderClient, disks: Disks, tmp_path: Path, disk_format: str
) -> None:
    content = Content.of(disk_format)
    volume = cinder.create_volume(1)
    disks.write(volume.id, content)

    image = upload(cloud, volume.id, disk_format)

    assert image.disk_format == disk_format
    stored, raw = tmp_path / "stored", tmp_path / "raw"
    cloud.admin.image.download_image(image, output=str(stored))
    convert = ["qemu-img", "convert", "-f", disk_format, "-O", "raw", stored, raw]
    subprocess.run(convert, check=True, capture_output=True)
    assert file_sha256(raw) == content.sha256(GIB)

    copy = cinder.create_volume(1, image_id=image.id)
    assert copy.is_bootable
    assert disks.sha256(copy.id) == content.sha256(GIB)


def test_raw_image_of_which_only_what_is_written_is_read(
    cloud: Cloud, cinder: CinderClient, cluster: InnerCluster, disks: Disks, tmp_path: Path
) -> None:
    content = Content.of("sparse")
    asked_before = calls(cloud, "ListChangedBlocks")
    volume = cinder.create_volume(1, volume_type=cloud.admin.block_storage.find_type("lightos-2"))
    disks.write(volume.id, content)

    image = upload(cloud, volume.id, "raw")

    assert calls(cloud, "ListChangedBlocks") > asked_before
    assert cluster.everything("snapshots") == []
    stored = tmp_path / "stored"
    cloud.admin.image.download_image(image, output=str(stored))
    assert stored.stat().st_size == GIB
    assert file_sha256(stored) == disks.sha256(volume.id) == content.sha256(GIB)


def test_second_volume_of_an_image_comes_from_the_cache(
    cloud: Cloud,
    cinder: CinderClient,
    cluster: InnerCluster,
    disks: Disks,
    tmp_path: Path,
) -> None:
    image, data = random_image(cloud, tmp_path)
    content = Content({0: data})
    first = cinder.create_volume(1, image_id=image.id)
    second = cinder.create_volume(2, image_id=image.id)

    # The first was empty and then written to; the second began as another volume's snapshot.
    assert not cluster.volume_of(first.id).get("sourceSnapshotUUID")
    assert cluster.volume_of(second.id)["sourceSnapshotUUID"]
    assert disks.sha256(first.id) == content.sha256(GIB)
    assert disks.sha256(second.id) == content.sha256(2 * GIB)


def test_encrypted_volume_holds_the_image_and_the_cluster_only_its_cipher(
    cloud: Cloud, cinder: CinderClient, disks: Disks, tmp_path: Path
) -> None:
    image, data = random_image(cloud, tmp_path)
    encrypted = cloud.admin.block_storage.find_type(ENCRYPTED_TYPE)
    volume = cinder.create_volume(1, volume_type=encrypted, image_id=image.id)
    clone = cinder.create_volume(1, volume_type=encrypted, source=volume)
    assert volume.is_encrypted

    for each in (volume, clone):
        stored = tmp_path / each.id
        with disks.attached(each.id) as disk:
            disk.copy_to(stored)
        assert stored.read_bytes()[:6] == LUKS_MAGIC
        assert data[:4096] not in stored.read_bytes()
        assert decrypted(stored, passphrase(cloud), tmp_path)[: len(data)] == data


def passphrase(cloud: Cloud) -> str:
    """os-brick gives LUKS the key as hexadecimal digits; the cloud's key manager has one key."""
    parser = RawConfigParser(strict=False)
    parser.read(cloud.deployment.configuration("cinder") / "cinder.conf")
    return parser.get("key_manager", "fixed_key")


def decrypted(stored: Path, secret: str, folder: Path) -> bytes:
    """What a LUKS volume holds, by QEMU's own implementation of the format."""
    secret_file, plain = folder / "passphrase", folder / "plain"
    secret_file.write_text(secret)
    source = f"driver=luks,key-secret=key,file.driver=file,file.filename={stored}"
    subprocess.run(
        [
            *("qemu-img", "convert", "--object", f"secret,id=key,file={secret_file}"),
            *("--image-opts", source, "-O", "raw", plain),
        ],
        check=True,
        capture_output=True,
    )
    return plain.read_bytes()
