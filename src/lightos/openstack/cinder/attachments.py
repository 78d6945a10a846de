# SPDX-License-Identifier: Apache-2.0
"""Attach and detach: which hosts have access to a volume, exactly while an attachment needs it.

What keeps concurrent operations apart, in this driver, over all cinder-volume processes of a
deployment:

===========================  ====================================  ================================
what                         protects                              why
===========================  ====================================  ================================
lightos-access-<volume>      the notes and the access lists of     attachments of one host share
(Cinder coordination)        one volume, with the decision who     its access, hosts may share an
                             still needs access                    address; each decision must see
                                                                   the one before
lightos-snapshot-<volume>    the taking of snapshots of a volume   the cluster refuses a second one
(Cinder coordination)                                              at the same moment
lightos-qos-policy-<name>    the making and removing of one QoS    two would be made of one name, or
(Cinder coordination)        policy that the driver keeps          one removed that is just found
ETag of the volume           the access lists, and every other     the operator and holders of other
(on the cluster)             change of a volume                    locks write too
note in Cinder's database    access that was given and is not      Cinder records an attachment's
(see `grants`)               recorded yet, past the process's end  host only after we return
lightos-housekeeping thread  one look for leftovers at a time, in  two would do everything twice;
(one lock in the process)    one process                           between processes that is safe
===========================  ====================================  ================================

Locks are taken in no order, for none is taken inside another. Two machines with one host NQN need
no lock: each notes its access first and looks for the other's note then, so one of them sees it,
whether or not Cinder has recorded the other's attachment meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cinder import coordination, exception

from lightos.api.errors import LightOSError, NotFound, WrongState
from lightos.api.models.volumes import UpdateVolume, Volume, VolumeState
from lightos.openstack.cinder import acl, grants, locks
from lightos.openstack.cinder.cluster import CLEANUP_SECONDS, ClusterOperations
from lightos.openstack.cinder.connection import (
    Connector,
    attaching_host,
    host_of,
    is_same_machine,
    same_nqn_on_two_machines,
)
from lightos.openstack.cinder.grants import Attachment, Grant
from lightos.openstack.cinder.naming import ProviderId
from lightos.waiting import Deadline

LOG = logging.getLogger(__name__)

ACCESS_LOCK_PREFIX = "lightos-access-"
_locked = locks.synchronized(ACCESS_LOCK_PREFIX + "{volume.id}")
"""For methods with a Target named `volume`."""

CHECK_HOLDS_SECONDS = 10.0
"""How long it counts that no attachment forbids a machine to attach: Cinder attaches at once after
it has asked, and whatever other machine was given access since then has left a note."""

GIVEN_UP_SECONDS = 300.0
"""When an attach is looked at that no attachment shows: longer than Cinder's API waits for the
answer, and than its database may take to record it."""

COPYING = frozenset({"uploading", "downloading", "backing-up", "restoring-backup", "retyping"})
"""States of a volume that Cinder itself may have attached, which no attachment shows."""


@dataclass(frozen=True)
class Rules:
    """What the operator configured: addresses filtered or not, and the data networks."""

    filter_addresses: bool
    networks: Sequence[acl.Network] = ()


@dataclass(frozen=True)
class Target:
    """A volume of Cinder, and how to find it on the cluster (NotFound when it is not there).

    `is_idle`: nobody of Cinder can be copying it, and no instance has it. `is_migrating`: Cinder
    may be copying it in whatever state it is.
    """

    id: str
    status: str
    locate: Callable[[Deadline], ProviderId]
    is_idle: bool = False
    is_migrating: bool = False


@dataclass(frozen=True)
class _Kept:
    """Access to look at again, not before `until`; `grant` as in `look_again`."""

    grant: Grant | None
    until: Deadline


class Attachments:
    """Gives hosts access to volumes and takes it away. Thread-safe.

    `deadline` makes that of one operation, which begins when the operation has its lock: others
    of the same volume, each with its own time, come before it.
    """

    def __init__(
        self, cluster: ClusterOperations, rules: Rules, deadline: Callable[[], Deadline]
    ) -> None:
        self._cluster = cluster
        self._rules = rules
        self._deadline = deadline
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._known_hosts: dict[str, Attachment] = {}
        self._checked: dict[str, tuple[Connector, Deadline]] = {}
        self._guard = threading.Lock()

    # --- who may attach ------------------------------------------------------------------------

    def check(self, connector: Connector) -> acl.Host:
        """The host that asks to attach. InvalidConnectorException says why it may not."""
        host = self._attaching(connector)
        with grants.reading() as session:
            self._refuse_second_machine(session, connector, host.nqn)
        self._checked[host.nqn] = connector, Deadline(CHECK_HOLDS_SECONDS)
        return host

    def _attaching(self, connector: Connector) -> acl.Host:
        return attaching_host(
            connector,
            needs_address=self._rules.filter_addresses,
            networks=self._rules.networks,
        )

    def _refuse_second_machine(self, session: Any, connector: Connector, nqn: str) -> None:
        """Refuse a host whose NQN another machine is attached with, to whatever volume.

        While an attachment of this very machine is there, no other one was let in; so one that
        was seen before and is still there spares the search.
        """
        known = self._known_hosts.get(nqn)
        if (
            known
            and is_same_machine(connector, known.connector or {})
            and grants.is_live(session, known.id, nqn)
        ):
            return
        self._known_hosts.pop(nqn, None)
        if self._was_checked(connector, nqn):
            return
        # One without discovery client is no LightOS host: it cannot reach the cluster.
        attached = [
            attachment
            for attachment in grants.one_per_host_with(session, nqn)
            if (attachment.connector or {}).get("found_dsc")
        ]
        for attachment in attached:
            if not is_same_machine(connector, attachment.connector or {}):
                raise same_nqn_on_two_machines(connector, attachment.connector or {})
        if attached:
            self._known_hosts[nqn] = attached[0]

    def _was_checked(self, connector: Connector, nqn: str) -> bool:
        """Whether the search was made for this machine just now; it counts once."""
        latest = self._checked.pop(nqn, None)
        if latest is None:
            return False
        checked, deadline = latest
        return not deadline.expired and is_same_machine(connector, checked)

    def _refuse_noted_machine(self, connector: Connector, nqn: str) -> None:
        """Refuse a host whose NQN another machine was given access with.

        To be called when this one's own access is noted: of two, the later one sees the other.
        """
        if nqn in self._known_hosts:
            return
        for grant in grants.grants_with(nqn):
            if any(grant.machine) and not is_same_machine(connector, grant.connector):
                raise same_nqn_on_two_machines(connector, grant.connector)

    # --- attach --------------------------------------------------------------------------------

    @_locked
    def admit(
        self,
        volume: Target,
        connector: Connector,
        data_addresses: tuple[str, ...],
    ) -> ProviderId:
        """Give a host access to a volume, beside those that have it; returns where it is.

        InvalidConnectorException as `check` raises it.
        """
        host = self._attaching(connector)
        with grants.reading() as session:
            self._refuse_second_machine(session, connector, host.nqn)
            attachments, noted = grants.access_of(session, volume.id)
        deadline = self._deadline()
        where = volume.locate(deadline)
        before = noted.get(host.nqn)
        neighbours = _hosts_of(attachments, noted)
        now = Grant.now(attachments, host, connector, before)
        grants.note(volume.id, host.nqn, now, in_place_of=before)
        had_access: list[bool] = []

        def admit(access: acl.Access) -> acl.Access:
            had_access.append(host.nqn in access.hosts)
            return acl.admit(
                access,
                host,
                neighbours=neighbours,
                filter_addresses=self._rules.filter_addresses,
                data_addresses=data_addresses,
                networks=self._rules.networks,
            )

        try:
            self._refuse_noted_machine(connector, host.nqn)
            self._change(where, admit, deadline)
        except (acl.NoRoom, exception.InvalidConnectorException):
            _restore(volume.id, host.nqn, now, before)
            raise
        except LightOSError:
            if not had_access or had_access[0]:
                _restore(volume.id, host.nqn, now, before)
            else:
                self._take_back(volume.id, where, host, neighbours)
            raise
        if now.for_attachment:
            # Whoever asked may have given up meanwhile and deleted the attachment, of which we
            # hear nothing while it shows no host.
            self.look_again(volume.id, host.nqn, None, in_seconds=GIVEN_UP_SECONDS)
        return where

    def _take_back(
        self,
        volume_id: str,
        where: ProviderId,
        host: acl.Host,
        neighbours: Iterable[acl.Host],
    ) -> None:
        """Take the access of a failed attach back; later, when that fails too."""
        deadline = self._cluster.client.deadline(CLEANUP_SECONDS)
        try:
            self._revoke(volume_id, lambda _: where, self._without(host, neighbours), deadline)
        except LightOSError as error:
            LOG.error(
                "Host %s may still have access to volume %s after a failed attach; this is looked "
                "at again: %s",
                host.nqn,
                volume_id,
                error,
            )
            self.look_again(volume_id, host.nqn, grants.grants_of(volume_id).get(host.nqn))
        else:
            grants.forget(volume_id, host.nqn)

    # --- detach --------------------------------------------------------------------------------

    @_locked
    def dismiss(self, volume: Target, connector: Connector, host: acl.Host) -> bool:
        """End one use of a volume on a host; returns whether the host keeps its access.

        Cinder passes the connector as it recorded it for the attachment. One that no attachment
        has is Cinder's own, to copy data on a host that may run instances with the volume.
        """
        with grants.reading() as session:
            attachments, noted = grants.access_of(session, volume.id)
        grant = noted.get(host.nqn)
        others = without_one_of(attachments, connector)
        in_doubt = is_in_doubt(
            grant,
            attachments,
            host.nqn,
            is_copying=volume.status in COPYING and len(others) < len(attachments),
        )
        if in_doubt or needs_access(others, host.nqn):
            LOG.info("Host %s keeps its access to volume %s", host.nqn, volume.id)
            if grant is None:  # given by an older driver
                given = Grant.now(attachments, host, connector)
                as_noted = replace(given, for_attachment=True)
                grants.note(volume.id, host.nqn, as_noted, in_place_of=None)
            # Of two detaches at once, each may see the other's attachment still there.
            self.look_again(volume.id, host.nqn, None)
            return True
        change = self._without(host, _hosts_of(others, noted))
        self._revoke(volume.id, volume.locate, change, self._deadline())
        grants.forget(volume.id, host.nqn)
        return False

    @_locked
    def dismiss_all(self, volume: Target) -> None:
        """Take every host's access away."""
        closed = acl.closed(filter_addresses=self._rules.filter_addresses)
        with grants.reading() as session:
            attachments, _noted = grants.access_of(session, volume.id)
        attached = {attachment.host_nqn for attachment in attachments} - {""}
        if len(attached) > 1:
            hosts = ", ".join(sorted(attached))
            LOG.warning("A forced detach takes volume %s from all its hosts: %s", volume.id, hosts)
        self._revoke(volume.id, volume.locate, lambda _access: closed, self._deadline())
        grants.forget_all(volume.id)

    # --- what was left -------------------------------------------------------------------------

    def take_kept(self) -> dict[tuple[str, str], Grant | None]:
        """Access to look at again, (volume id, host NQN) -> note; it is the caller's to do now.

        What attachments show by now, as nearly all that was just given, is not among it.
        """
        with self._guard:
            due = {pair: kept for pair, kept in self._kept.items() if kept.until.expired}
            for pair in due:
                del self._kept[pair]
        try:
            return {pair: due[pair].grant for pair in grants.unrecorded(list(due))}
        except Exception:  # as when the database is away: they stay to be looked at
            with self._guard:
                self._kept = due | self._kept
            raise

    def look_again(
        self, volume_id: str, host_nqn: str, grant: Grant | None, *, in_seconds: float = 0.0
    ) -> None:
        """Have `take_kept` tell of an access; `grant` is the note as an earlier look saw it."""
        with self._guard:
            self._kept[volume_id, host_nqn] = _Kept(grant, Deadline(in_seconds))

    @_locked
    def settle(self, volume: Target, host_nqn: str, seen: Grant | None) -> None:
        """Take access away that the driver gave and that no attachment needs.

        `seen` is the note at an earlier look: one that is still the same is of an attach that
        came to nothing.
        """
        with grants.reading() as session:
            attachments, noted = grants.access_of(session, volume.id)
        grant = noted.get(host_nqn)
        if grant is None or needs_access(attachments, host_nqn):
            return
        if not is_abandoned(
            grant,
            attachments,
            seen,
            is_copying=volume.status in COPYING or volume.is_migrating,
            is_idle=volume.is_idle,
        ):
            self.look_again(volume.id, host_nqn, grant)
            return
        host = acl.Host(host_nqn, grant.addresses)
        change = self._without(host, _hosts_of(attachments, noted))
        self._revoke(volume.id, volume.locate, change, self._deadline())
        grants.forget(volume.id, host_nqn)
        LOG.info(
            "Access of host %s to volume %s was left by an attach or detach that did not end; "
            "it is taken away",
            host_nqn,
            volume.id,
        )

    # --- the access lists ----------------------------------------------------------------------

    def _without(
        self, host: acl.Host, neighbours: Iterable[acl.Host]
    ) -> Callable[[acl.Access], acl.Access]:
        neighbours = tuple(neighbours)

        def dismiss(access: acl.Access) -> acl.Access:
            return acl.dismiss(
                access,
                host,
                neighbours=neighbours,
                filter_addresses=self._rules.filter_addresses,
            )

        return dismiss

    def _revoke(
        self,
        volume_id: str,
        locate: Callable[[Deadline], ProviderId],
        change: Callable[[acl.Access], acl.Access],
        deadline: Deadline,
    ) -> None:
        try:
            where = locate(deadline)
            try:
                self._change(where, change, deadline)
            except WrongState:
                # A Failed volume holds no data, and the cluster changes nothing of it any more.
                found = self._cluster.client.get_volume(where.project, where.uuid, deadline)
                if found.state is not VolumeState.FAILED:
                    raise
                LOG.warning("Volume %s is Failed on the cluster: nobody can use it", volume_id)
        except NotFound:
            LOG.info("Volume %s does not exist on the cluster: nobody has access", volume_id)

    def _change(
        self, where: ProviderId, change: Callable[[acl.Access], acl.Access], deadline: Deadline
    ) -> None:
        """Apply `change` to the access lists and see that the cluster has them so."""

        def compute(current: Volume) -> UpdateVolume | None:
            # A list that the cluster leaves out is in its default state.
            before = acl.Access(current.acl or acl.NOBODY, current.ip_acl or acl.ANYONE)
            after = change(before)
            if after == before:
                return None
            return UpdateVolume(acl=after.hosts, ip_acl=after.addresses)

        self._cluster.update_volume(where.project, where.uuid, compute, deadline)


