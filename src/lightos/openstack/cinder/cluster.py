# SPDX-License-Identifier: Apache-2.0
"""Operations that are over when the cluster shows their result.

The management API only accepts changes; here each one is followed until the object shows it.
A wait names the states it accepts and those it keeps waiting on, and every other state ends it.
Not to get an answer is no evidence of anything: it is waited out, up to the deadline.

Methods raise the errors of `lightos.api`: WrongState when the object ended in a state that
rules the change out, TimedOut when the change does not show in time, and those of the client.
A create that fails leaves nothing behind that the cluster would let us delete.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TypeVar

from lightos.api.client import LightOSClient
from lightos.api.errors import (
    AlreadyExists,
    Busy,
    LightOSError,
    NotFound,
    Refused,
    ServerFault,
    StaleEtag,
    TimedOut,
    Unreachable,
    WrongState,
)
from lightos.api.models.policies import CreatePolicy, Policy, PolicyState
from lightos.api.models.snapshots import CreateSnapshot, Snapshot, SnapshotState
from lightos.api.models.volumes import CreateVolume, UpdateVolume, Volume, VolumeState
from lightos.openstack.cinder.pace import Pace
from lightos.openstack.cinder.under_way import UnderWay
from lightos.waiting import Deadline, DeadlineExpired, backoff, poll_until

LOG = logging.getLogger(__name__)

CLEANUP_SECONDS = 15.0
"""Time for removing what a failed operation left, after the operation's own deadline."""

# Migrating is internal to the cluster and as good as Available; Unknown stands for a state that
# this version of the API does not name, so it rules nothing out.
VOLUME_AT_REST = frozenset({VolumeState.AVAILABLE, VolumeState.MIGRATING})
VOLUME_IN_TRANSIT = frozenset(
    {VolumeState.UNKNOWN, VolumeState.CREATING, VolumeState.UPDATING, VolumeState.ROLLBACK}
)
SNAPSHOT_IN_TRANSIT = frozenset({SnapshotState.UNKNOWN, SnapshotState.CREATING})
POLICY_IN_TRANSIT = frozenset({PolicyState.UNKNOWN, PolicyState.CREATING, PolicyState.UPDATING})

NO_EVIDENCE = (Busy, ServerFault, TimedOut, Unreachable)
"""Failed reads that say nothing about the object."""

SNAPSHOT_REFUSALS = (Busy, ServerFault, WrongState)
"""How clusters answer who takes or deletes a snapshot at a bad moment: 503, 500 and 400."""

Asked = TypeVar("Asked")
Seen = TypeVar("Seen", Volume, Snapshot, Policy, Volume | None, Snapshot | None)


