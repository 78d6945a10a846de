# SPDX-License-Identifier: Apache-2.0
"""What each operation of the management API does with the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from lightos.api.models.cluster import GetCluster, GetVersion
from lightos.api.models.nodes import (
    GetNode,
    ListNodes,
    NodeList,
    NodeRestarted,
    NodeStarted,
    NodeStopped,
    RestartNode,
    StartNode,
    StopNode,
)
from lightos.api.models.snapshots import (
    CreateSnapshot,
    DeleteSnapshot,
    GetSnapshot,
    ListChangedBlocks,
    ListSnapshots,
    SnapshotDeleted,
    SnapshotList,
)
from lightos.api.models.values import ALLOW_ANY
from lightos.api.models.volumes import (
    CreateVolume,
    DeleteVolume,
    GetVolume,
    ListVolumes,
    RollbackVolume,
    UpdateVolume,
    VolumeDeleted,
    VolumeList,
    VolumeRolledBack,
    VolumeUpdated,
)
from lightos.api.routes import Route
from lightos.api.wire import Model
from lightos.lab.arguments import checked, optional_uuid, page_size, uuid_of, uuid_or_name
from lightos.lab.auth import Caller
from lightos.lab.changed_blocks import changed_blocks
from lightos.lab.changes import Changes
from lightos.lab.cluster import Cluster
from lightos.lab.describe import Description
from lightos.lab.errors import InvalidArgument
from lightos.lab.report_operations import ReportOperations
from lightos.lab.tenant_operations import TenantOperations

DEFAULT_SECTOR_BYTES = 4096


def _qos_policy(uuid: str, name: str) -> UUID | str:
    """The policy that a volume is to have; NO_POLICY where both are empty."""
    return uuid_of("qosPolicyUUID", uuid) if uuid else name


class Operations:
    """What each operation of the route table does."""

    def __init__(self, description: Description, changes: Changes) -> None:
        self._describe = description
        self._cluster: Cluster = description.cluster
        self._changes = changes
        self._run: dict[str, Callable[..., Awaitable[Model]]] = {
            "GetVersion": self._get_version,
            "GetCluster": self._get_cluster,
            "GetClusterInfo": self._get_cluster_info,
            "ListNodes": self._list_nodes,
            "GetNode": self._get_node,
            "StartNodeInstance": self._start_node,
            "StopNodeInstance": self._stop_node,
            "RestartNodeInstance": self._restart_node,
            "CreateVolume": self._create_volume,
            "ListVolumes": self._list_volumes,
            "GetVolume": self._get_volume,
            "UpdateVolume": self._update_volume,
            "DeleteVolume": self._delete_volume,
            "RollbackVolume": self._roll_back_volume,
            "CreateSnapshot": self._create_snapshot,
            "ListSnapshots": self._list_snapshots,
            "GetSnapshot": self._get_snapshot,
            "DeleteSnapshot": self._delete_snapshot,
            "ListChangedBlocks": self._list_changed_blocks,
        }
        tenants = TenantOperations(description, changes)
        reports = ReportOperations(description)
        self._run_for: dict[str, Callable[..., Awaitable[Model]]] = {
            "CreatePolicy": tenants.create_policy,
            "ListPolicies": tenants.list_policies,
            "GetPolicy": tenants.get_policy,
            "UpdatePolicy": tenants.update_policy,
            "DeletePolicy": tenants.delete_policy,
            "CreateProject": tenants.create_project,
            "ListProjects": tenants.list_projects,
            "GetProject": tenants.get_project,
            "UpdateProject": tenants.update_project,
            "DeleteProject": tenants.delete_project,
            "CreateCredential": tenants.create_credential,
            "ListCredentials": tenants.list_credentials,
            "GetCredential": tenants.get_credential,
            "DeleteCredential": tenants.delete_credential,
            "ListServers": reports.list_servers,
            "GetServer": reports.get_server,
            "ListHosts": reports.list_hosts,
            "GetHost": reports.get_host,
            "ListEvents": reports.list_events,
        }
        """What depends on who calls."""

    async def run(
        self, route: Route[Any, Any], message: Model, if_match: str | None, caller: Caller | None
    ) -> Model:
        """Do what a request asks; `if_match` is the ETag of that header.

        `caller` is None only for operations that need no token.
        """
        if route.operation in self._run_for:
            return await self._run_for[route.operation](message, caller)
        operation = self._run[route.operation]
        return await (operation(message, if_match) if route.if_match else operation(message))

    async def _get_version(self, _message: GetVersion) -> Model:
        return self._describe.version()

    async def _get_cluster(self, _message: GetCluster) -> Model:
        return self._describe.whole_cluster()

    async def _get_cluster_info(self, _message: GetCluster) -> Model:
        return self._describe.cluster_info()

    async def _list_nodes(self, message: ListNodes) -> Model:
        nodes = self._cluster.nodes.matching(
            name=message.name or None,
            uuid=optional_uuid("UUID", message.uuid),
            failure_domain=message.failure_domain or None,
        )
        return NodeList(nodes=tuple(map(self._describe.node, nodes)))

    async def _get_node(self, message: GetNode) -> Model:
        return self._describe.node(self._cluster.nodes.find(uuid_of("UUID", message.uuid)))

    async def _start_node(self, message: StartNode) -> Model:
        uuid = uuid_of("nodeUUID", message.node_uuid)
        await self._changes.carry_out(self._cluster.nodes.start, uuid)
        return NodeStarted()

    async def _stop_node(self, message: StopNode) -> Model:
        uuid = uuid_of("nodeUUID", message.node_uuid)
        await self._changes.carry_out(self._cluster.nodes.stop, uuid)
        return NodeStopped()

    async def _restart_node(self, message: RestartNode) -> Model:
        uuid = uuid_of("nodeUUID", message.node_uuid)
        await self._changes.carry_out(self._cluster.nodes.stop, uuid)
        await self._changes.carry_out(self._cluster.nodes.start, uuid)
        return NodeRestarted()

    async def _create_volume(self, message: CreateVolume) -> Model:
        checked(message)
        source: UUID | str | None = None
        if message.source_snapshot_uuid or message.source_snapshot_name:
            source = uuid_or_name(
                message.source_snapshot_uuid, message.source_snapshot_name, "sourceSnapshotUUID"
            )
        change = await self._changes.carry_out(
            self._cluster.volumes.create,
            message.project,
            name=message.name,
            size_bytes=message.size_bytes or 0,
            replica_count=message.replica_count,
            acl=message.acl,
            ip_acl=message.ip_acl or (ALLOW_ANY,),
            compression=message.compression,
            sector_size_bytes=int(message.sector_size) or DEFAULT_SECTOR_BYTES,
            source_snapshot=source,
            placement_restrictions=message.placement_restrictions,
            qos_policy=_qos_policy(message.qos_policy_uuid, message.qos_policy_name),
            labels=[(label.key, label.value) for label in message.labels],
        )
        return self._describe.volume(change.put[0])

    async def _list_volumes(self, message: ListVolumes) -> Model:
        volumes = self._cluster.volumes.page(
            message.project or None,
            limit=page_size(message.limit),
            offset=optional_uuid("offsetUUID", message.offset_uuid),
            show_all=message.show_all,
            name=message.name or None,
            uuid=optional_uuid("UUID", message.uuid),
            source_snapshot_uuid=optional_uuid("snapshotUUID", message.snapshot_uuid),
            failure_domain=message.failure_domain or None,
        )
        return VolumeList(volumes=tuple(map(self._describe.volume, volumes)))

    async def _get_volume(self, message: GetVolume) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        return self._describe.volume(self._cluster.volumes.find(message.project or None, key))

    async def _update_volume(self, message: UpdateVolume, if_match: str | None) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        for violation in message.violations():
            if violation != "UUID is required":  # a name does as well
                raise InvalidArgument(violation)
        uuid, name = message.qos_policy_uuid, message.qos_policy_name
        await self._changes.carry_out(
            self._cluster.volumes.update,
            message.project,
            key,
            if_match=if_match,
            size_bytes=message.size_bytes,
            force=message.force,
            acl=message.acl,
            ip_acl=message.ip_acl,
            compression=message.compression,
            qos_policy=None
            if uuid is None and name is None
            else _qos_policy(uuid or "", name or ""),
            labels=[(label.key, label.value) for label in message.labels] or None,
            new_name=message.new_name or None,
        )
        return VolumeUpdated()

    async def _delete_volume(self, message: DeleteVolume, if_match: str | None) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        await self._changes.carry_out(
            self._cluster.volumes.delete, message.project or None, key, if_match=if_match
        )
        return VolumeDeleted()

    async def _roll_back_volume(self, message: RollbackVolume) -> Model:
        await self._changes.carry_out(
            self._cluster.volumes.roll_back,
            message.project,
            uuid_or_name(message.uuid, message.name),
            snapshot=uuid_or_name(
                message.source_snapshot_uuid, message.source_snapshot_name, "srcSnapshotUUID"
            ),
        )
        return VolumeRolledBack()

    async def _create_snapshot(self, message: CreateSnapshot) -> Model:
        checked(message)
        kept = message.retention_time
        change = await self._changes.carry_out(
            self._cluster.snapshots.create,
            message.project,
            name=message.name,
            source_volume=uuid_or_name(
                message.source_volume_uuid, message.source_volume_name, "sourceVolumeUUID"
            ),
            description=message.description,
            retention_seconds=None if kept is None else kept.total_seconds(),
        )
        return self._describe.snapshot(change.put[0])

    async def _list_snapshots(self, message: ListSnapshots) -> Model:
        snapshots = self._cluster.snapshots.page(
            message.project,
            limit=page_size(message.limit),
            offset=optional_uuid("offsetUUID", message.offset_uuid),
            show_all=message.show_all,
            name=message.name or None,
            uuid=optional_uuid("UUID", message.uuid),
        )
        return SnapshotList(snapshots=tuple(map(self._describe.snapshot, snapshots)))

    async def _get_snapshot(self, message: GetSnapshot) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        return self._describe.snapshot(self._cluster.snapshots.find(message.project, key))

    async def _delete_snapshot(self, message: DeleteSnapshot, if_match: str | None) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        await self._changes.carry_out(
            self._cluster.snapshots.delete, message.project, key, if_match=if_match
        )
        return SnapshotDeleted()

    async def _list_changed_blocks(self, message: ListChangedBlocks) -> Model:
        base: UUID | str | None = None
        if message.base_uuid or message.base_name:
            base = uuid_or_name(message.base_uuid, message.base_name, "baseSnapshotUUID")
        comparison = self._cluster.snapshots.compare(
            message.project,
            uuid_or_name(message.uuid, message.name, "snapshotUUID"),
            base,
            message.offset_lba,
        )
        return await asyncio.to_thread(changed_blocks, self._describe.store, comparison)
