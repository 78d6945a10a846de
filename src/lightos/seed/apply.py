# SPDX-License-Identifier: Apache-2.0
"""Makes what a seed file asks for, through the management API, and leaves what is there already.

Run again, it makes nothing twice: objects go by project and name. What a volume can change while
it lives (size, access, policy, labels) is brought to what the file gives; where the file and an
object cannot be brought together, that is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lightos.api import models
from lightos.api.client import LightOSClient
from lightos.api.errors import LightOSError, NotFound
from lightos.api.models import SnapshotState, VolumeState
from lightos.seed.document import Seed, SeedError, SeedPolicy, SeedProject, SeedSnapshot, SeedVolume
from lightos.waiting import Deadline, DeadlineExpired, poll_until

P = ParamSpec("P")
T = TypeVar("T")

_POLL_SECONDS = (0.1, 0.25, 0.5, 1.0)


class Seeding:
    """One run of a seed against one cluster. `say` is told of each thing that was done."""

    def __init__(
        self, client: LightOSClient, seed: Seed, deadline: Deadline, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._seed = seed
        self._deadline = deadline
        self._say = say

    def run(self) -> None:
        """Raises SeedError, with the line in the file; what was made before it stays."""
        self._make_projects()
        for policy in self._seed.policies:
            self._in_line(policy.line, self._policy, policy)
        for project in self._seed.projects:
            self._in_line(project.line, self._set_default_policy, project)
        volumes, snapshots = list(self._seed.volumes), list(self._seed.snapshots)
        # A clone comes after its snapshot, and a snapshot after its volume, which may be a clone.
        while volumes or snapshots:
            waiting = {(s.request.project, s.request.name) for s in snapshots}
            ready = [
                v
                for v in volumes
                if (v.request.project, v.request.source_snapshot_name) not in waiting
            ]
            for volume in ready:
                self._in_line(volume.line, self._volume, volume)
            volumes = [v for v in volumes if v not in ready]
            missing = {(v.request.project, v.request.name) for v in volumes}
            taken = [
                s
                for s in snapshots
                if (s.request.project, s.request.source_volume_name) not in missing
            ]
            for snapshot in taken:
                self._in_line(snapshot.line, self._snapshot, snapshot)
            snapshots = [s for s in snapshots if s not in taken]
            if not ready and not taken:
                raise self._error(volumes[0].line, "volumes and snapshots here are of each other")

    def _make_projects(self) -> None:
        known = {p.name for p in self._client.list_projects(self._deadline)}
        for project in self._seed.projects:
            if project.name not in known:
                request = models.CreateProject(name=project.name, description=project.description)
                self._in_line(project.line, self._client.create_project, request, self._deadline)
                self._say(f"project {project.name} is made")

    def _set_default_policy(self, project: SeedProject) -> None:
        name = project.default_policy
        if name is None:
            return
        wanted: tuple[models.DefaultPolicy, ...] = ()
        if name:
            uuid = self._client.get_policy_by_name(name, self._deadline).uuid
            kind = models.PolicyType.QOS_RATE_LIMIT
            wanted = (models.DefaultPolicy(policy_type=kind, policy_uuid=uuid),)
        if self._client.get_project(project.name, self._deadline).default_policies != wanted:
            self._client.update_project(project.name, wanted, self._deadline)
            self._say(f"project {project.name} has the default policy {name or 'none'}")

    def _policy(self, policy: SeedPolicy) -> None:
        request = policy.request
        try:
            found = self._client.get_policy_by_name(request.name, self._deadline)
        except NotFound:
            self._client.create_policy(request, self._deadline)
            self._say(f"QoS policy {request.name} is made")
            return
        if not _same_limit(found.rate_limit, request.rate_limit):
            change = models.UpdatePolicy(
                description=request.description, rate_limit=request.rate_limit
            )
            self._client.update_policy(found.uuid, change, self._deadline)
            self._say(f"QoS policy {request.name} has other limits now")

    def _volume(self, volume: SeedVolume) -> None:
        request = volume.request
        name = f"volume {request.name} of project {request.project}"
        try:
            found = self._client.get_volume_by_name(request.project, request.name, self._deadline)
        except NotFound:
            made = self._client.create_volume(request.project, request, self._deadline)
            self._settled(volume, made.uuid)
            self._say(f"{name} is made")
            return
        found = self._settled(volume, found.uuid)
        for what, has, wants in (
            ("replicas", found.replica_count, request.replica_count),
            ("compression", found.compression, request.compression),
            ("snapshot", found.source_snapshot_name, request.source_snapshot_name),
        ):
            if what in volume.given and has != wants:
                raise self._error(volume.line, f"{name} is there with {what} {has}, not {wants}")
        if _rounded(request.size_bytes or 0) < found.size_bytes:
            raise self._error(
                volume.line,
                f"{name} is there with {found.size_bytes} bytes, more than {request.size_bytes}",
            )
        change = _difference(volume, found)
        if change is not None:
            self._client.update_volume(
                request.project, found.uuid, change, self._deadline, etag=found.etag
            )
            self._settled(volume, found.uuid)
            self._say(f"{name} is changed")

    def _snapshot(self, snapshot: SeedSnapshot) -> None:
        request = snapshot.request
        name = f"snapshot {request.name} of project {request.project}"
        try:
            found = self._client.get_snapshot_by_name(request.project, request.name, self._deadline)
        except NotFound:
            made = self._client.create_snapshot(request.project, request, self._deadline)

            def is_taken() -> models.Snapshot | None:
                found = self._client.get_snapshot(request.project, made.uuid, self._deadline)
                return found if found.state is not SnapshotState.CREATING else None

            self._wait(is_taken)
            self._say(f"{name} is taken")
            return
        if found.source_volume_name != request.source_volume_name:
            source = found.source_volume_name
            raise self._error(
                snapshot.line,
                f"{name} is there, of volume {source}, not {request.source_volume_name}",
            )

    def _settled(self, volume: SeedVolume, uuid: str) -> models.Volume:
        """The volume once it is available."""
        project = volume.request.project

        def is_settled() -> models.Volume | None:
            found = self._client.get_volume(project, uuid, self._deadline)
            return found if found.state in (VolumeState.AVAILABLE, VolumeState.FAILED) else None

        found = self._wait(is_settled)
        if found.state is VolumeState.FAILED:
            raise self._error(volume.line, f"volume {found.name} of project {project} has failed")
        return found

    def _wait(self, probe: Callable[[], T | None]) -> T:
        return poll_until(probe, deadline=self._deadline, intervals=_POLL_SECONDS)

    def _in_line(self, line: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some work; what the cluster says against it is told with the line in the file."""
        try:
            return work(*args, **kwargs)
        except (LightOSError, DeadlineExpired) as cause:
            raise self._error(line, str(cause)) from cause

    def _error(self, line: int, text: str) -> SeedError:
        return SeedError(f"{self._seed.file}:{line}: {text}")


