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


def is_raw(image_meta: Mapping[str, Any]) -> bool:
    """Whether an image is what is in a volume, byte for byte."""
    return (image_meta.get("disk_format"), image_meta.get("container_format")) == ("raw", "bare")


def image_volume(context, volume, image_location, image_meta: Mapping[str, Any]):
    """The Cinder volume with the content of an image that may be cloned into `volume`, or None.

    The conditions: the operator allows it (`allowed_direct_url_schemes`), the image is raw, nothing
    is encrypted, and the volume belongs to the image's owner, by its project or, in Glance's own
    project, by what Glance recorded. Who may set an image's location could else read any volume.
    """
    if SCHEME not in glance.CONF.allowed_direct_url_schemes or volume.encryption_key_id:
        return None
    if not is_raw(image_meta):
        return None
    ids = list(cinder_ids(image_location))
    owner = image_meta.get("owner")
    if not (ids and owner):
        return None
    candidates = objects.VolumeList.get_all(context.elevated(), filters={"id": ids})
    for candidate in candidates:
        if (
            owner in (candidate.project_id, candidate.metadata.get("image_owner"))
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