def remove_lock_files(volume_id: str) -> None:
    """Remove what file locks left for a volume that is gone."""
    coordination.synchronized_remove(f"{ACCESS_LOCK_PREFIX}{volume_id}")


def needs_access(attachments: Iterable[Attachment], host_nqn: str) -> bool:
    """Whether an attachment is on the host."""
    return any(attachment.host_nqn == host_nqn for attachment in attachments)


def without_one_of(
    attachments: Iterable[Attachment], connector: Connector
) -> tuple[Attachment, ...]:
    """The attachments but one that has this connector; all of them when none has it."""
    left = list(attachments)
    for attachment in left:
        if attachment.connector == connector:
            left.remove(attachment)
            break
    return tuple(left)


def is_in_doubt(
    grant: Grant | None,
    attachments: Iterable[Attachment],
    host_nqn: str,
    *,
    is_copying: bool,
) -> bool:
    """Whether a host may need access for what the attachments do not show, or not yet.

    So it is when access was given and no attachment has shown on the host since, while one
    waits for its host to be recorded or Cinder itself has the volume attached to copy it.
    """
    attachments = tuple(attachments)
    if grant is None or grant.is_recorded(attachments, host_nqn):
        return False
    waiting = any(attachment.connector is None for attachment in attachments)
    return waiting if grant.for_attachment else is_copying


