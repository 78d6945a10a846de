# SPDX-License-Identifier: Apache-2.0
"""What processes that died in the middle of something left, found and removed.

Runs beside the service, never in its start: Cinder first has to mark what its dead processes
were creating (after `init_host`), and thousands of volumes must not delay it. It touches only
what Cinder's database shows to be this back end's own: volumes and clones by their Cinder ids,
access by the driver's notes. What is under way in whatever process is told apart by its state
in the database, and access by the locks of `attachments`.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from cinder import context, exception, objects
from cinder.common import constants
from cinder.db import models

from lightos.api.errors import LightOSError, NotFound
from lightos.openstack.cinder import acl, grants, records
from lightos.openstack.cinder.attachments import Attachments, Target
from lightos.openstack.cinder.cluster import ClusterOperations
from lightos.openstack.cinder.naming import cloned_volume_id, uploaded_volume_id
from lightos.openstack.cinder.places import Places
from lightos.openstack.cinder.policies import QosPolicies
from lightos.waiting import Deadline

LOG = logging.getLogger(__name__)

FIRST_REFRESH = 2
"""Of an initialised driver the statistics are refreshed once in `init_host`, before Cinder has
marked what a dead process was doing, and again when the service answers requests."""
SECONDS_BETWEEN_LOOKS = 10.0
"""At least: Cinder refreshes the statistics after each deletion too, and what looks unfinished at
two looks must have had the time to be finished in between."""
SECONDS_BETWEEN_PASSES = 3600.0
"""Until all access is looked through again."""
IDS_PER_QUERY = 500

BEING_MADE = frozenset({"creating", "downloading"})
"""States of a volume that some process may be making at this moment."""

UPLOADING = frozenset({"uploading"})
"""State of a volume that is being copied to an image."""

UNUSED = frozenset({"available", "error", "error_deleting", "error_extending", "error_restoring"})
"""States of a volume that nobody has attached, not even Cinder itself, but to migrate it."""

NOT_MIGRATING = (None, "error", "success")
"""Values of a volume's migration status."""


@dataclass(frozen=True)
class BackEnd:
    """Whose volumes these are, as Cinder's database has it."""

    host: str
    cluster_name: str | None


@dataclass(frozen=True)
class OwnSnapshot:
    """A snapshot that the driver took and nobody needs; `cloned`: it may have got a clone."""

    project: str
    uuid: str
    name: str
    cloned: bool


