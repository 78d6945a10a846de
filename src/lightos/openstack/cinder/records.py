# SPDX-License-Identifier: Apache-2.0
"""What Cinder's objects and database tell: volume types, and which objects Cinder has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cinder import context, objects
from cinder.db import models
from cinder.volume import volume_utils
from sqlalchemy import bindparam, select

from lightos.api.models.values import DEFAULT_PROJECT
from lightos.openstack.cinder import grants, qos
from lightos.openstack.cinder.manage import Identity, Managed
from lightos.openstack.cinder.naming import ProviderId

_VOLUME = models.Volume.__table__.c
_PLACE = select(_VOLUME.provider_id).where(_VOLUME.id == bindparam("volume"))
_OTHERS_AT = select(_VOLUME.id).where(
    _VOLUME.provider_id == bindparam("place"), _VOLUME.id != bindparam("volume")
)


def type_of(volume):
    """The volume's type, None for a volume without one."""
    return volume.volume_type if volume.volume_type_id else None


def extra_specs(volume) -> dict[str, str]:
    """Extra specs of the volume's type; none for a volume without type."""
    volume_type = type_of(volume)
    return (volume_type.extra_specs or {}) if volume_type else {}


def qos_limit(volume_type) -> qos.Limit | None:
    """What the QoS specs of a volume type, None for no type, ask of the back end.

    :raises InvalidQosSpecs: when no policy of the cluster could hold it.
    """
    if not (volume_type and volume_type.qos_specs_id):
        return None
    # Not by way of the type: once sent over RPC, a type with its specs loaded counts as changed,
    # and Cinder then fails to save the state of the volume that has it.
    specs = objects.QualityOfServiceSpecs.get_by_id(
        context.get_admin_context(), volume_type.qos_specs_id
    )
    return qos.limit_of(specs.consumer, specs.specs or {})


def managed_volumes(identities: Sequence[Identity]) -> Managed:
    """Which of these volumes Cinder manages."""
    row = models.Volume
    places = [_provider_id(identity) for identity in identities]
    ids = [volume_utils.extract_id_from_volume_name(identity.name) for identity in identities]
    return _managed(row, row.provider_id.in_(places) | row.id.in_(filter(None, ids)))


def managed_snapshots(identities: Sequence[Identity]) -> Managed:
    """Which of these snapshots Cinder manages."""
    row = models.Snapshot
    places = [_provider_id(identity) for identity in identities]
    ids = [volume_utils.extract_id_from_snapshot_name(identity.name) for identity in identities]
    return _managed(row, row.provider_id.in_(places) | row.id.in_(filter(None, ids)))


def projects(*, host: str, cluster_name: str | None, with_deleted: bool = False) -> set[str]:
    """The default project, and those that the volumes of one back end are in."""
    row = models.Volume
    with grants.reading() as session:
        found = session.query(row.provider_id).filter(
            row.provider_id.is_not(None), grants.of_back_end(row, host, cluster_name)
        )
        if not with_deleted:
            found = found.filter(row.deleted.is_(False))
        places = [ProviderId.parse(provider_id) for (provider_id,) in found]
    return {place.project for place in places if place} | {DEFAULT_PROJECT}


def is_place_of_another(where: ProviderId, volume) -> bool:
    """Whether another volume that Cinder has, or had, is recorded at this place."""
    asked = {"place": str(where), "volume": volume.id}
    with grants.reading() as session:
        return session.execute(_OTHERS_AT, asked).first() is not None


def place_of(volume_id: str) -> ProviderId | None:
    """What is recorded of where a volume is; None when that is nothing, or it is not there."""
    with grants.reading() as session:
        row = session.execute(_PLACE, {"volume": volume_id}).first()
    return ProviderId.parse(row.provider_id) if row else None


def is_qos_shared(volume) -> bool:
    """Whether another volume of the deployment has a type with the same QoS specs."""
    volume_type = type_of(volume)
    row, type_row = models.Volume, models.VolumeType
    with grants.reading() as session:
        others = (
            session.query(row.id)
            .join(type_row, type_row.id == row.volume_type_id)
            .filter(row.deleted.is_(False), row.id != volume.id)
            .filter(type_row.qos_specs_id == volume_type.qos_specs_id)
        )
        return others.first() is not None


def _managed(row: Any, condition: Any) -> Managed:
    # Rows and not Cinder's objects, which take a hundred times as long to make.
    with grants.reading() as session:
        return Managed.of(_known(session.query(row).filter(row.deleted.is_(False), condition)))


def _provider_id(identity: Identity) -> str:
    return str(ProviderId(identity.project, identity.uuid))


def _known(found: Iterable) -> Iterator[tuple[ProviderId | None, str, str]]:
    for thing in found:
        yield ProviderId.parse(thing.provider_id), thing.name, thing.id