class ClusterOperations:
    """Changes of volumes and snapshots, each confirmed. Thread-safe."""

    def __init__(
        self,
        client: LightOSClient,
        *,
        snapshot_attempts: int,
        on_wait: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        """`on_wait` is told of each wait: operation, outcome, seconds."""
        self.client = client
        self._on_wait = on_wait
        self._snapshot_attempts = snapshot_attempts
        self._pace = Pace()
        self.waits = UnderWay()

    # --- volumes -------------------------------------------------------------------------------

    def create_volume(self, project: str, request: CreateVolume, deadline: Deadline) -> Volume:
        """Make a volume; returns it Available.

        A volume of this name that is exactly what is asked for was left by an interrupted
        attempt of the same request, because names come from Cinder's ids: it is taken over.
        AlreadyExists for any other.
        """
        try:
            volume = self.client.create_volume(project, request, deadline)
        except AlreadyExists:
            volume = self.client.get_volume_by_name(project, request.name, deadline)
            if not _could_be_made_by(volume, request):
                raise
            LOG.info("Volume %s of project %s exists already", request.name, project)
        except (ServerFault, TimedOut):
            # It may have been made all the same, and Cinder may make it elsewhere next.
            self._discard(
                f"volume {request.name} of project {project}",
                lambda allowed: self._delete_volume_made_by(project, request, allowed),
            )
            raise
        if _volume_is_ready(volume):
            return volume
        try:
            return self._confirm(
                "CreateVolume",
                f"volume {request.name} of project {project}",
                lambda: self.client.get_volume(project, volume.uuid, deadline),
                _volume_is_ready,
                deadline,
            )
        except LightOSError:
            self._discard(
                f"volume {request.name} ({volume.uuid}) of project {project}",
                lambda allowed: self.client.delete_volume(project, volume.uuid, allowed),
            )
            raise

    def _delete_volume_made_by(
        self, project: str, request: CreateVolume, deadline: Deadline
    ) -> None:
        volume = self.client.get_volume_by_name(project, request.name, deadline)
        if _could_be_made_by(volume, request):
            self.client.delete_volume(project, volume.uuid, deadline)

    def update_volume(
        self,
        project: str,
        uuid: str,
        compute: Callable[[Volume], UpdateVolume | None],
        deadline: Deadline,
    ) -> Volume:
        """Read, compute, write with ETag, confirm. Returns the volume that shows the change.

        `compute` gets the volume as it is and returns what to change, None when nothing is
        left to change. It is asked again after every write, others' writes included, so it
        must be pure; what it raises ends the update.
        """
        target = f"volume {uuid} of project {project}"

        def read() -> Volume:
            return self.client.get_volume(project, uuid, deadline)

        volume = self._settled("UpdateVolume", target, read, deadline)
        while (request := compute(volume)) is not None:
            before = volume.etag
            try:
                self.client.update_volume(project, uuid, request, deadline, etag=before)
            except StaleEtag:
                volume = self._settled("UpdateVolume", target, read, deadline)
                if volume.etag == before:
                    # The ETag was right: it is the volume that does not allow this change.
                    raise
                continue

            def shows_a_write(seen: Volume, before: str = before) -> bool:
                # Ours, or another writer's over it; the loop tells them apart.
                return _volume_is_ready(seen) and (seen.etag != before or compute(seen) is None)

            volume = self._confirm("UpdateVolume", target, read, shows_a_write, deadline)
        return volume

    def roll_back_volume(
        self,
        project: str,
        uuid: str,
        snapshot_uuid: str,
        check: Callable[[Volume], None],
        deadline: Deadline,
    ) -> Volume:
        """Set a volume's content back to a snapshot of it; returns the volume, at rest again.

        `check` gets the volume before anything is done; what it raises ends the operation. That
        it was done shows in state Rollback or in a new ETag, and in the rest after it. A request
        whose reply was lost may be made twice, which is the same as once: nobody writes between.
        """
        target = f"volume {uuid} of project {project}"

        def read() -> Volume:
            return self.client.get_volume(project, uuid, deadline)

        before = self._settled("RollbackVolume", target, read, deadline)
        check(before)
        self.client.rollback_volume(project, uuid, snapshot_uuid, deadline)
        has_begun = False

        def is_rolled_back(seen: Volume) -> bool:
            nonlocal has_begun
            has_begun |= seen.state is VolumeState.ROLLBACK or seen.etag != before.etag
            return _volume_is_ready(seen) and has_begun

        return self._confirm("RollbackVolume", target, read, is_rolled_back, deadline)

    def _settled(
        self, operation: str, target: str, read: Callable[[], Volume], deadline: Deadline
    ) -> Volume:
        """The volume at rest. Someone else's change may be under way, since when is not known."""
        volume = read()
        if _volume_is_ready(volume):
            return volume
        return self._confirm(operation, target, read, _volume_is_ready, deadline, kind="Settle")

    def delete_volume(self, project: str, uuid: str, deadline: Deadline) -> None:
        """Delete a volume; returns when the cluster says that it does not exist."""
        target = f"volume {uuid} of project {project}"

        def read() -> Volume | None:
            return _if_found(lambda: self.client.get_volume(project, uuid, deadline))

        try:
            self.client.delete_volume(project, uuid, deadline)
        except NotFound:
            return
        except Refused:
            volume = read()
            if volume is None or _is_final_failure(volume.state, target):
                return
            if volume.state is not VolumeState.DELETING:
                raise
        self._confirm("DeleteVolume", target, read, lambda volume: volume is None, deadline)

    # --- snapshots -----------------------------------------------------------------------------

    def create_snapshot(
        self, project: str, request: CreateSnapshot, deadline: Deadline
    ) -> Snapshot:
        """Take a snapshot; returns it Available.

        A cluster that cannot take it at this moment is asked again, `snapshot_attempts` times
        in all. One of this name and source is taken over, as in `create_volume`.
        """
        snapshot = self._at_a_good_moment(
            lambda: self._ask_for_snapshot(project, request, deadline), deadline
        )
        if _snapshot_is_ready(snapshot):
            return snapshot
        try:
            return self._confirm(
                "CreateSnapshot",
                f"snapshot {request.name} of project {project}",
                lambda: self.client.get_snapshot(project, snapshot.uuid, deadline),
                _snapshot_is_ready,
                deadline,
            )
        except LightOSError:
            self._discard(
                f"snapshot {request.name} ({snapshot.uuid}) of project {project}",
                lambda allowed: self.client.delete_snapshot(project, snapshot.uuid, allowed),
            )
            raise

    def _ask_for_snapshot(
        self, project: str, request: CreateSnapshot, deadline: Deadline
    ) -> Snapshot:
        try:
            return self.client.create_snapshot(project, request, deadline)
        except AlreadyExists:
            snapshot = self.client.get_snapshot_by_name(project, request.name, deadline)
            if snapshot.source_volume_uuid != request.source_volume_uuid:
                raise
            LOG.info("Snapshot %s of project %s exists already", request.name, project)
            return snapshot

    def delete_snapshot(
        self, project: str, uuid: str, deadline: Deadline, *, cloned: bool = False
    ) -> None:
        """Delete a snapshot; returns when the cluster says that it does not exist.

        A cluster that cannot do it at this moment is asked again, as in `create_snapshot`.
        The cluster keeps one with clones in Deleting until they are gone, out of lists and
        with its name free: that is then the end of it. `cloned` says that the caller knows of
        a clone; otherwise the cluster is asked.
        """
        target = f"snapshot {uuid} of project {project}"

        def read() -> Snapshot | None:
            return _if_found(lambda: self.client.get_snapshot(project, uuid, deadline))

        @functools.cache
        def has_clones() -> bool:
            clones = self.client.list_volumes(project, deadline, snapshot_uuid=uuid)
            return cloned or next(clones, None) is not None

        def is_over(snapshot: Snapshot | None) -> bool:
            if snapshot is None:
                return True
            return snapshot.state is SnapshotState.DELETING and has_clones()

        def is_gone_at_once() -> bool:
            try:
                self.client.delete_snapshot(project, uuid, deadline)
            except NotFound:
                return True
            except (Refused, ServerFault):
                snapshot = read()
                if snapshot is None or _is_final_failure(snapshot.state, target):
                    return True
                if snapshot.state is not SnapshotState.DELETING:
                    raise
            return False

        if self._at_a_good_moment(is_gone_at_once, deadline):
            return
        kind = "DeleteClonedSnapshot" if cloned else "DeleteSnapshot"
        self._confirm("DeleteSnapshot", target, read, is_over, deadline, kind=kind)

    def _at_a_good_moment(self, ask: Callable[[], Asked], deadline: Deadline) -> Asked:
        """Ask for something about snapshots, `snapshot_attempts` times in all where need be."""
        pauses = backoff(0.5, ceiling=8.0)
        for attempts_left in reversed(range(self._snapshot_attempts)):
            try:
                return ask()
            except SNAPSHOT_REFUSALS as refusal:
                if not attempts_left or deadline.expired:
                    raise
                LOG.info("Asking again: %s", refusal)
                deadline.sleep(next(pauses))
        raise AssertionError("unreachable: the last attempt returns or raises")

    # --- QoS policies --------------------------------------------------------------------------

    def create_policy(self, request: CreatePolicy, deadline: Deadline) -> Policy:
        """Make a QoS policy; returns it Active."""
        policy = self.client.create_policy(request, deadline)
        if _policy_is_ready(policy):
            return policy
        return self._confirm(
            "CreatePolicy",
            f"QoS policy {request.name}",
            lambda: self.client.get_policy(policy.uuid, deadline),
            _policy_is_ready,
            deadline,
        )

    # --- waiting -------------------------------------------------------------------------------

    def _confirm(
        self,
        operation: str,
        target: str,
        read: Callable[[], Seen],
        is_over: Callable[[Seen], bool],
        deadline: Deadline,
        *,
        kind: str = "",
    ) -> Seen:
        """Read until `is_over`, and return what it was over with.

        `is_over` says False for what may still come to pass and raises for what rules it out.
        `kind` tells apart changes of different duration; the operation does otherwise.
        """
        kind = kind or operation
        allowed = deadline.remaining()
        looks, looked_after, look_seconds = 0, 0.0, 0.0
        last = "the cluster did not answer"

        def look() -> tuple[Seen] | None:
            nonlocal looks, looked_after, look_seconds, last
            looks += 1
            looked_after = allowed - deadline.remaining()
            try:
                seen = read()
                look_seconds = allowed - deadline.remaining() - looked_after
                if is_over(seen):
                    return (seen,)
            except NO_EVIDENCE as error:
                last = error.reason
                return None
            last = f"it is {seen.state.wire_name}" if seen is not None else "it does not exist"
            return None

        pauses = self._pace.intervals(kind, look_seconds=lambda: look_seconds)
        expected = next(pauses)
        outcome = "failed"
        wait = self.waits.begin(f"{operation} of {target}")
        try:
            # Whatever was learned, most of the time allowed is for looking.
            deadline.sleep(min(expected, allowed / 4))
            (seen,) = poll_until(look, deadline=deadline, intervals=pauses)
            outcome = "done"
        except DeadlineExpired:
            outcome = "timed out"
            reason = f"accepted, but not done after {deadline.seconds:g} s; last seen: {last}"
            raise TimedOut(operation, target, reason) from None
        finally:
            self.waits.end(wait)
            self._on_wait(operation, outcome, allowed - deadline.remaining())
        self._pace.learn(kind, expected=expected, looks=looks, seconds=looked_after)
        return seen

    def _discard(self, target: str, delete: Callable[[Deadline], None]) -> None:
        """Delete what a failed create left; it is never to be used, so nobody waits for it."""
        try:
            delete(self.client.deadline(CLEANUP_SECONDS))
        except NotFound:
            return
        except LightOSError as error:
            LOG.error("Could not remove %s, which failed to be created: %s", target, error)


def _volume_is_ready(volume: Volume) -> bool:
    """True when it is at rest, False while it may come to rest, WrongState when it never will."""
    if volume.state in VOLUME_AT_REST:
        return True
    if volume.state in VOLUME_IN_TRANSIT:
        return False
    reason = f"the volume is {volume.state.wire_name}"
    raise WrongState("GetVolume", f"volume {volume.name} of project {volume.project}", reason)


def _snapshot_is_ready(snapshot: Snapshot) -> bool:
    """As `_volume_is_ready`."""
    if snapshot.state is SnapshotState.AVAILABLE:
        return True
    if snapshot.state in SNAPSHOT_IN_TRANSIT:
        return False
    target = f"snapshot {snapshot.name} of project {snapshot.project}"
    raise WrongState("GetSnapshot", target, f"the snapshot is {snapshot.state.wire_name}")


def _policy_is_ready(policy: Policy) -> bool:
    """As `_volume_is_ready`."""
    if policy.state is PolicyState.ACTIVE:
        return True
    if policy.state in POLICY_IN_TRANSIT:
        return False
    reason = f"the policy is {policy.state.wire_name}"
    raise WrongState("GetPolicy", f"QoS policy {policy.name}", reason)


def _is_final_failure(state: VolumeState | SnapshotState, target: str) -> bool:
    """Whether a refused delete is all there is to do.

    A Failed object holds no data, its name is free, and the cluster refuses to delete it.
    """
    if state not in (VolumeState.FAILED, SnapshotState.FAILED):
        return False
    LOG.warning("The %s is Failed: the cluster keeps the record and drops it by itself", target)
    return True


def _could_be_made_by(volume: Volume, request: CreateVolume) -> bool:
    return (
        volume.state in (VolumeState.CREATING, VolumeState.AVAILABLE)
        and volume.size_bytes == request.size_bytes
        and volume.source_snapshot_uuid == request.source_snapshot_uuid
        and volume.replica_count == request.replica_count
        and volume.compression == request.compression
        and volume.acl == request.acl
        and request.qos_policy_uuid in ("", volume.qos_policy_uuid)
        and request.qos_policy_name in ("", volume.qos_policy_name)
    )


def _if_found(read: Callable[[], Seen]) -> Seen | None:
    try:
        return read()
    except NotFound:
        return None
