# SPDX-License-Identifier: Apache-2.0
"""A typed, blocking, thread-safe client of the management API v2.

Every call takes a deadline and keeps trying until then: an address that does not answer is left
for the next one, and a cluster that says it is busy is asked again with growing pauses. What
comes out is the reply as a model, or one exception of `lightos.api.errors`; that of the last
try when the deadline has passed.

A write whose reply was lost may have been done. It is never sent again blindly: the object is
read first, and only when it does not show the write is the write repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from lightos.api import errors, routes
from lightos.api.caller import Caller
from lightos.api.credentials import FixedToken, TokenSource
from lightos.api.endpoints import Endpoints, split_endpoint
from lightos.api.http import Transport
from lightos.api.models.cluster import Cluster, ClusterInfo, GetCluster, GetVersion, Version
from lightos.api.models.nodes import GetNode, ListNodes, Node, StartNode, StopNode
from lightos.api.models.policies import (
    IOPS_LIMIT_GRANULARITY,
    CreatePolicy,
    DeletePolicy,
    GetPolicy,
    IopsLimit,
    ListPolicies,
    Policy,
    PolicyDeleted,
    PolicyUpdated,
    PolicyVisibility,
    RateLimit,
    UpdatePolicy,
)
from lightos.api.models.projects import (
    CreateProject,
    DefaultPolicy,
    DeleteProject,
    GetProject,
    ListProjects,
    Project,
    ProjectDeleted,
    ProjectUpdated,
    UpdateProject,
)
from lightos.api.models.snapshots import (
    CreateSnapshot,
    DeleteSnapshot,
    GetSnapshot,
    LbaRange,
    ListChangedBlocks,
    ListSnapshots,
    Snapshot,
    SnapshotDeleted,
    SnapshotState,
)
from lightos.api.models.values import MAX_LIST_LIMIT, rounded_up
from lightos.api.models.volumes import (
    SIZE_GRANULARITY_BYTES,
    CreateVolume,
    DeleteVolume,
    GetVolume,
    ListVolumes,
    RollbackVolume,
    UpdateVolume,
    Volume,
    VolumeDeleted,
    VolumeRolledBack,
    VolumeState,
    VolumeUpdated,
)
from lightos.api.observer import Observer
from lightos.api.wire import Model
from lightos.waiting import SYSTEM_CLOCK, Clock, Deadline

Reply = TypeVar("Reply", bound=Model)
Page = TypeVar("Page", ListVolumes, ListSnapshots)

_GOING = (VolumeState.DELETING, VolumeState.DELETED)
_SNAPSHOT_GOING = (SnapshotState.DELETING, SnapshotState.DELETED)


class LightOSClient:
    """The management API of one cluster.

    Errors of every method, beside those it names: Unreachable (no address accepts
    connections), Untrusted (TLS), TimedOut (no reply; for a write: outcome unknown),
    Unauthorized, Forbidden, Busy (still so at the deadline), Refused, ServerFault.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @classmethod
    def connect(
        cls,
        addresses: Iterable[str],
        port: int,
        jwt: str | TokenSource,
        *,
        verify: bool | str = True,
        request_timeout_seconds: float = 30.0,
        clock: Clock = SYSTEM_CLOCK,
        observer: Observer | None = None,
    ) -> LightOSClient:
        """Make a client; connections are opened when first needed.

        `addresses` are IP addresses or host names; `jwt` is the token, or where to get it for
        each request; empty for a cluster without multi-tenancy. `verify` is True, False, or the
        path of a CA file or folder; `observer` is told of each request. ValueError for what cannot
        be used.
        """
        tokens = FixedToken(jwt) if isinstance(jwt, str) else jwt
        transport = Transport(port, verify=verify, request_timeout_seconds=request_timeout_seconds)
        endpoints = Endpoints.of(addresses)
        return cls(Caller(endpoints, transport, tokens, clock, observer or Observer()))

    def __repr__(self) -> str:
        return f"LightOSClient({', '.join(self._caller.addresses)})"

    def close(self) -> None:
        """Close the idle connections."""
        self._caller.transport.close()

    def address_states(self) -> list[tuple[str, str]]:
        """Each API address and what is known of its health; asks nobody."""
        return self._caller.address_states()

    def deadline(self, seconds: float) -> Deadline:
        """Return a deadline on this client's clock."""
        return Deadline(seconds, self._caller.clock)

    # --- version, cluster, nodes ---------------------------------------------------------------

    def get_version(self, deadline: Deadline) -> Version:
        """GetVersion."""
        return self._caller.call(routes.GET_VERSION, GetVersion(), "the cluster", deadline)

    def get_cluster(self, deadline: Deadline) -> Cluster:
        """GetCluster: health and statistics."""
        cluster = self._caller.call(routes.GET_CLUSTER, GetCluster(), "the cluster", deadline)
        self._follow(cluster.api_endpoints)
        return cluster

    def get_cluster_info(self, deadline: Deadline, *, patient: bool = True) -> ClusterInfo:
        """GetClusterInfo: subsystem NQN and endpoints.

        `patient=False`: Unreachable is raised when each address was tried once.
        """
        info = self._caller.call(
            routes.GET_CLUSTER_INFO, GetCluster(), "the cluster", deadline, patient=patient
        )
        self._follow(info.api_endpoints)
        return info

    def _follow(self, api_endpoints: Iterable[str]) -> None:
        """Use the API servers that the cluster says it has now, and forget those it had.

        One on another port than ours is left out: we then reach the cluster through something
        that forwards to it, and its own addresses are not meant for us.
        """
        if not api_endpoints:
            return
        split = (split_endpoint(text, self._caller.transport.port) for text in api_endpoints)
        self._caller.note_told_addresses(
            address for address, port in split if port == self._caller.transport.port
        )

    def list_nodes(self, deadline: Deadline) -> tuple[Node, ...]:
        """ListNodes."""
        return self._caller.call(routes.LIST_NODES, ListNodes(), "all nodes", deadline).nodes

    def get_node(self, uuid: str, deadline: Deadline) -> Node:
        """GetNode; NotFound."""
        return self._caller.call(
            routes.GET_NODE, GetNode(uuid=_named(uuid)), f"node {uuid}", deadline
        )

    def start_node(self, uuid: str, deadline: Deadline) -> None:
        """StartNodeInstance: accepted, not finished; NotFound."""
        request = StartNode(node_uuid=_named(uuid))
        self._caller.call(routes.START_NODE, request, f"node {uuid}", deadline, settle=_repeat)

    def stop_node(self, uuid: str, deadline: Deadline, *, force: bool = False) -> None:
        """StopNodeInstance: accepted, not finished; NotFound."""
        request = StopNode(node_uuid=_named(uuid), force=force)
        self._caller.call(routes.STOP_NODE, request, f"node {uuid}", deadline, settle=_repeat)

    # --- volumes -------------------------------------------------------------------------------

    def create_volume(self, project: str, request: CreateVolume, deadline: Deadline) -> Volume:
        """CreateVolume: accepted, the state is Creating or later; AlreadyExists.

        After a lost reply the name is looked up, and a volume that is as asked is the answer.
        """
        request = replace(request, project=_named(project))
        target = _words("volume", request.name, project)

        def find() -> Volume | None:
            found = _found(lambda: self.get_volume_by_name(project, request.name, deadline))
            if found is None or found.state in _GOING:
                return None
            if not _is_as_asked(found, request):
                raise errors.AlreadyExists(
                    "CreateVolume", target, f"another volume, {found.uuid}, has this name"
                )
            return found

        volume = self._caller.call(routes.CREATE_VOLUME, request, target, deadline, settle=find)
        is_ours = bool(volume.uuid) and volume.name == request.name
        return _checked(volume, "CreateVolume", target, is_ours)

    def get_volume(self, project: str, uuid: str, deadline: Deadline) -> Volume:
        """GetVolume; NotFound."""
        request = GetVolume(project=_named(project), uuid=_named(uuid))
        target = _words("volume", uuid, project)
        volume = self._caller.call(routes.GET_VOLUME, request, target, deadline)
        return _checked(volume, "GetVolume", target, volume.uuid.lower() == uuid.lower())

    def get_volume_by_name(self, project: str, name: str, deadline: Deadline) -> Volume:
        """GetVolume with an empty UUID and `?name=`; NotFound."""
        request = GetVolume(project=_named(project), name=_named(name))
        target = _words("volume", name, project)
        volume = self._caller.call(routes.GET_VOLUME, request, target, deadline)
        return _checked(volume, "GetVolume", target, bool(volume.uuid) and volume.name == name)

    def list_volumes(
        self,
        project: str | None,
        deadline: Deadline,
        *,
        name: str = "",
        snapshot_uuid: str = "",
        show_all: bool = False,
    ) -> Iterator[Volume]:
        """ListVolumes, page by page as they are consumed; None: of every project.

        Volumes in Deleting are left out unless `show_all`.
        """
        route = routes.LIST_VOLUMES if project is not None else routes.LIST_ALL_VOLUMES
        target = f"volumes of project {project}" if project is not None else "all volumes"
        request = ListVolumes(
            project=_named(project) if project is not None else "",
            name=name,
            snapshot_uuid=snapshot_uuid,
            show_all=show_all,
            limit=MAX_LIST_LIMIT,
        )
        while True:
            page = self._caller.call(route, request, target, deadline).volumes
            yield from page
            if len(page) < MAX_LIST_LIMIT:
                return
            request = _next_page(request, page[-1].uuid, "ListVolumes", target)

    def update_volume(
        self,
        project: str,
        uuid: str,
        request: UpdateVolume,
        deadline: Deadline,
        *,
        etag: str = "",
    ) -> None:
        """UpdateVolume: accepted, not yet shown; NotFound, StaleEtag, AlreadyExists (rename)."""
        request = replace(request, project=_named(project), uuid=_named(uuid))

        def look() -> VolumeUpdated | None:
            volume = self.get_volume(project, uuid, deadline)
            if _shows(volume, request):
                return VolumeUpdated()
            if etag and volume.etag != etag:
                raise errors.StaleEtag(
                    "UpdateVolume",
                    _words("volume", uuid, project),
                    "the volume changed while the reply was lost",
                )
            return None

        target = _words("volume", uuid, project)
        self._caller.call(routes.UPDATE_VOLUME, request, target, deadline, etag=etag, settle=look)

    def delete_volume(self, project: str, uuid: str, deadline: Deadline, *, etag: str = "") -> None:
        """DeleteVolume: accepted; it is gone when `get_volume` raises NotFound.

        NotFound (unless an earlier try of this call may have deleted it), StaleEtag,
        WrongState.
        """

        def look() -> VolumeDeleted | None:
            found = _found(lambda: self.get_volume(project, uuid, deadline))
            return VolumeDeleted() if found is None or found.state in _GOING else None

        request = DeleteVolume(project=_named(project), uuid=_named(uuid))
        target = _words("volume", uuid, project)
        self._caller.call(routes.DELETE_VOLUME, request, target, deadline, etag=etag, settle=look)

    def rollback_volume(
        self, project: str, uuid: str, snapshot_uuid: str, deadline: Deadline
    ) -> None:
        """RollbackVolume to a snapshot: accepted, not finished; NotFound."""

        def look() -> VolumeRolledBack | None:
            volume = self.get_volume(project, uuid, deadline)
            return VolumeRolledBack() if volume.state is VolumeState.ROLLBACK else None

        request = RollbackVolume(
            project=_named(project),
            uuid=_named(uuid),
            source_snapshot_uuid=_named(snapshot_uuid),
        )
        target = _words("volume", uuid, project)
        self._caller.call(routes.ROLLBACK_VOLUME, request, target, deadline, settle=look)

    # --- snapshots -----------------------------------------------------------------------------

    def create_snapshot(
        self, project: str, request: CreateSnapshot, deadline: Deadline
    ) -> Snapshot:
        """CreateSnapshot: accepted, the state is Creating or later; AlreadyExists, NotFound.

        After a lost reply the name is looked up, and a snapshot of the same volume is the
        answer.
        """
        request = replace(request, project=_named(project))
        target = _words("snapshot", request.name, project)

        def find() -> Snapshot | None:
            found = _found(lambda: self.get_snapshot_by_name(project, request.name, deadline))
            if found is None or found.state in _SNAPSHOT_GOING:
                return None
            if not _matches(request.source_volume_uuid, found.source_volume_uuid) or not _matches(
                request.source_volume_name, found.source_volume_name
            ):
                raise errors.AlreadyExists(
                    "CreateSnapshot", target, f"another snapshot, {found.uuid}, has this name"
                )
            return found

        snapshot = self._caller.call(routes.CREATE_SNAPSHOT, request, target, deadline, settle=find)
        is_ours = bool(snapshot.uuid) and snapshot.name == request.name
        return _checked(snapshot, "CreateSnapshot", target, is_ours)

    def get_snapshot(self, project: str, uuid: str, deadline: Deadline) -> Snapshot:
        """GetSnapshot; NotFound."""
        request = GetSnapshot(project=_named(project), uuid=_named(uuid))
        target = _words("snapshot", uuid, project)
        snapshot = self._caller.call(routes.GET_SNAPSHOT, request, target, deadline)
        return _checked(snapshot, "GetSnapshot", target, snapshot.uuid.lower() == uuid.lower())

    def get_snapshot_by_name(self, project: str, name: str, deadline: Deadline) -> Snapshot:
        """GetSnapshot with an empty UUID and `?Name=`; NotFound."""
        request = GetSnapshot(project=_named(project), name=_named(name))
        target = _words("snapshot", name, project)
        snapshot = self._caller.call(routes.GET_SNAPSHOT, request, target, deadline)
        return _checked(
            snapshot, "GetSnapshot", target, bool(snapshot.uuid) and snapshot.name == name
        )

    def list_snapshots(
        self, project: str, deadline: Deadline, *, name: str = "", show_all: bool = False
    ) -> Iterator[Snapshot]:
        """ListSnapshots, page by page as they are consumed.

        Snapshots in Deleting are left out unless `show_all`.
        """
        target = f"snapshots of project {project}"
        request = ListSnapshots(
            project=_named(project), name=name, show_all=show_all, limit=MAX_LIST_LIMIT
        )
        while True:
            page = self._caller.call(routes.LIST_SNAPSHOTS, request, target, deadline).snapshots
            yield from page
            if len(page) < MAX_LIST_LIMIT:
                return
            request = _next_page(request, page[-1].uuid, "ListSnapshots", target)

    def delete_snapshot(
        self, project: str, uuid: str, deadline: Deadline, *, etag: str = ""
    ) -> None:
        """DeleteSnapshot: accepted; it is gone when `get_snapshot` raises NotFound.

        NotFound (unless an earlier try of this call may have deleted it), StaleEtag,
        WrongState.
        """

        def look() -> SnapshotDeleted | None:
            found = _found(lambda: self.get_snapshot(project, uuid, deadline))
            return SnapshotDeleted() if found is None or found.state in _SNAPSHOT_GOING else None

        request = DeleteSnapshot(project=_named(project), uuid=_named(uuid))
        target = _words("snapshot", uuid, project)
        self._caller.call(routes.DELETE_SNAPSHOT, request, target, deadline, etag=etag, settle=look)

    def list_changed_blocks(
        self, project: str, uuid: str, deadline: Deadline, *, base_uuid: str = ""
    ) -> Iterator[LbaRange]:
        """ListChangedBlocks of a snapshot, page by page as they are consumed; NotFound, Refused.

        Without a base, another snapshot, every range that has data. Ranges may overlap, because
        clusters round where a page begins down.
        """
        target = _words("snapshot", uuid, project)
        request = ListChangedBlocks(project=_named(project), uuid=_named(uuid), base_uuid=base_uuid)
        while True:
            page = self._caller.call(routes.LIST_CHANGED_BLOCKS, request, target, deadline)
            yield from page.ranges
            if not page.next_offset_lba:
                return
            if page.next_offset_lba <= request.offset_lba:
                raise _does_not_advance("ListChangedBlocks", target)
            request = replace(request, offset_lba=page.next_offset_lba)

    # --- QoS policies --------------------------------------------------------------------------

    def create_policy(self, request: CreatePolicy, deadline: Deadline) -> Policy:
        """CreatePolicy; AlreadyExists, NotFound (a project it is to be for).

        After a lost reply the name is looked up, and a policy with the same limit is the answer.
        """
        target = f"QoS policy {_named(request.name)}"

        def find() -> Policy | None:
            found = _found(lambda: self.get_policy_by_name(request.name, deadline))
            if found is not None and not _is_limited_as_asked(found.rate_limit, request.rate_limit):
                raise errors.AlreadyExists(
                    "CreatePolicy", target, f"another policy, {found.uuid}, has this name"
                )
            return found

        policy = self._caller.call(routes.CREATE_POLICY, request, target, deadline, settle=find)
        is_ours = bool(policy.uuid) and policy.name == request.name
        return _checked(policy, "CreatePolicy", target, is_ours)

    def get_policy(self, uuid: str, deadline: Deadline, *, project: str = "") -> Policy:
        """GetPolicy, where given as `project` may use it; NotFound."""
        request = GetPolicy(uuid=_named(uuid), project=project)
        target = f"QoS policy {uuid}"
        policy = self._caller.call(routes.GET_POLICY, request, target, deadline)
        return _checked(policy, "GetPolicy", target, policy.uuid.lower() == uuid.lower())

    def get_policy_by_name(self, name: str, deadline: Deadline, *, project: str = "") -> Policy:
        """GetPolicy with an empty UUID and `?name=`; NotFound."""
        request = GetPolicy(name=_named(name), project=project)
        target = f"QoS policy {name}"
        policy = self._caller.call(routes.GET_POLICY, request, target, deadline)
        return _checked(policy, "GetPolicy", target, bool(policy.uuid) and policy.name == name)

    def list_policies(self, deadline: Deadline, *, project: str = "") -> Iterator[Policy]:
        """ListPolicies: all that the token may see, or those that one project may use."""
        request = ListPolicies(project=project)
        yield from self._caller.call(
            routes.LIST_POLICIES, request, "QoS policies", deadline
        ).policies

    def update_policy(self, uuid: str, request: UpdatePolicy, deadline: Deadline) -> None:
        """UpdatePolicy: volumes that have it are limited so from now on; NotFound, WrongState."""
        request = replace(request, uuid=_named(uuid))

        def look() -> PolicyUpdated | None:
            policy = self.get_policy(uuid, deadline)
            return PolicyUpdated() if _is_policy_as_asked(policy, request) else None

        target = f"QoS policy {uuid}"
        self._caller.call(routes.UPDATE_POLICY, request, target, deadline, settle=look)

    def delete_policy(self, uuid: str, deadline: Deadline) -> None:
        """DeletePolicy: it is gone when this returns.

        NotFound (unless an earlier try of this call may have deleted it), WrongState (in use).
        """

        def look() -> PolicyDeleted | None:
            found = _found(lambda: self.get_policy(uuid, deadline))
            return PolicyDeleted() if found is None else None

        request = DeletePolicy(uuid=_named(uuid))
        target = f"QoS policy {uuid}"
        self._caller.call(routes.DELETE_POLICY, request, target, deadline, settle=look)

    # --- projects ------------------------------------------------------------------------------

    def create_project(self, request: CreateProject, deadline: Deadline) -> Project:
        """CreateProject; AlreadyExists. After a lost reply the name is looked up."""
        target = f"project {_named(request.name)}"

        def find() -> Project | None:
            found = _found(lambda: self.get_project(request.name, deadline))
            if found is not None and found.description != request.description:
                raise errors.AlreadyExists(
                    "CreateProject", target, f"another project, {found.uuid}, has this name"
                )
            return found

        project = self._caller.call(routes.CREATE_PROJECT, request, target, deadline, settle=find)
        return _checked(project, "CreateProject", target, project.name == request.name)

    def get_project(self, name: str, deadline: Deadline) -> Project:
        """GetProject; NotFound."""
        request = GetProject(name=_named(name))
        target = f"project {name}"
        project = self._caller.call(routes.GET_PROJECT, request, target, deadline)
        return _checked(project, "GetProject", target, project.name == name)

    def list_projects(self, deadline: Deadline) -> Iterator[Project]:
        """ListProjects: all that the token may see."""
        yield from self._caller.call(
            routes.LIST_PROJECTS, ListProjects(), "all projects", deadline
        ).projects

    def update_project(
        self, name: str, default_policies: tuple[DefaultPolicy, ...], deadline: Deadline
    ) -> None:
        """UpdateProject: new volumes get these policies when they name none; NotFound."""

        def look() -> ProjectUpdated | None:
            found = self.get_project(name, deadline)
            return ProjectUpdated() if found.default_policies == default_policies else None

        request = UpdateProject(name=_named(name), default_policies=default_policies)
        target = f"project {name}"
        self._caller.call(routes.UPDATE_PROJECT, request, target, deadline, settle=look)

    def delete_project(self, name: str, deadline: Deadline) -> None:
        """DeleteProject; NotFound (unless an earlier try may have deleted it), WrongState."""

        def look() -> ProjectDeleted | None:
            found = _found(lambda: self.get_project(name, deadline))
            return ProjectDeleted() if found is None else None

        request = DeleteProject(name=_named(name))
        target = f"project {name}"
        self._caller.call(routes.DELETE_PROJECT, request, target, deadline, settle=look)


