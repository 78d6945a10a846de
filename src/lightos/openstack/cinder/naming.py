# SPDX-License-Identifier: Apache-2.0
"""How Cinder's objects are named and remembered.

Volumes and snapshots carry Cinder's own names (`volume_name_template` on `name_id`,
`snapshot_name_template`), which Cinder's objects offer as `.name`. `provider_id` remembers where
an object lives, because its volume type may say something else later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UUID_PATTERN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CLONE_SNAPSHOT = re.compile(rf"for_clone_({UUID_PATTERN.pattern})", re.IGNORECASE)
_IMAGE_SNAPSHOT = re.compile(
    rf"for_image_({UUID_PATTERN.pattern})_{UUID_PATTERN.pattern}", re.IGNORECASE
)


def clone_snapshot_name(volume_id: str) -> str:
    """Name of the snapshot that exists only while the volume is made as a clone."""
    return f"for_clone_{volume_id}"


def cloned_volume_id(snapshot_name: str) -> str | None:
    """Cinder's id of the volume that is made of a snapshot; None for any other snapshot."""
    found = _CLONE_SNAPSHOT.fullmatch(snapshot_name)
    return found[1] if found else None


def image_snapshot_name(volume_id: str, image_id: str) -> str:
    """Name of the snapshot that exists only while the volume is uploaded to the image.

    With the image's id, so that one which an earlier upload left is never taken for this one's.
    """
    return f"for_image_{volume_id}_{image_id}"


def uploaded_volume_id(snapshot_name: str) -> str | None:
    """Cinder's id of the volume that is uploaded; None for any other snapshot."""
    found = _IMAGE_SNAPSHOT.fullmatch(snapshot_name)
    return found[1] if found else None


@dataclass(frozen=True)
class ProviderId:
    """Project and UUID of an object; the UUID is empty for objects recorded by old drivers."""

    project: str
    uuid: str = ""

    @classmethod
    def parse(cls, text: str | None) -> ProviderId | None:
        """Read `"<project>"` or `"<project> <uuid>"`; None when it is neither."""
        fields = (text or "").split()
        return cls(*fields) if len(fields) in (1, 2) else None

    def __str__(self) -> str:
        return f"{self.project} {self.uuid}".rstrip()
