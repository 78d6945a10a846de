# SPDX-License-Identifier: Apache-2.0
"""A small cluster behind the HTTPS test server: objects by name, ETags, and faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightos.api import routes
from lightos.api.models.cluster import Version
from lightos.api.models.nodes import NodeStopped
from lightos.api.models.policies import (
    IopsLimit,
    Policy,
    PolicyDeleted,
    PolicyList,
    PolicyState,
    PolicyUpdated,
    RateLimit,
)
from lightos.api.models.projects import Project, ProjectDeleted, ProjectList, ProjectUpdated
from lightos.api.models.snapshots import Snapshot, SnapshotDeleted, SnapshotList, SnapshotState
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import (
    Volume,
    VolumeDeleted,
    VolumeList,
    VolumeRolledBack,
    VolumeState,
    VolumeUpdated,
)
from lightos.api.wire import Model
from tests.unit.api.https_server import Answer, Seen, refusal, reply

Fault = Callable[[Seen, Callable[[], Answer]], Answer | None]
"""Given a request and what would serve it; returns what is answered, None for nothing."""


def lost_before(seen: Seen, serve: Callable[[], Answer]) -> None:
    """The request does not take effect, and the connection ends."""


def lost_after(seen: Seen, serve: Callable[[], Answer]) -> None:
    """The request takes effect, but the connection ends."""
    serve()


def answers(status: int, code: int, message: str = "no") -> Fault:
    return lambda seen, serve: refusal(status, code, message)


def rounded(limit: RateLimit) -> RateLimit:
    """What a cluster makes of IOPS limits that are no multiple of 256."""
    if limit.iops is None:
        return limit
    up = IopsLimit(
        write_iops=-(-limit.iops.write_iops // 256) * 256,
        read_iops=-(-limit.iops.read_iops // 256) * 256,
    )
    return replace(limit, iops=up)


class FakeCluster:
    """Serves volumes and snapshots; `faults` are used up one by one, keyed by method."""

    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.policies: dict[str, Policy] = {}
        self.projects: dict[str, Project] = {}
        self.faults: list[tuple[str, Fault]] = []
        self.calls: list[str] = []
        self.reads_in_transit = 0
        """How many reads of a volume show Updating after an update."""
        self._transit: dict[str, int] = {}
        self._lock = threading.Lock()
        self._serial = 0

    def __call__(self, seen: Seen) -> Answer | None:
        with self._lock:
            found = routes.match(seen.method, seen.path)
            self.calls.append(found.route.operation)
            for index, (method, fault) in enumerate(self.faults):
                if method == seen.method:
                    del self.faults[index]
                    return fault(seen, lambda: self._serve(found, seen))
            return self._serve(found, seen)

    def add_volume(self, **values: Any) -> Volume:
        self._serial += 1
        volume = Volume(
            **{
                "uuid": f"volume-{self._serial}",
                "project": "default",
                "state": VolumeState.AVAILABLE,
                "size_bytes": 1 << 30,
                "replica_count": 3,
                "acl": (ALLOW_NONE,),
                "etag": "1",
            }
            | values
        )
        self.volumes[volume.uuid] = volume
        return volume

    def change(self, uuid: str, **values: Any) -> None:
        """Do what another client would, ETag included."""
        volume = self.volumes[uuid]
        self.volumes[uuid] = replace(volume, etag=str(int(volume.etag) + 1), **values)

    def _serve(self, found: routes.Match, seen: Seen) -> Answer:
        request = found.route.read_request(found.path, seen.query, seen.body)
        handler = getattr(self, f"_{found.route.operation}")
        answer = handler(request, seen.headers.get("If-Match", ""))
        return reply(answer.to_wire()) if isinstance(answer, Model) else answer

    def _GetVersion(self, request: Any, etag: str) -> Model:
        return Version(api_version="v2.0")

    def _CreateVolume(self, request: Any, etag: str) -> Model | Answer:
        if any(volume.name == request.name for volume in self.volumes.values()):
            return refusal(409, 6, "name taken")
        return self.add_volume(
            name=request.name,
            size_bytes=-(-request.size_bytes // 4096) * 4096,
            replica_count=request.replica_count,
            acl=request.acl,
            source_snapshot_uuid=request.source_snapshot_uuid,
            qos_policy_uuid=request.qos_policy_uuid,
            qos_policy_name=request.qos_policy_name,
            state=VolumeState.CREATING,
        )

    def _GetVolume(self, request: Any, etag: str) -> Model | Answer:
        for volume in self.volumes.values():
            if volume.uuid == request.uuid or (not request.uuid and volume.name == request.name):
                left = self._transit.get(volume.uuid, 0)
                self._transit[volume.uuid] = max(0, left - 1)
                return replace(volume, state=VolumeState.UPDATING) if left else volume
        return refusal(404, 5, "no such volume")

    def _ListVolumes(self, request: Any, etag: str) -> Model:
        uuids = [uuid for uuid in sorted(self.volumes) if uuid > request.offset_uuid]
        return VolumeList(volumes=tuple(self.volumes[uuid] for uuid in uuids[: request.limit]))

    def _UpdateVolume(self, request: Any, etag: str) -> Model | Answer:
        volume = self.volumes.get(request.uuid)
        if volume is None:
            return refusal(404, 5, "no such volume")
        if etag and etag != volume.etag:
            return refusal(400, 9, "ETag mismatch")
        names = ("acl", "ip_acl", "size_bytes")
        values = {name: getattr(request, name) for name in names}
        self.change(request.uuid, **{name: value for name, value in values.items() if value})
        self._transit[request.uuid] = self.reads_in_transit
        return VolumeUpdated()

    def _DeleteVolume(self, request: Any, etag: str) -> Model | Answer:
        if self.volumes.pop(request.uuid, None) is None:
            return refusal(404, 5, "no such volume")
        return VolumeDeleted()

    def _RollbackVolume(self, request: Any, etag: str) -> Model:
        self.change(request.uuid, state=VolumeState.ROLLBACK)
        return VolumeRolledBack()

    def _CreateSnapshot(self, request: Any, etag: str) -> Model | Answer:
        if any(snapshot.name == request.name for snapshot in self.snapshots.values()):
            return refusal(409, 6, "name taken")
        snapshot = Snapshot(
            uuid=f"snapshot-{len(self.snapshots)}",
            name=request.name,
            state=SnapshotState.CREATING,
            source_volume_uuid=request.source_volume_uuid,
        )
        self.snapshots[snapshot.uuid] = snapshot
        return snapshot

    def _GetSnapshot(self, request: Any, etag: str) -> Model | Answer:
        for snapshot in self.snapshots.values():
            if request.uuid == snapshot.uuid or (
                not request.uuid and request.name == snapshot.name
            ):
                return snapshot
        return refusal(404, 5, "no such snapshot")

    def _ListSnapshots(self, request: Any, etag: str) -> Model:
        uuids = [uuid for uuid in sorted(self.snapshots) if uuid > request.offset_uuid]
        return SnapshotList(
            snapshots=tuple(self.snapshots[uuid] for uuid in uuids[: request.limit])
        )

    def _DeleteSnapshot(self, request: Any, etag: str) -> Model | Answer:
        if self.snapshots.pop(request.uuid, None) is None:
            return refusal(404, 5, "no such snapshot")
        return SnapshotDeleted()

    def _CreatePolicy(self, request: Any, etag: str) -> Model | Answer:
        if any(policy.name == request.name for policy in self.policies.values()):
            return refusal(409, 6, "name taken")
        self._serial += 1
        policy = Policy(
            uuid=f"policy-{self._serial}",
            name=request.name,
            description=request.description,
            state=PolicyState.ACTIVE,
            rate_limit=rounded(request.rate_limit),
        )
        self.policies[policy.uuid] = policy
        return policy

    def _GetPolicy(self, request: Any, etag: str) -> Model | Answer:
        for policy in self.policies.values():
            if request.uuid == policy.uuid or (not request.uuid and request.name == policy.name):
                return policy
        return refusal(404, 5, "no such policy")

    def _ListPolicies(self, request: Any, etag: str) -> Model:
        return PolicyList(policies=tuple(self.policies.values()))

    def _UpdatePolicy(self, request: Any, etag: str) -> Model | Answer:
        policy = self.policies.get(request.uuid)
        if policy is None:
            return refusal(404, 5, "no such policy")
        self.policies[policy.uuid] = replace(
            policy,
            description=request.description or policy.description,
            rate_limit=rounded(request.rate_limit or policy.rate_limit),
        )
        return PolicyUpdated()

    def _DeletePolicy(self, request: Any, etag: str) -> Model | Answer:
        if self.policies.pop(request.uuid, None) is None:
            return refusal(404, 5, "no such policy")
        return PolicyDeleted()

    def _CreateProject(self, request: Any, etag: str) -> Model | Answer:
        if request.name in self.projects:
            return refusal(409, 6, "name taken")
        project = Project(uuid="p", name=request.name, description=request.description)
        self.projects[project.name] = project
        return project

    def _GetProject(self, request: Any, etag: str) -> Model | Answer:
        return self.projects.get(request.name) or refusal(404, 5, "no such project")

    def _ListProjects(self, request: Any, etag: str) -> Model:
        return ProjectList(projects=tuple(self.projects.values()))

    def _UpdateProject(self, request: Any, etag: str) -> Model:
        project = self.projects[request.name]
        self.projects[project.name] = replace(project, default_policies=request.default_policies)
        return ProjectUpdated()

    def _DeleteProject(self, request: Any, etag: str) -> Model | Answer:
        if self.projects.pop(request.name, None) is None:
            return refusal(404, 5, "no such project")
        return ProjectDeleted()

    def _StopNodeInstance(self, request: Any, etag: str) -> Model:
        return NodeStopped()
