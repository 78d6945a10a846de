# SPDX-License-Identifier: Apache-2.0
"""What Cinder's database knows of objects of the cluster, whichever back end has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cinder.db import models
from cinder.volume import volume_utils

from lightos.openstack.cinder import grants
from lightos.openstack.cinder.manage import Identity, Managed
from lightos.openstack.cinder.naming import DEFAULT_PROJECT, ProviderId


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


def is_provider_id_of_another(volume) -> bool:
    """Whether another volume that Cinder has, or had, is recorded at the same place."""
    row = models.Volume
    with grants.reading() as session:
        others = session.query(row.id).filter(
            row.provider_id == volume.provider_id, row.id != volume.id
        )
        return others.first() is not None


def _managed(row: Any, condition: Any) -> Managed:
    # Rows and not Cinder's objects, which take a hundred times as long to make.
    with grants.reading() as session:
        return Managed.of(_known(session.query(row).filter(row.deleted.is_(False), condition)))


def _provider_id(identity: Identity) -> str:
    return str(ProviderId(identity.project, identity.uuid))


def _known(found: Iterable) -> Iterator[tuple[ProviderId, str, str]]:
    for thing in found:
        if where := ProviderId.parse(thing.provider_id):
            yield where, thing.name, thing.id