def _difference(volume: SeedVolume, found: models.Volume) -> models.UpdateVolume | None:
    """What to change of a volume for the file to be right; None when it is."""
    request, given = volume.request, volume.given
    grown = _rounded(request.size_bytes or 0) > found.size_bytes
    acl = "acl" in given and set(request.acl) != set(found.acl)
    ip_acl = "ip_acl" in given and set(request.ip_acl) != set(found.ip_acl)
    policy = "policy" in given and request.qos_policy_name != found.qos_policy_name
    labels = "labels" in given and set(request.labels) != set(found.labels)
    if not (grown or acl or ip_acl or policy or labels):
        return None
    return models.UpdateVolume(
        size_bytes=request.size_bytes if grown else None,
        acl=request.acl if acl else None,
        ip_acl=request.ip_acl if ip_acl else None,
        qos_policy_name=request.qos_policy_name if policy else None,
        labels=request.labels if labels else (),
    )


def _rounded(size_bytes: int) -> int:
    step = models.SIZE_GRANULARITY_BYTES
    return -(-size_bytes // step) * step


def _same_limit(has: models.RateLimit | None, wants: models.RateLimit | None) -> bool:
    """Whether limits and projects are the same, IOPS rounded up as clusters do."""
    if has is None or wants is None:
        return has is wants
    return (
        _kept(has.limit) == _kept(wants.limit)
        and has.visibility is wants.visibility
        and set(has.projects) == set(wants.projects)
    )


def _kept(limit: object) -> object:
    match limit:
        case models.IopsLimit(read_iops=read, write_iops=write):
            step = models.IOPS_LIMIT_GRANULARITY
            return -(-read // step), -(-write // step)
    return limit
