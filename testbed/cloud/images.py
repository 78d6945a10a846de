# SPDX-License-Identifier: Apache-2.0
"""Images that Cinder makes of volumes."""

from __future__ import annotations

from openstack.image.v2.image import Image

from testbed.cloud.cloud import Cloud
from testbed.polling import wait_until

IMAGE_SECONDS = 300.0


def upload(
    cloud: Cloud, volume_id: str, disk_format: str, timeout_seconds: float = IMAGE_SECONDS
) -> Image:
    """Make an image of a volume; returns when the volume can be used again, too."""
    reply = cloud.admin.block_storage.upload_volume_to_image(
        volume_id, f"of-{volume_id}", disk_format=disk_format, container_format="bare"
    )
    image_id = reply["image_id"]
    wait_until(
        lambda: cloud.admin.image.get_image(image_id).status == "active",
        f"image {image_id} of volume {volume_id}",
        timeout_seconds,
    )
    wait_until(
        lambda: cloud.admin.block_storage.get_volume(volume_id).status == "available",
        f"volume {volume_id} to be available again",
        timeout_seconds,
    )
    return cloud.admin.image.get_image(image_id)