def _repeat() -> None:
    """Settle a write that may safely be done twice."""


def _named(value: str) -> str:
    """Return what names an object; an empty one would address another operation."""
    if not value:
        raise ValueError("a project, UUID or name is empty")
    return value


def _words(kind: str, name: str, project: str) -> str:
    return f"{kind} {name} of project {project}"


def _found(read: Callable[[], Reply]) -> Reply | None:
    try:
        return read()
    except errors.NotFound:
        return None


def _checked(reply: Reply, operation: str, target: str, is_asked_for: bool) -> Reply:
    """Return a reply that is about the object asked for; ServerFault otherwise."""
    if not is_asked_for:
        raise errors.ServerFault(operation, target, "the reply is about another object")
    return reply


def _next_page(request: Page, last_uuid: str, operation: str, target: str) -> Page:
    if not last_uuid or last_uuid == request.offset_uuid:
        raise _does_not_advance(operation, target)
    return replace(request, offset_uuid=last_uuid)


def _does_not_advance(operation: str, target: str) -> errors.ServerFault:
    return errors.ServerFault(operation, target, "the pages do not advance")


def _matches(asked: str, found: str) -> bool:
    return not asked or asked == found


def _is_size(asked: int | None, found: int) -> bool:
    return asked is None or asked <= found < asked + SIZE_GRANULARITY_BYTES


