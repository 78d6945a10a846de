# SPDX-License-Identifier: Apache-2.0
"""What tempest expects to find in a cloud: two images, two flavors, and names of its back ends."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from openstack.connection import Connection

from testbed.cloud.boot_sector import SECTOR_BYTES, Area, boot_sector
from testbed.cloud.cinder import BACKENDS
from testbed.cloud.cloud import Cloud
from testbed.cloud.deployment import ADMIN, IDENTITY, REGION
from testbed.tempest.configuration import Settings

IMAGE_BYTES = 8 << 20
MULTIATTACH_TYPE = "lightos-multiattach"


def prepare(cloud: Cloud, compute_hosts: int) -> Settings:
    """Make images and flavors; what tempest has to know of the cloud."""
    (pool, *_) = cloud.admin.block_storage.backend_pools()
    return Settings(
        keystone_url=cloud.deployment.internal_url(IDENTITY),
        region=REGION,
        admin_password=cloud.deployment.password(ADMIN),
        image_ids=_make_images(cloud.admin),
        flavor_ids=(_make_flavor(cloud.admin, "one", 64), _make_flavor(cloud.admin, "two", 128)),
        back_ends=tuple(BACKENDS),
        multiattach_type=MULTIATTACH_TYPE,
        vendor_name=pool.capabilities["vendor_name"],
        storage_protocol=pool.capabilities["storage_protocol"],
        compute_hosts=compute_hosts,
    )


def _make_images(admin: Connection) -> tuple[str, str]:
    """The same bytes as a qcow2 and as a raw image, random but for an instance's program."""
    with tempfile.TemporaryDirectory() as folder:
        raw, qcow2 = Path(folder, "image.raw"), Path(folder, "image.qcow2")
        raw.write_bytes(boot_sector(Area()) + os.urandom(IMAGE_BYTES - SECTOR_BYTES))
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2]
        subprocess.run(convert, check=True, capture_output=True)
        ids = [
            admin.image.create_image(
                name=f"tempest-{disk_format}",
                filename=str(file),
                disk_format=disk_format,
                container_format="bare",
                visibility="public",
                wait=True,
            ).id
            for disk_format, file in (("qcow2", qcow2), ("raw", raw))
        ]
    return ids[0], ids[1]


def _make_flavor(admin: Connection, name: str, memory_mib: int) -> str:
    return str(
        admin.compute.create_flavor(name=f"tempest-{name}", ram=memory_mib, vcpus=1, disk=1).id
    )
