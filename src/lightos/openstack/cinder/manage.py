# SPDX-License-Identifier: Apache-2.0
"""Which volumes and snapshots of the cluster Cinder may take over, and how it lists them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lightos.api.models.snapshots import Snapshot, SnapshotState
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import UpdateVolume, Volume
from lightos.openstack.cinder.capacity import GIB
from lightos.openstack.cinder.cluster import VOLUME_AT_REST
from lightos.openstack.cinder.naming import (
    UUID_PATTERN,
    ProviderId,
    cloned_volume_id,
    uploaded_volume_id,
)
from lightos.openstack.cinder.qos import PolicyRef
from lightos.openstack.cinder.volume_types import (
    COMPRESSION_SPEC,
    PROJECT_SPEC,
    REPLICAS_SPEC,
    VolumeSpecs,
)

SOURCE_NAME, SOURCE_ID, PROJECT = "source-name", "source-id", "project"
LEGAL_REFERENCE = (
    f"give {SOURCE_NAME!r}, or {SOURCE_ID!r} with the UUID; {PROJECT!r} may be added to either"
)


class InvalidReference(ValueError):
    """The reference names nothing that could be taken over."""


class TypeMismatch(ValueError):
    """The volume is not what its Cinder volume type says."""


@dataclass(frozen=True)
class Reference:
    """A volume or snapshot, by UUID or by name; one of the two is empty."""

    project: str
    uuid: str = ""
    name: str = ""

    @classmethod
    def parse(cls, existing_ref: object, default_project: str) -> Reference:
        """Read what the user gave: `{"source-name": N}` or `{"source-id": UUID}`.

        :raises InvalidReference: saying what is wrong, and what is legal.
        """
        if not isinstance(existing_ref, Mapping):
            raise InvalidReference(LEGAL_REFERENCE)
        given = {key: str(value) for key, value in existing_ref.items() if value}
        if unknown := sorted(set(given) - {SOURCE_NAME, SOURCE_ID, PROJECT}):
            raise InvalidReference(
                f"there is no {', '.join(map(repr, unknown))}; {LEGAL_REFERENCE}"
            )
        uuid, name = given.get(SOURCE_ID, ""), given.get(SOURCE_NAME, "")
        if bool(uuid) == bool(name):
            raise InvalidReference(LEGAL_REFERENCE)
        if uuid and not UUID_PATTERN.fullmatch(uuid):
            raise InvalidReference(f"{SOURCE_ID!r} is {uuid!r}, which is not a UUID")
        return cls(given.get(PROJECT, default_project), uuid, name)


def hosts_with_access(volume: Volume) -> tuple[str, ...]:
    """The host NQNs in a volume's access list; ALLOW_ANY is one of them."""
    return tuple(entry for entry in volume.acl if entry != ALLOW_NONE)


def obstacle(volume: Volume) -> str:
    """Why Cinder may not take a volume over as it is; empty when it may."""
    if volume.state not in VOLUME_AT_REST:
        return f"it is {volume.state.wire_name}, not Available"
    if hosts := hosts_with_access(volume):
        return f"hosts have access to it: {', '.join(hosts)}; detach them and empty its ACL"
    return _size_obstacle(volume.size_bytes)


def snapshot_obstacle(snapshot: Snapshot) -> str:
    """As `obstacle`."""
    if cloned_volume_id(snapshot.name) or uploaded_volume_id(snapshot.name):
        return "it serves a clone or an image that is being made, and goes with that"
    if snapshot.state is not SnapshotState.AVAILABLE:
        return f"it is {snapshot.state.wire_name}, not Available"
    return _size_obstacle(snapshot.size_bytes)


def _size_obstacle(size_bytes: int) -> str:
    if size_bytes and size_bytes % GIB == 0:
        return ""
    return (
        f"its size of {size_bytes} bytes is not whole GiB, which Cinder counts in; "
        f"extend it to {rounded_gib(size_bytes)} GiB"
    )