def _is_as_asked(volume: Volume, request: CreateVolume) -> bool:
    return (
        _is_size(request.size_bytes, volume.size_bytes)
        and volume.replica_count == request.replica_count
        and _matches(request.source_snapshot_uuid, volume.source_snapshot_uuid)
        and _matches(request.source_snapshot_name, volume.source_snapshot_name)
        and _matches(request.qos_policy_uuid, volume.qos_policy_uuid)
        and _matches(request.qos_policy_name, volume.qos_policy_name)
    )


def _is_limited_as_asked(found: RateLimit | None, asked: RateLimit | None) -> bool:
    """Compare the limits alone: a cluster may not tell this token who may use a policy."""
    wanted, limit = asked and asked.limit, found and found.limit
    if isinstance(wanted, IopsLimit):
        rounded = IopsLimit(
            write_iops=rounded_up(wanted.write_iops, IOPS_LIMIT_GRANULARITY),
            read_iops=rounded_up(wanted.read_iops, IOPS_LIMIT_GRANULARITY),
        )
        return limit in (wanted, rounded)
    return limit == wanted


def _is_policy_as_asked(policy: Policy, request: UpdatePolicy) -> bool:
    """Whether a policy already shows all that an update asks for; who may use it included."""
    if request.description not in ("", policy.description):
        return False
    asked = request.rate_limit
    if asked is None:
        return True
    found = policy.rate_limit or RateLimit()
    return (
        (asked.limit is None or _is_limited_as_asked(found, asked))
        and asked.visibility in (PolicyVisibility.UNAVAILABLE, found.visibility)
        and asked.projects in ((), found.projects)
    )


def _shows(volume: Volume, request: UpdateVolume) -> bool:
    """Whether a volume already is as an update wants it."""
    return (
        (request.acl is None or set(request.acl) == set(volume.acl))
        and (request.ip_acl is None or set(request.ip_acl) == set(volume.ip_acl))
        and _is_size(request.size_bytes, volume.size_bytes)
        and request.compression in (None, volume.compression)
        and request.qos_policy_uuid in (None, volume.qos_policy_uuid)
        and request.qos_policy_name in (None, volume.qos_policy_name)
        and request.labels in ((), volume.labels)
        and request.new_name in ("", volume.name)
    )
