# SPDX-License-Identifier: Apache-2.0
"""The cluster's records as the messages of the management API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from lightos.api.models.cluster import (
    AuthenticationMode,
    ClusterHealth,
    ClusterInfo,
    ClusterStatistics,
    Version,
)
from lightos.api.models.cluster import (
    Cluster as ClusterMessage,
)
from lightos.api.models.credentials import Credential, CredentialKind, CredentialType
from lightos.api.models.events import (
    ComponentCluster,
    ComponentNode,
    ComponentVolume,
    ComponentVolumeList,
    ComponentVolumes,
    EventType,
    ReportingService,
)
from lightos.api.models.events import (
    Event as EventMessage,
)
from lightos.api.models.nodes import Node, NodeStatus
from lightos.api.models.policies import (
    BandwidthLimit,
    IopsLimit,
    IopsPerGbLimit,
    Policy,
    PolicyState,
    PolicyVisibility,
    RateLimit,
)
from lightos.api.models.projects import DefaultPolicy, PolicyType, Project
from lightos.api.models.servers import Server, ServerState, ServerUpgradeStatus
from lightos.api.models.snapshots import Snapshot
from lightos.api.models.values import HealthState, Label
from lightos.api.models.volumes import Volume, VolumeStatistics
from lightos.lab.auth import OWN_CREDENTIAL
from lightos.lab.cluster import Cluster
from lightos.lab.connected_hosts import ConnectedHosts
from lightos.lab.event_log import Event, EventLog
from lightos.lab.placement import MAX_REPLICAS
from lightos.lab.records import (
    CredentialRecord,
    LimitKind,
    NodeRecord,
    NodeState,
    PolicyRecord,
    ProjectRecord,
    ProtectionState,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.traffic import Traffic
from lightos.lab.view import BlockStore

LAB_VERSION = "v3.13.1~lab"


def endpoint(address: str, port: int) -> str:
    """`ip:port`, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True)