def rounded_gib(size_bytes: int) -> int:
    """GiB, rounded up."""
    return -(-size_bytes // GIB)


def check_type(volume: Volume, extra_specs: Mapping[str, str], specs: VolumeSpecs) -> None:
    """Compare a volume with what its type names; what it leaves to defaults may be any.

    :raises TypeMismatch: naming the extra spec, its value, and the volume's.
    """
    mismatches = [
        f"{name} is {wanted}, but the volume has {found}"
        for name, wanted, found in (
            (REPLICAS_SPEC, specs.replica_count, volume.replica_count),
            (COMPRESSION_SPEC, specs.compression, volume.compression),
        )
        if name in extra_specs and wanted != found
    ]
    if specs.project != volume.project:
        where = f"volumes of its type are in project {specs.project}"
        mismatches.append(f"{PROJECT_SPEC}: {where}, this one is in {volume.project}")
    if mismatches:
        raise TypeMismatch("; ".join(mismatches))


def take_over(volume: Volume, name: str, policy: PolicyRef | None) -> UpdateVolume | None:
    """What to write to a volume that Cinder takes over; None when it is as wanted."""
    changes: dict[str, Any] = policy.change_of(volume) if policy else {}
    if volume.name != name:
        changes["new_name"] = name
    return UpdateVolume(**changes) if changes else None


@dataclass(frozen=True)
class Identity:
    """Which volume or snapshot of the cluster."""

    project: str
    uuid: str
    name: str

    @classmethod
    def of(cls, thing: Volume | Snapshot) -> Identity:
        return cls(thing.project, thing.uuid, thing.name)

    @classmethod
    def of_source(cls, snapshot: Snapshot) -> Identity:
        """The volume that a snapshot is of."""
        return cls(snapshot.project, snapshot.source_volume_uuid, snapshot.source_volume_name)


@dataclass(frozen=True)
class Managed:
    """What Cinder has: its ids by the cluster's UUIDs and, where those are not known, by names."""

    by_uuid: Mapping[str, str]
    by_name: Mapping[tuple[str, str], str]
    """By (project, name); the project is empty where it is not known either."""

    @classmethod
    def of(cls, known: Iterable[tuple[ProviderId | None, str, str]]) -> Managed:
        """From what Cinder recorded of each: where it is, its name, and Cinder's id.

        Old drivers recorded of a snapshot only its name, and of what is being made or taken over
        there is no more yet.
        """
        by_uuid: dict[str, str] = {}
        by_name: dict[tuple[str, str], str] = {}
        for where, name, cinder_id in known:
            if where and where.uuid:
                by_uuid[where.uuid] = cinder_id
            else:
                by_name[where.project if where else "", name] = cinder_id
        return cls(by_uuid, by_name)

    def id_of(self, identity: Identity) -> str | None:
        """Cinder's id; None for what it does not have."""
        return (
            self.by_uuid.get(identity.uuid)
            or self.by_name.get((identity.project, identity.name))
            or self.by_name.get(("", identity.name))
        )


def sortable(thing: Volume | Snapshot) -> dict[str, Any]:
    """What Cinder's lists are sorted and paged by.

    The reference is the UUID alone, because that is never the same for two of any project.
    """
    return {"reference": {SOURCE_ID: thing.uuid}, "size": rounded_gib(thing.size_bytes)}


def volume_entry(volume: Volume, managed: Managed) -> dict[str, Any]:
    """What Cinder's list of manageable volumes shows of one."""
    return _entry(volume, managed, obstacle(volume))


def snapshot_entry(snapshot: Snapshot, managed: Managed, volumes: Managed) -> dict[str, Any]:
    """What Cinder's list of manageable snapshots shows of one."""
    reason = snapshot_obstacle(snapshot)
    if not reason and not volumes.id_of(Identity.of_source(snapshot)):
        reason = f"Cinder does not manage its volume {snapshot.source_volume_name}"
    source = {"source_reference": {SOURCE_ID: snapshot.source_volume_uuid}}
    return _entry(snapshot, managed, reason) | source


def _entry(thing: Volume | Snapshot, managed: Managed, reason: str) -> dict[str, Any]:
    cinder_id = managed.id_of(Identity.of(thing))
    if cinder_id:
        reason = "Cinder manages it already"
    return sortable(thing) | {
        "safe_to_manage": not reason,
        "reason_not_safe": reason or None,
        "cinder_id": cinder_id,
        "extra_info": {"name": thing.name, "project": thing.project},
    }
