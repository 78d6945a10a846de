# SPDX-License-Identifier: Apache-2.0
"""How Cinder's objects are named and remembered.

Volumes and snapshots carry Cinder's own names (`volume_name_template` on `name_id`,
`snapshot_name_template`), which Cinder's objects offer as `.name`. `provider_id` remembers where
an object lives, because its volume type may say something else later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_PROJECT = "default"
CLONE_SNAPSHOT_PREFIX = "for_clone_"
UUID_PATTERN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def clone_snapshot_name(volume_id: str) -> str:
    """Name of the snapshot that exists only while the volume is cloned."""
    return f"{CLONE_SNAPSHOT_PREFIX}{volume_id}"


def cloned_volume_id(snapshot_name: str) -> str | None:
    """Cinder's id of the volume that a snapshot was taken for; None for any other snapshot."""
    volume_id = snapshot_name.removeprefix(CLONE_SNAPSHOT_PREFIX)
    is_ours = volume_id != snapshot_name and UUID_PATTERN.fullmatch(volume_id)
    return volume_id if is_ours else None


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
