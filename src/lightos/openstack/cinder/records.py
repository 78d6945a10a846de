# SPDX-License-Identifier: Apache-2.0
"""What Cinder's database knows of objects of the cluster, whichever back end has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cinder import context, objects
from cinder.db import models
from cinder.volume import volume_utils

from lightos.openstack.cinder import grants
from lightos.openstack.cinder.manage import Identity, Managed
from lightos.openstack.cinder.naming import ProviderId


def managed_volumes(identities: Sequence[Identity]) -> Managed:
    """Which of these volumes Cinder manages."""
    names = {volume_utils.extract_id_from_volume_name(i.name): i.name for i in identities}
    # The database takes a list as "one of these"; an empty name has no id.
    found = [
        *_volumes("provider_id", [_provider_id(identity) for identity in identities]),
        *_volumes("id", [cinder_id for cinder_id in names if cinder_id]),
    ]
    return Managed.of(_known(found))


def managed_snapshot(identity: Identity) -> Managed:
    """Whether Cinder manages this snapshot."""
    found = [*_snapshots("provider_id", _provider_id(identity))]
    if cinder_id := volume_utils.extract_id_from_snapshot_name(identity.name):
        found.extend(_snapshots("id", cinder_id))  # Cinder's lists refuse to be added to others
    return Managed.of(_known(found))


def projects(*, host: str, cluster_name: str | None) -> set[str]:
    """The projects that the volumes of one back end are in."""
    filters = {"cluster_name": cluster_name} if cluster_name else {"host": host}
    known = objects.VolumeList.get_all(context.get_admin_context(), filters=filters)
    return {where.project for where, _name, _id in _known(known)}


def is_provider_id_of_another(volume) -> bool:
    """Whether another volume that Cinder has, or had, is recorded at the same place."""
    row = models.Volume
    with grants.reading() as session:
        others = session.query(row.id).filter(
            row.provider_id == volume.provider_id, row.id != volume.id
        )
        return others.first() is not None


def known_snapshots(snapshots: Iterable) -> Managed:
    """As `managed_volumes`, of Cinder's own snapshot objects."""
    return Managed.of(_known(snapshots))


def _provider_id(identity: Identity) -> str:
    return str(ProviderId(identity.project, identity.uuid))


def _known(found: Iterable) -> Iterator[tuple[ProviderId, str, str]]:
    for thing in found:
        if where := ProviderId.parse(thing.provider_id):
            yield where, thing.name, thing.id


def _volumes(key: str, values: list[str]):
    filters = {key: values}
    return objects.VolumeList.get_all(context.get_admin_context(), filters=filters)


def _snapshots(key: str, value: str):
    filters = {key: value}
    return objects.SnapshotList.get_all(context.get_admin_context(), filters=filters)