class Description:
    """Describes one cluster, with the hosts that are connected, their I/O, and what happened.

    `free_bytes` tells the free space of the disk under the store, `public_key_pem` the key that
    the lab signs its own tokens with.
    """

    cluster: Cluster
    store: BlockStore
    hosts: ConnectedHosts
    events: EventLog
    traffic: Traffic
    api_port: int
    free_bytes: Callable[[], int]
    public_key_pem: Callable[[], bytes]

    def version(self) -> Version:
        return Version(api_version="v2.0")

    def cluster_info(self) -> ClusterInfo:
        cluster, nodes = self.cluster, self.cluster.nodes.values()
        return ClusterInfo(
            uuid=str(cluster.record.uuid),
            subsystem_nqn=cluster.subsystem_nqn,
            current_max_replicas=self._max_replicas(),
            supported_max_replicas=MAX_REPLICAS,
            api_endpoints=tuple(endpoint(n.address, self.api_port) for n in nodes),
            discovery_endpoints=tuple(endpoint(n.address, cluster.discovery_port) for n in nodes),
            nvme_endpoints=tuple(endpoint(n.address, cluster.nvme_port) for n in nodes),
            cluster_name=cluster.record.name,
            in_band_auth_mode=AuthenticationMode.DISABLED,
        )

    def whole_cluster(self) -> ClusterMessage:
        """The cluster with health and statistics."""
        info = self.cluster_info()
        return ClusterMessage(
            uuid=info.uuid,
            subsystem_nqn=info.subsystem_nqn,
            current_max_replicas=info.current_max_replicas,
            supported_max_replicas=info.supported_max_replicas,
            statistics=self._statistics(),
            health=self._health(),
            min_version_in_cluster=LAB_VERSION,
            min_allowed_version=LAB_VERSION,
            max_allowed_version=LAB_VERSION,
            api_endpoints=info.api_endpoints,
            discovery_endpoints=info.discovery_endpoints,
            cluster_name=info.cluster_name,
            in_band_auth_mode=info.in_band_auth_mode,
        )

    def node(self, node: NodeRecord) -> Node:
        state = self.cluster.nodes.state_of(node)
        return Node(
            name=node.name,
            uuid=str(node.uuid),
            state=state,
            status=NodeStatus.CONNECTIVITY_OK
            if state is NodeState.ACTIVE
            else NodeStatus.CONNECTIVITY_PROBLEM,
            nvme_endpoint=endpoint(node.address, self.cluster.nvme_port),
            failure_domains=(node.failure_domain,),
            hostname=node.name,
            server_uuid=str(node.uuid),
            managed_devices=1,
            max_nvme_devices=1,
        )

    def server(self, node: NodeRecord) -> Server:
        """The machine of a node: each has one of its own, with the node's UUID and name."""
        serves = self.cluster.nodes.state_of(node) is NodeState.ACTIVE
        return Server(
            uuid=str(node.uuid),
            name=node.name,
            node_uuids=(str(node.uuid),),
            state=ServerState.ENABLED,
            server_endpoints=(endpoint(node.address, self.api_port),),
            api_endpoints=(endpoint(node.address, self.api_port),),
            version=LAB_VERSION,
            upgrade_status=ServerUpgradeStatus.NONE,
            health=HealthState.OK if serves else HealthState.ERROR,
        )

    def event(self, event: Event) -> EventMessage:
        told = EventMessage(
            event_id=str(event.number),
            time=event.at,
            event_type=event.event_type,
            severity=event.news.severity,
            name=event.news.name,
            reporting_service=ReportingService.CM,
            description=event.news.text,
        )
        match event.event_type:
            case EventType.NODE:
                (node,) = event.components
                return replace(told, node=ComponentNode(uuid=str(node.uuid), name=node.name))
            case EventType.VOLUME:
                volumes = tuple(
                    ComponentVolume(uuid=str(each.uuid), name=each.name)
                    for each in event.components
                )
                projects = {event.project: ComponentVolumeList(volumes=volumes)}
                return replace(told, volumes=ComponentVolumes(projects=projects))
        cluster = self.cluster.record
        whole = ComponentCluster(uuid=str(cluster.uuid), name=cluster.name)
        return replace(told, cluster=whole)

    def credential(self, credential: CredentialRecord) -> Credential:
        return _credential(credential.project, credential.name, credential.public_key.encode())

    def own_credential(self, project: str) -> Credential:
        """That of the lab's own tokens."""
        return _credential(project, OWN_CREDENTIAL, self.public_key_pem())

    def volume(self, volume: VolumeRecord) -> Volume:
        primary = self.cluster.nodes.primary(volume.group_id)
        return Volume(
            uuid=str(volume.uuid),
            name=volume.name,
            project=volume.project,
            state=volume.state,
            protection_state=self.cluster.nodes.protection_state(volume),
            size_bytes=volume.size_bytes,
            replica_count=volume.replica_count,
            compression=volume.compression,
            acl=volume.acl,
            ip_acl=volume.ip_acl,
            etag=str(volume.etag),
            nsid=volume.nsid,
            primary_node_uuid=str(primary) if primary else "",
            node_uuids=self._replicas(volume.group_id),
            sector_size_bytes=volume.sector_size_bytes,
            source_snapshot_uuid=str(volume.source_snapshot_uuid or ""),
            source_snapshot_name=volume.source_snapshot_name,
            placement_restrictions=volume.placement_restrictions,
            qos_policy_uuid=str(volume.qos_policy_uuid or ""),
            qos_policy_name=self.cluster.tenants.policies.name(volume.qos_policy_uuid),
            labels=_labels(volume),
            creation_time=volume.created_at,
            statistics=self._volume_statistics(volume),
        )

    def snapshot(self, snapshot: SnapshotRecord) -> Snapshot:
        primary = self.cluster.nodes.primary(snapshot.group_id)
        kept = snapshot.retention_seconds
        return Snapshot(
            uuid=str(snapshot.uuid),
            name=snapshot.name,
            project=snapshot.project,
            state=snapshot.state,
            description=snapshot.description,
            creation_time=None if snapshot.state is SnapshotState.CREATING else snapshot.created_at,
            retention_time=None if kept is None else timedelta(seconds=kept),
            source_volume_uuid=str(snapshot.source_volume_uuid),
            source_volume_name=snapshot.source_volume_name,
            size_bytes=snapshot.size_bytes,
            replica_count=snapshot.replica_count,
            compression=snapshot.compression,
            acl=snapshot.acl,
            ip_acl=snapshot.ip_acl,
            etag=str(snapshot.etag),
            primary_node_uuid=str(primary) if primary else "",
            node_uuids=self._replicas(snapshot.group_id),
            sector_size_bytes=snapshot.sector_size_bytes,
            labels=_labels(snapshot),
        )

    def policy(self, policy: PolicyRecord, *, tell_projects: bool) -> Policy:
        """A policy; who may use it is for administrators only."""
        visibility = PolicyVisibility.UNAVAILABLE
        if tell_projects:
            scoped, everywhere = PolicyVisibility.SCOPED, PolicyVisibility.GLOBAL
            visibility = scoped if policy.projects else everywhere
        return Policy(
            uuid=str(policy.uuid),
            name=policy.name,
            description=policy.description,
            state=PolicyState.ACTIVE,
            rate_limit=replace(
                _limit(policy),
                visibility=visibility,
                projects=policy.projects if tell_projects else (),
            ),
        )

    def project(self, project: ProjectRecord) -> Project:
        default = project.default_policy_uuid
        policies = () if default is None else (_default_policy(str(default)),)
        return Project(
            uuid=str(project.uuid),
            name=project.name,
            description=project.description,
            default_policies=policies,
        )

    def _replicas(self, group_id: int) -> tuple[str, ...]:
        return tuple(str(uuid) for uuid in self.cluster.nodes.replicas(group_id))

    def _max_replicas(self) -> int:
        return min(MAX_REPLICAS, len(self.cluster.nodes))

    def _volume_statistics(self, volume: VolumeRecord) -> VolumeStatistics | None:
        if volume.state is VolumeState.DELETING:
            return None  # its blocks may be gone by now
        used = self.store.used_bytes(volume.uuid)
        return VolumeStatistics(
            logical_used_bytes=used,
            physical_used_bytes=used,
            compression_ratio=1.0,
            physical_owned_capacity_bytes=used,
            user_written_bytes=self.traffic.of(volume.uuid).written_bytes,
        )

    def _statistics(self) -> ClusterStatistics:
        used, free = self.store.total_used_bytes(), self.free_bytes()
        logical = sum(volume.size_bytes for volume in self.cluster.volumes.values())
        return ClusterStatistics(
            installed_physical_bytes=used + free,
            managed_physical_bytes=used + free,
            effective_physical_bytes=used + free,
            logical_bytes=logical,
            logical_used_bytes=used,
            physical_used_bytes=used,
            physical_used_with_parity_bytes=used,
            free_physical_bytes=free,
            estimated_free_logical_bytes=free,
            estimated_logical_bytes=used + free,
            compression_ratio=1.0,
        )

    def _health(self) -> ClusterHealth:
        states = [self.cluster.nodes.protection_state(v) for v in self.cluster.volumes.values()]
        inactive = sum(
            self.cluster.nodes.state_of(node) is not NodeState.ACTIVE
            for node in self.cluster.nodes.values()
        )
        degraded = states.count(ProtectionState.DEGRADED)
        unavailable = states.count(ProtectionState.NOT_AVAILABLE)
        state = HealthState.OK
        if unavailable:
            state = HealthState.ERROR
        elif degraded or inactive:
            state = HealthState.WARNING
        return ClusterHealth(
            state=state,
            degraded_volumes=degraded,
            not_available_volumes=unavailable,
            inactive_nodes=inactive,
            healthy_volumes=states.count(ProtectionState.FULLY_PROTECTED),
        )


def _credential(project: str, name: str, public_key: bytes) -> Credential:
    return Credential(
        project=project,
        credential_id=name,
        credential_type=CredentialType.RS256_PUBLIC_KEY,
        payload=public_key,
        kind=CredentialKind.USER,
    )


def _limit(policy: PolicyRecord) -> RateLimit:
    read, write = policy.read_limit, policy.write_limit
    match policy.limit:
        case LimitKind.IOPS:
            return RateLimit(iops=IopsLimit(read_iops=read, write_iops=write))
        case LimitKind.MB_PER_SECOND:
            bandwidth = BandwidthLimit(read_mb_per_second=read, write_mb_per_second=write)
            return RateLimit(bandwidth=bandwidth)
        case LimitKind.IOPS_PER_GB:
            per_gb = IopsPerGbLimit(read_iops_per_gb=read, write_iops_per_gb=write)
            return RateLimit(iops_per_gb=per_gb)


def _default_policy(uuid: str) -> DefaultPolicy:
    return DefaultPolicy(policy_type=PolicyType.QOS_RATE_LIMIT, policy_uuid=uuid)


def _labels(record: VolumeRecord | SnapshotRecord) -> tuple[Label, ...]:
    return tuple(Label(key=key, value=value) for key, value in record.labels)