class Housekeeping:
    """Looks for leftovers in a thread of its own, one at a time."""

    def __init__(
        self,
        back_end: BackEnd,
        cluster: ClusterOperations,
        attachments: Attachments,
        places: Places,
        deadline: Callable[[], Deadline],
        *,
        policies: QosPolicies,
        on_access: Callable[[int], None] | None = None,
    ) -> None:
        """`on_access` is told, after each look, how many hosts have access that no attachment
        shows."""
        self._back_end = back_end
        self._policies = policies
        self._on_access = on_access
        self._cluster = cluster
        self._attachments = attachments
        self._places = places
        self._deadline = deadline
        self._unfinished: frozenset[str] = frozenset()
        self._services_down: frozenset[str] = frozenset()
        self._own_snapshots: list[OwnSnapshot] = []
        self._refreshes = 0
        self._until_look = Deadline(0.0)
        self._until_pass = Deadline(0.0)
        self._running = threading.Lock()

    def note_unfinished(self) -> None:
        """Remember what is being made as a process starts or dies, before Cinder marks it.

        Only of these is a volume in error without a launch half made for certain: an operator may
        have set any other one available, and it was used since.
        """
        self._unfinished |= _volumes_being_made(self._back_end)

    def after_refresh(self) -> None:
        """The initialised driver's statistics were refreshed; start what is due, and return."""
        self._refreshes += 1
        if self._refreshes < FIRST_REFRESH or not self._until_look.expired:
            return
        if self._running.acquire(blocking=False):
            threading.Thread(target=self._run, name="lightos-housekeeping", daemon=True).start()

    def _run(self) -> None:
        try:
            self._try(self.look)
        finally:
            self._until_look = Deadline(SECONDS_BETWEEN_LOOKS)
            self._running.release()

    def look(self) -> None:
        """Do what is due. What cannot be done, for the database is away, say, stays so."""
        self._notice_deaths()
        whole = self._until_pass.expired
        some_ended = self.remove_half_made()
        self.settle_access(whole=whole)
        if whole or some_ended:
            self.find_own_snapshots()
        self.remove_own_snapshots()
        if whole:
            self.drop_policies()
            self._until_pass = Deadline(SECONDS_BETWEEN_PASSES)
        if self._on_access:
            self._try(self._count_access, self._on_access)

    def _notice_deaths(self) -> None:
        """Have all looked through when a cinder-volume of our cluster went down since last time."""
        down = _services_down(self._back_end)
        if not down <= self._services_down:
            self.note_unfinished()
            self._until_pass = Deadline(0.0)
        self._services_down = down

    def remove_half_made(self) -> bool:
        """Remove what creates left that a dead process was making; what cannot be, next time.

        Returns whether Cinder gave some up, or has them, since the last look.
        """
        if not self._unfinished:
            return False
        ended = self._unfinished - _volumes_being_made(self._back_end)
        for volume_id in ended:
            # Access that the dead process gave to copy data into it goes first, see `settle`.
            if not grants.grants_of(volume_id) and self._try(self._remove_volume, volume_id):
                self._unfinished -= {volume_id}
        return bool(ended)

    def find_own_snapshots(self) -> None:
        """Look for the snapshots that clones and uploads to images left, in each project."""
        # A volume that was deleted may have left its snapshot, too.
        projects = records.projects(
            host=self._back_end.host, cluster_name=self._back_end.cluster_name, with_deleted=True
        )
        self._own_snapshots = []
        for project in sorted(projects):
            self._try(self._find_own_snapshots, project)

    def remove_own_snapshots(self) -> None:
        """Remove those that were found; what cannot be, next time."""
        self._own_snapshots = [
            each for each in self._own_snapshots if not self._try(self._remove_own_snapshot, each)
        ]

    def settle_access(self, *, whole: bool) -> None:
        """Look again at access that was in doubt; if `whole`, at all that no attachment shows."""
        back_end = self._back_end
        pairs: dict[tuple[str, str], grants.Grant | None] = {}
        if whole:
            noted = grants.unrecorded_grants(back_end.host, back_end.cluster_name)
            pairs.update(dict.fromkeys(noted))
        pairs.update(self._attachments.take_kept())
        for (volume_id, host_nqn), seen in pairs.items():
            if not self._try(self._settle, volume_id, host_nqn, seen):
                self._attachments.look_again(volume_id, host_nqn, seen)

    def _count_access(self, tell: Callable[[int], None]) -> None:
        back_end = self._back_end
        tell(sum(1 for _ in grants.unrecorded_grants(back_end.host, back_end.cluster_name)))

    def drop_policies(self) -> None:
        """Delete the QoS policies made on demand that no volume has any more."""
        self._try(self._policies.drop_all_unused, self._deadline())

    def _try(self, remove: Callable[..., None], *what) -> bool:
        """Whether it worked; one leftover that cannot be removed does not keep the others."""
        try:
            remove(*what)
        except LightOSError as error:
            LOG.warning("What an interrupted operation left could not be removed: %s", error)
            return False
        except Exception:
            # Whatever it is: the others are still to be looked at, and this thread, which must
            # come again, has nobody else to tell.
            LOG.exception("What an interrupted operation left could not be removed")
            return False
        return True

    def _settle(self, volume_id: str, host_nqn: str, seen: grants.Grant | None) -> None:
        try:
            volume = objects.Volume.get_by_id(context.get_admin_context(), volume_id)
        except exception.VolumeNotFound:
            return
        locate = functools.partial(self._places.of_volume, volume)
        target = Target(
            volume.id,
            volume.status,
            locate,
            is_idle=_is_idle(volume),
            is_migrating=volume.migration_status not in NOT_MIGRATING,
        )
        self._attachments.settle(target, host_nqn, seen)

    def _remove_volume(self, volume_id: str) -> None:
        """Delete what a create left, to which nobody has access."""
        try:
            volume = objects.Volume.get_by_id(context.get_admin_context(), volume_id)
        except exception.VolumeNotFound:
            return
        if volume.status != "error" or volume.launched_at:
            return
        deadline = self._deadline()
        try:
            where = self._places.of_own_volume(volume, deadline)
            found = self._cluster.client.get_volume(where.project, where.uuid, deadline)
        except NotFound:
            return
        if found.name != volume.name or set(found.acl) - set(acl.NOBODY):
            return
        self._cluster.delete_volume(where.project, where.uuid, deadline)
        LOG.info("Volume %s was never finished; it is removed from the cluster", volume.name)

    def _find_own_snapshots(self, project: str) -> None:
        """Those of clones that are made, or given up, and of uploads that ended."""
        snapshots = list(self._cluster.client.list_snapshots(project, self._deadline()))
        for served_volume_id, at_work, cloned in (
            (cloned_volume_id, BEING_MADE, True),
            (uploaded_volume_id, UPLOADING, False),
        ):
            served = {each.uuid: served_volume_id(each.name) for each in snapshots}
            ended = set(_ended(filter(None, served.values()), at_work))
            self._own_snapshots += [
                OwnSnapshot(project, snapshot.uuid, snapshot.name, cloned)
                for snapshot in snapshots
                if served[snapshot.uuid] in ended
            ]

    def _remove_own_snapshot(self, own: OwnSnapshot) -> None:
        self._cluster.delete_snapshot(own.project, own.uuid, self._deadline(), cloned=own.cloned)
        LOG.info("Snapshot %s served its purpose; it is removed", own.name)


