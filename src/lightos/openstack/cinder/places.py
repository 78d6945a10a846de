# SPDX-License-Identifier: Apache-2.0
"""Where Cinder's volumes and snapshots are on the cluster.

`provider_id` says so since this driver and late versions of the older one; before that, and in
the middle of a create, only the name and the volume type do.
"""

from __future__ import annotations

from lightos.api.client import LightOSClient
from lightos.api.errors import Forbidden, NotFound, Refused, Unauthorized
from lightos.openstack.cinder import records, volume_types
from lightos.openstack.cinder.naming import ProviderId
from lightos.waiting import Deadline


class Places:
    """Finds objects of Cinder on the cluster. Thread-safe."""

    def __init__(self, client: LightOSClient) -> None:
        self._client = client

    def of_volume(self, volume, deadline: Deadline) -> ProviderId:
        """Project and UUID of a volume, by name where the UUID was not recorded; NotFound.

        :raises InvalidSpec: when only its type could tell the project, and names none, and the
            token may not look in all of them.
        """
        recorded = ProviderId.parse(volume.provider_id)
        if recorded and recorded.uuid:
            return recorded
        try:
            # Its type may have been edited since, but nothing else tells the project.
            project = (
                recorded.project if recorded else volume_types.project(records.extra_specs(volume))
            )
            found = self._client.get_volume_by_name(project, volume.name, deadline)
        except (NotFound, volume_types.InvalidSpec) as failure:
            try:
                return self._in_any_project(volume.name, deadline)
            except (Forbidden, Unauthorized):
                raise failure from None
        return ProviderId(project, found.uuid)

    def of_own_volume(self, volume, deadline: Deadline) -> ProviderId:
        """As `of_volume`, for what deletes: never the volume of another record; NotFound.

        Cinder copies `provider_id` into the records that it makes of a volume, for its image cache
        and to migrate it. Where the driver then makes no volume, only the name tells them apart.
        """
        where = self.of_volume(volume, deadline)
        if not records.is_place_of_another(where, volume):
            return where
        recorded = ProviderId.parse(volume.provider_id)
        if recorded and recorded.uuid:
            found = self._client.get_volume_by_name(where.project, volume.name, deadline)
            return ProviderId(where.project, found.uuid)
        # After a migration the volume with this name is the one that was migrated to.
        target = f"volume {volume.name}"
        raise NotFound("ListVolumes", target, f"{where.uuid} has the name, and is another record's")

    def of_volume_of(self, snapshot, deadline: Deadline) -> ProviderId:
        """As `of_volume`, for the volume of a snapshot.

        Cinder hands the snapshot over without its volume, which is long to read.
        """
        recorded = records.place_of(snapshot.volume_id)
        if recorded and recorded.uuid:
            return recorded
        return self.of_volume(snapshot.volume, deadline)

    def of_snapshot(self, snapshot, deadline: Deadline) -> ProviderId:
        """Project and UUID of a snapshot, which lives where its volume does; NotFound."""
        recorded = ProviderId.parse(snapshot.provider_id)
        if recorded and recorded.uuid:
            return recorded
        project = self.of_volume_of(snapshot, deadline).project
        found = self._client.get_snapshot_by_name(project, snapshot.name, deadline)
        return ProviderId(project, found.uuid)

    def _in_any_project(self, name: str, deadline: Deadline) -> ProviderId:
        """Where the one volume of this name is; NotFound.

        Old drivers did not record the project, and the type may have been edited since. Refused
        when several projects have one, because nothing says which of them is Cinder's.
        """
        found = list(self._client.list_volumes(None, deadline, name=name))
        if not found:
            raise NotFound("ListVolumes", f"volume {name}", "no project has one")
        if len(found) > 1:
            owners = ", ".join(sorted(volume.project for volume in found))
            reason = f"projects {owners} each have one; rename those that are not Cinder's"
            raise Refused("ListVolumes", f"volume {name}", reason)
        return ProviderId(found[0].project, found[0].uuid)