def is_abandoned(
    grant: Grant,
    attachments: Iterable[Attachment],
    seen: Grant | None,
    *,
    is_copying: bool,
    is_idle: bool,
) -> bool:
    """Whether nobody will ever record the attachment that access was given for.

    Recording it takes milliseconds, and looks are ten seconds apart or more. A grant for no
    attachment belongs to Cinder itself or to a client that recorded nothing: it may be there yet
    unless the volume is idle, and was at the look before.
    """
    attachments = tuple(attachments)
    if not grant.for_attachment:
        return is_idle and not attachments and grant == seen
    if is_copying:
        return False
    if any(a.connector is None and a.is_attached for a in attachments):
        return False  # attached by the calls that record no host
    waiting = any(a.connector is None for a in attachments)
    return not waiting or grant == seen


def _hosts_of(
    attachments: Iterable[Attachment], noted: Mapping[str, Grant]
) -> tuple[acl.Host, ...]:
    """The hosts that attachments show, then those that only notes do, so far."""
    recorded = [host for a in attachments if (host := host_of(a.connector))]
    known = {host.nqn for host in recorded}
    only_noted = (acl.Host(nqn, g.addresses) for nqn, g in noted.items() if nqn not in known)
    return (*recorded, *only_noted)


def _restore(volume_id: str, host_nqn: str, now: Grant, before: Grant | None) -> None:
    if before is None:
        grants.forget(volume_id, host_nqn)
    else:
        grants.note(volume_id, host_nqn, before, in_place_of=now)