def _is_idle(volume: objects.Volume) -> bool:
    """Whether neither an instance nor Cinder itself can be using a volume."""
    return volume.status in UNUSED and volume.migration_status in NOT_MIGRATING


def _services_down(back_end: BackEnd) -> frozenset[str]:
    """Hosts of the other cinder-volume services of a cluster that do not report any more."""
    if not back_end.cluster_name:
        return frozenset()
    filters = {"cluster_name": back_end.cluster_name, "binary": constants.VOLUME_BINARY}
    services = objects.ServiceList.get_all(context.get_admin_context(), filters)
    return frozenset(service.host for service in services if not service.is_up)


def _volumes_being_made(back_end: BackEnd) -> frozenset[str]:
    """Ids of the volumes being made; not of a migration's, which Cinder may still complete."""
    volume = models.Volume
    with grants.reading() as session:
        found = session.query(volume.id).filter(
            volume.deleted.is_(False),
            volume.status.in_(BEING_MADE),
            volume.migration_status.is_(None),
            grants.of_back_end(volume, back_end.host, back_end.cluster_name),
        )
        return frozenset(volume_id for (volume_id,) in found)


def _ended(volume_ids: Iterable[str], at_work: Collection[str]) -> Iterator[str]:
    """Of these ids, those of volumes that Cinder knows and that are in none of these states.

    Cinder keeps the records of deleted volumes. An id that it does not know is another
    deployment's, on the same cluster.
    """
    volume = models.Volume
    ids = list(volume_ids)
    for start in range(0, len(ids), IDS_PER_QUERY):
        with grants.reading() as session:
            found = session.query(volume.id, volume.status, volume.deleted).filter(
                volume.id.in_(ids[start : start + IDS_PER_QUERY])
            )
            known = list(found)
        for volume_id, status, deleted in known:
            if deleted or status not in at_work:
                yield volume_id
