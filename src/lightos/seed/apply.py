# SPDX-License-Identifier: Apache-2.0
"""Makes what a seed file asks for, through the management API, and leaves what is there already.

Run again, it makes nothing twice: objects go by project and name. Where changes are allowed, what
a volume can change while it lives (size, access, policy, labels), the limits of a policy and the
default policy of a project are brought to what the file gives; else such a difference is an error.
Where the file and an object cannot be brought together, that is an error in any case.
Descriptions of what exists are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ParamSpec, TypeVar

from lightos.api.client import LightOSClient
from lightos.api.errors import LightOSError, NotFound
from lightos.api.models.policies import IOPS_LIMIT_GRANULARITY, IopsLimit, RateLimit, UpdatePolicy
from lightos.api.models.projects import CreateProject, DefaultPolicy, PolicyType
from lightos.api.models.snapshots import Snapshot, SnapshotState
from lightos.api.models.values import Label, rounded_up
from lightos.api.models.volumes import (
    SIZE_GRANULARITY_BYTES,
    CreateVolume,
    UpdateVolume,
    Volume,
    VolumeState,
)
from lightos.seed.document import Seed, SeedError, SeedPolicy, SeedProject, SeedSnapshot, SeedVolume
from lightos.waiting import Deadline, DeadlineExpired, poll_until

P = ParamSpec("P")
T = TypeVar("T")

_GONE_VOLUME = (VolumeState.FAILED, VolumeState.DELETING, VolumeState.DELETED)
_GONE_SNAPSHOT = (SnapshotState.FAILED, SnapshotState.DELETING, SnapshotState.DELETED)
_POLL_SECONDS = (0.1, 0.25, 0.5, 1.0)


class Seeding:
    """One run of a seed against one cluster. `say` is told of each thing that was done.

    With `change`, objects that exist are brought to what the file gives.
    """

    def __init__(
        self,
        client: LightOSClient,
        seed: Seed,
        deadline: Deadline,
        say: Callable[[str], None],
        *,
        change: bool,
    ) -> None:
        self._client = client
        self._seed = seed
        self._deadline = deadline
        self._say = say
        self._change = change
        self._new_projects: set[str] = set()

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
                request = CreateProject(name=project.name, description=project.description)
                self._in_line(project.line, self._client.create_project, request, self._deadline)
                self._new_projects.add(project.name)
                self._say(f"project {project.name} is made")

    def _set_default_policy(self, project: SeedProject) -> None:
        name = project.default_policy
        if name is None:
            return
        wanted: tuple[DefaultPolicy, ...] = ()
        if name:
            uuid = self._client.get_policy_by_name(name, self._deadline).uuid
            kind = PolicyType.QOS_RATE_LIMIT
            wanted = (DefaultPolicy(policy_type=kind, policy_uuid=uuid),)
        if self._client.get_project(project.name, self._deadline).default_policies != wanted:
            if project.name not in self._new_projects:
                self._allow(
                    project.line,
                    f"project {project.name}",
                    f"its default policy is not {name or 'none'}",
                )
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
            self._allow(
                policy.line, f"QoS policy {request.name}", "its limits or projects are others"
            )
            change = UpdatePolicy(description=request.description, rate_limit=request.rate_limit)
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
            ("sector_size", found.sector_size_bytes, int(request.sector_size)),
            ("snapshot", found.source_snapshot_name, request.source_snapshot_name),
        ):
            if what in volume.given and has != wants:
                raise self._error(volume.line, f"{name} is there with {what} {has}, not {wants}")
        if _rounded(request.size_bytes or 0) < found.size_bytes:
            raise self._error(
                volume.line,
                f"{name} is there with {found.size_bytes} bytes, more than {request.size_bytes}",
            )
        back_to_default = "policy" in volume.given and not request.qos_policy_name
        default = self._default_policy(request.project) if back_to_default else ""
        differences = _differences(volume, found, default)
        if differences:
            self._allow(volume.line, name, "; ".join(differences.values()))
            change = _change(request, differences)
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
            self._taken(snapshot, made.uuid)
            self._say(f"{name} is taken")
            return
        found = self._taken(snapshot, found.uuid)
        for what, has, wants in (
            ("volume", found.source_volume_name, request.source_volume_name),
            ("retention", found.retention_time, request.retention_time),
        ):
            if wants is not None and has != wants:
                raise self._error(snapshot.line, f"{name} is there with {what} {has}, not {wants}")

    def _default_policy(self, project: str) -> str:
        """The UUID of a project's default policy; empty where it has none."""
        found = self._client.get_project(project, self._deadline).default_policies
        return found[0].policy_uuid if found else ""

    def _allow(self, line: int, name: str, differences: str) -> None:
        """SeedError where what exists must stay as it is."""
        if not self._change:
            raise self._error(
                line,
                f"{name} is there and differs from the file: {differences}; "
                "--change brings it to what the file gives",
            )

    def _settled(self, volume: SeedVolume, uuid: str) -> Volume:
        """The volume once it is available."""
        project = volume.request.project

        def is_settled() -> Volume | None:
            found = self._client.get_volume(project, uuid, self._deadline)
            return found if found.state in (VolumeState.AVAILABLE, *_GONE_VOLUME) else None

        found = self._wait(is_settled)
        if found.state in _GONE_VOLUME:
            state = found.state.wire_name
            raise self._error(volume.line, f"volume {found.name} of project {project} is {state}")
        return found

    def _taken(self, snapshot: SeedSnapshot, uuid: str) -> Snapshot:
        """The snapshot once it is available."""
        project = snapshot.request.project

        def is_taken() -> Snapshot | None:
            found = self._client.get_snapshot(project, uuid, self._deadline)
            return found if found.state in (SnapshotState.AVAILABLE, *_GONE_SNAPSHOT) else None

        found = self._wait(is_taken)
        if found.state in _GONE_SNAPSHOT:
            state = found.state.wire_name
            raise self._error(
                snapshot.line, f"snapshot {found.name} of project {project} is {state}"
            )
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


