# SPDX-License-Identifier: Apache-2.0
"""Images that Glance keeps in Cinder volumes: which volume one of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cinder import objects
from cinder.image import glance

from lightos.openstack.cinder.naming import UUID_PATTERN

SCHEME = "cinder"
READABLE = frozenset({"available", "in-use"})


def image_volume(context, volume, image_location, image_meta: Mapping[str, Any]):
    """The Cinder volume with the content of an image that may be cloned into `volume`, or None.

    The conditions are Cinder's own for such a clone: the operator allows it
    (`allowed_direct_url_schemes`), the image is raw, nothing is encrypted, and the image belongs to
    the project of the new volume or of the image volume's recorded owner.
    """
    if SCHEME not in glance.CONF.allowed_direct_url_schemes or volume.encryption_key_id:
        return None
    if (image_meta.get("disk_format"), image_meta.get("container_format")) != ("raw", "bare"):
        return None
    ids = list(cinder_ids(image_location))
    if not ids:
        return None
    candidates = objects.VolumeList.get_all(context.elevated(), filters={"id": ids})
    for candidate in candidates:
        owner = image_meta.get("owner")
        if (
            owner in (volume.project_id, candidate.metadata.get("image_owner"))
            and candidate.status in READABLE
            and not candidate.encryption_key_id
            and candidate.size <= volume.size
        ):
            return candidate
    return None


def cinder_ids(image_location) -> Iterator[str]:
    """Ids of the volumes in `(direct_url, locations)`: `cinder://ID` or `cinder://STORE/ID`."""
    direct_url, locations = image_location or (None, None)
    urls = (direct_url, *(location.get("url") for location in locations or ()))
    for url in dict.fromkeys(urls):
        parts = urlsplit(url or "")
        volume_id = parts.path.rpartition("/")[2] or parts.netloc
        if parts.scheme == SCHEME and UUID_PATTERN.fullmatch(volume_id):
            yield volume_id
