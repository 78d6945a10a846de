# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots of the cluster that Cinder lists to be managed, and takes over.

What may be taken over, and why not, `manage` decides; here it is read, and changed where need be.
Errors of Cinder say which reference is meant; those of the cluster are `lightos.api`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from cinder import exception
from cinder.volume import volume_utils

from lightos.api.client import LightOSClient
from lightos.api.errors import Forbidden, NotFound
from lightos.api.models.snapshots import Snapshot
from lightos.api.models.volumes import UpdateVolume, Volume
from lightos.openstack.cinder import manage, records
from lightos.openstack.cinder.cluster import ClusterOperations
from lightos.openstack.cinder.naming import ProviderId
from lightos.openstack.cinder.policies import QosPolicies
from lightos.openstack.cinder.qos import PolicyRef
from lightos.openstack.cinder.volume_types import VolumeSpecs
from lightos.waiting import Deadline

Listed = TypeVar("Listed", Volume, Snapshot)


class Takeover:
    """Finds, lists and takes over what the cluster has. Thread-safe.

    `own_projects`: those that volumes of this back end are in, for a token that may list none.
    """

    def __init__(
        self,
        cluster: ClusterOperations,
        policies: QosPolicies,
        own_projects: Callable[[], set[str]],
    ) -> None:
        self._cluster = cluster
        self._policies = policies
        self._own_projects = own_projects

    @property
    def _client(self) -> LightOSClient:
        return self._cluster.client

    # --- volumes -------------------------------------------------------------------------------

    def find_volume(
        self, volume, specs: VolumeSpecs, existing_ref: object, deadline: Deadline
    ) -> Volume:
        """The volume that a reference names, if it may be taken over as this Cinder volume.

        :raises ManageExistingInvalidReference: there is none, or it is not to be had as it is.
        :raises ManageExistingAlreadyManaged: Cinder has it.
        :raises ManageExistingVolumeTypeMismatch: it is not what the volume's type says.
        """
        found = _named_by(
            existing_ref,
            specs.project,
            deadline,
            by_uuid=self._client.get_volume,
            by_name=self._client.get_volume_by_name,
        )
        identity = manage.Identity.of(found)
        if records.managed_volumes([identity]).id_of(identity):
            raise exception.ManageExistingAlreadyManaged(volume_ref=found.name)
        _check(manage.obstacle(found), existing_ref)
        try:
            manage.check_type(found, records.extra_specs(volume), specs)
        except manage.TypeMismatch as error:
            raise exception.ManageExistingVolumeTypeMismatch(reason=str(error)) from error
        return found

    def take_volume(
        self, volume, specs: VolumeSpecs, existing_ref: object, deadline: Deadline
    ) -> ProviderId:
        """Give the volume that a reference names this Cinder volume's name, and its QoS policy.

        Raises as `find_volume` does.
        """
        found = self.find_volume(volume, specs, existing_ref, deadline)
        where = ProviderId(found.project, found.uuid)

        def take(policy: PolicyRef | None) -> None:
            def compute(current: Volume) -> UpdateVolume | None:
                if current.name not in (found.name, volume.name):
                    _check(f"it was renamed meanwhile, to {current.name}", existing_ref)
                _check(manage.obstacle(current), existing_ref)
                return manage.take_over(current, volume.name, policy)

            self._cluster.update_volume(where.project, where.uuid, compute, deadline)

        self._policies.with_policy(specs, deadline, take)
        return where

    def list_volumes(self, deadline: Deadline, *paging) -> list[dict[str, Any]]:
        """One page of the cluster's volumes, in all projects that the token may see."""
        shown = _page(self._in_projects(self._client.list_volumes, deadline), *paging)
        # Only a page is looked up in the database, where other back ends of the cluster count too.
        managed = records.managed_volumes([manage.Identity.of(volume) for volume in shown])
        return [manage.volume_entry(volume, managed) for volume in shown]

    # --- snapshots -----------------------------------------------------------------------------

    def find_snapshot(
        self, snapshot, of_volume: ProviderId, existing_ref: object, deadline: Deadline
    ) -> Snapshot:
        """The snapshot that a reference names, if it may be taken over as this Cinder snapshot.

        :raises ManageExistingInvalidReference: there is none, or it is not to be had as it is.
        """
        found = _named_by(
            existing_ref,
            of_volume.project,
            deadline,
            by_uuid=self._client.get_snapshot,
            by_name=self._client.get_snapshot_by_name,
        )
        if found.source_volume_uuid != of_volume.uuid:
            reason = (
                f"it is a snapshot of volume {found.source_volume_name} "
                f"({found.source_volume_uuid}), not of {snapshot.volume.name} ({of_volume.uuid})"
            )
            raise _invalid(existing_ref, reason)
        identity = manage.Identity.of(found)
        if records.managed_snapshots([identity]).id_of(identity):
            raise _invalid(existing_ref, "Cinder manages it already")
        _check(manage.snapshot_obstacle(found), existing_ref)
        return found

    def list_snapshots(self, deadline: Deadline, *paging) -> list[dict[str, Any]]:
        """One page of the cluster's snapshots, in all projects that the token may see."""
        shown = _page(self._in_projects(self._client.list_snapshots, deadline), *paging)
        managed = records.managed_snapshots([manage.Identity.of(each) for each in shown])
        volumes = records.managed_volumes([manage.Identity.of_source(each) for each in shown])
        return [manage.snapshot_entry(each, managed, volumes) for each in shown]

    # --- both ----------------------------------------------------------------------------------

    def _in_projects(
        self, list_one: Callable[[str, Deadline], Iterator[Listed]], deadline: Deadline
    ) -> Iterator[Listed]:
        for project in self._projects(deadline):
            try:
                yield from list_one(project, deadline)
            except NotFound:
                continue  # deleted since Cinder had a volume in it

    def _projects(self, deadline: Deadline) -> set[str]:
        try:
            return {project.name for project in self._client.list_projects(deadline)}
        except Forbidden:
            return self._own_projects()


def _page(found: Iterable[Listed], *paging) -> list[Listed]:
    """What one page of Cinder's list shows of all that was found, in its order."""
    by_uuid = {each.uuid: each for each in found}
    listed = [manage.sortable(each) for each in by_uuid.values()]
    page = volume_utils.paginate_entries_list(listed, *paging)
    return [by_uuid[entry["reference"][manage.SOURCE_ID]] for entry in page]


def _named_by(
    existing_ref: object,
    default_project: str,
    deadline: Deadline,
    *,
    by_uuid: Callable[[str, str, Deadline], Listed],
    by_name: Callable[[str, str, Deadline], Listed],
) -> Listed:
    """What a reference names on the cluster. ManageExistingInvalidReference when there is none."""
    try:
        reference = manage.Reference.parse(existing_ref, default_project)
        if reference.uuid:
            return by_uuid(reference.project, reference.uuid, deadline)
        return by_name(reference.project, reference.name, deadline)
    except (manage.InvalidReference, NotFound) as error:
        raise _invalid(existing_ref, str(error)) from error


def _invalid(existing_ref: object, reason: str) -> exception.ManageExistingInvalidReference:
    return exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)


def _check(obstacle: str, existing_ref: object) -> None:
    if obstacle:
        raise _invalid(existing_ref, obstacle)