def _differences(volume: SeedVolume, found: Volume, default_policy_uuid: str) -> Mapping[str, str]:
    """What to change of a volume for the file to be right: keys of the file, each in words."""
    request, given = volume.request, volume.given
    differences = {}
    if _rounded(request.size_bytes or 0) > found.size_bytes:
        differences["size"] = f"size is {found.size_bytes}, not {request.size_bytes}"
    for key, has, wants in (
        ("acl", found.acl, request.acl),
        ("ip_acl", found.ip_acl, request.ip_acl),
        ("labels", _words(found.labels), _words(request.labels)),
    ):
        if key in given and set(has) != set(wants):
            differences[key] = f"{key} is {', '.join(has) or 'empty'}, not {', '.join(wants)}"
    if "policy" in given:
        name = request.qos_policy_name
        same = (
            found.qos_policy_name == name if name else found.qos_policy_uuid == default_policy_uuid
        )
        if not same:
            has_policy = found.qos_policy_name or "none"
            differences["policy"] = f"policy is {has_policy}, not {name or 'that of the project'}"
    return differences


def _change(request: CreateVolume, keys: Collection[str]) -> UpdateVolume:
    return UpdateVolume(
        size_bytes=request.size_bytes if "size" in keys else None,
        acl=request.acl if "acl" in keys else None,
        ip_acl=request.ip_acl if "ip_acl" in keys else None,
        qos_policy_name=request.qos_policy_name if "policy" in keys else None,
        labels=request.labels if "labels" in keys else (),
    )


def _words(labels: Iterable[Label]) -> list[str]:
    return [f"{label.key}={label.value}" for label in labels]


def _rounded(size_bytes: int) -> int:
    return rounded_up(size_bytes, SIZE_GRANULARITY_BYTES)


def _same_limit(has: RateLimit | None, wants: RateLimit | None) -> bool:
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
        case IopsLimit(read_iops=read, write_iops=write):
            step = IOPS_LIMIT_GRANULARITY
            return rounded_up(read, step), rounded_up(write, step)
    return limit
