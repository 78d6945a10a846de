# SPDX-License-Identifier: Apache-2.0
"""What it takes to make a volume what another volume type asks for. Pure.

A retype is done in place when the volume is then as if it had been made of the new type. What
neither type names was nobody's wish, so it stays as it is, whatever the defaults are by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightos.api.models.volumes import UpdateVolume, Volume
from lightos.openstack.cinder.qos import NotThisPolicy, PolicyRef
from lightos.openstack.cinder.volume_types import (
    COMPRESSION_SPEC,
    PROJECT_SPEC,
    REPLICAS_SPEC,
    VolumeSpecs,
)


def obstacle(
    volume: Volume, old: Mapping[str, str], new: Mapping[str, str], wanted: VolumeSpecs
) -> str:
    """Why only a migration gives the volume its new type; empty when nothing stands in the way.

    `old` and `new` are the extra specs of the two types, `wanted` what the new one comes to.
    """
    named = {*old, *new}
    if REPLICAS_SPEC in named and wanted.replica_count != volume.replica_count:
        return (
            f"it has {volume.replica_count} replicas, the new type asks for {wanted.replica_count}"
        )
    if PROJECT_SPEC in named and wanted.project != volume.project:
        return f"it is in project {volume.project}, the new type's volumes are in {wanted.project}"
    return ""


def change(
    volume: Volume,
    old: Mapping[str, str],
    new: Mapping[str, str],
    wanted: VolumeSpecs,
    policy: PolicyRef | NotThisPolicy | None,
) -> UpdateVolume | None:
    """What to write to a volume that nothing stands in the way of; None when it is as wanted.

    `policy` None leaves the volume with the one it has.
    """
    changes: dict[str, Any] = policy.change_of(volume) if policy else {}
    if COMPRESSION_SPEC in {*old, *new} and volume.compression != wanted.compression:
        changes["compression"] = wanted.compression
    return UpdateVolume(**changes) if changes else None


def set_back(volume: Volume, before: Volume) -> UpdateVolume | None:
    """What to write to a volume for all that `change` may have changed to be as before."""
    changes: dict[str, Any] = PolicyRef(uuid=before.qos_policy_uuid).change_of(volume)
    if volume.compression != before.compression:
        changes["compression"] = before.compression
    return UpdateVolume(**changes) if changes else None
