# SPDX-License-Identifier: Apache-2.0
"""Whether what cinder.conf says of LightOS can work, with the cluster as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lightos.api.credentials import WARNING_DAYS, is_open_to_others
from lightos.api.endpoints import split_endpoint, url_host
from lightos.api.errors import (
    Forbidden,
    LightOSError,
    NotFound,
    Unauthorized,
    Untrusted,
)
from lightos.api.models.cluster import ClusterInfo
from lightos.api.models.nodes import Node, NodeState
from lightos.api.models.policies import Policy, PolicyState, PolicyVisibility
from lightos.api.models.values import DEFAULT_PROJECT
from lightos.doctor.findings import Finding, Findings
from lightos.openstack.cinder.connection import Fabric, is_same_machine
from lightos.openstack.cinder.volume_types import VolumeSpecs

CLUSTER_ADMIN = "system:cluster-admin"
_DAYS_PLENTY = timedelta(days=WARNING_DAYS)


@dataclass(frozen=True)
class LockFacts:
    """`cluster` of cinder.conf, and the lock manager. `where` is its URL without any secret;
    `problem` why it cannot be used, empty when it can or was not tried."""

    cluster: str
    where: str
    is_shared: bool
    problem: str = ""


@dataclass(frozen=True)
class TypeFacts:
    """A volume type: what its specs come to, or what is wrong with them."""

    name: str
    specs: VolumeSpecs | None
    problem: str = ""


@dataclass(frozen=True)
class RecordFacts:
    """The connectors of all attachments in Cinder's database, or why it was not read."""

    problem: str
    connectors: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TokenFacts:
    """The token, without itself: the option it is of, and what it says. `problem`: why there is
    none to use. `file` holds it, with this mode."""

    option: str
    is_set: bool
    file: str
    mode: int
    problem: str = ""
    expires: datetime | None = None
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AddressFacts:
    """What came of asking one API address."""

    address: str
    answer: ClusterInfo | LightOSError


@dataclass(frozen=True)
class ClusterFacts:
    """What the cluster answered to this token: each value is the answer, or the refusal."""

    nodes: tuple[Node, ...] | LightOSError
    projects: Mapping[str, LightOSError | None]
    policies: Mapping[str, Policy | LightOSError]
    """By UUID or name, as the volume type has it."""


@dataclass(frozen=True)
class BackEndFacts:
    """One section with our driver. `problem` is of an option that the driver does not start with;
    `cluster` is None when no address answered, and `types`, the volume types whose volumes may be
    made here, when the database did not."""

    section: str
    unknown_options: tuple[str, ...] = ()
    problem: str = ""
    port: int = 0
    verify: bool = True
    replica_count: int = 0
    token: TokenFacts | None = None
    addresses: tuple[AddressFacts, ...] = ()
    cluster: ClusterFacts | None = None
    types: tuple[TypeFacts, ...] | None = None


@dataclass(frozen=True)
class CinderFacts:
    """All that was looked at, at the time `now`. `problem`: why the files cannot be used."""

    files: str
    now: datetime
    problem: str = ""
    back_ends: tuple[BackEndFacts, ...] = ()
    locks: LockFacts | None = None
    records: RecordFacts | None = None


def findings(facts: CinderFacts) -> list[Finding]:
    """Everything to say of a configuration."""
    found = Findings()
    if facts.problem:
        found.critical("cinder-conf", facts.files, facts.problem, "correct the file")
        return found.all
    if not facts.back_ends:
        said = "no enabled back end has the LightOS driver"
        fix = "add a section with volume_driver as the driver guide has it to enabled_backends"
        found.critical("cinder-conf", facts.files, said, fix)
    for back_end in facts.back_ends:
        _back_end(found, back_end, facts.now)
    if facts.locks:
        _locks(found, facts.locks)
    if facts.records:
        _records(found, facts.records)
    return found.all


# --- one back end ------------------------------------------------------------------------------


def _back_end(found: Findings, facts: BackEndFacts, now: datetime) -> None:
    subject = f"[{facts.section}]"
    for option in facts.unknown_options:
        fix = "correct its name: it has no effect, and the default holds"
        found.warning("option", f"{subject} {option}", "the driver has no such option", fix)
    if facts.problem:
        fix = "correct it: the back end does not start with it"
        found.critical("option", subject, facts.problem, fix)
        return
    if facts.token:
        _token(found, subject, facts.token, now)
    _addresses(found, subject, facts)
    _tls(found, subject, facts)
    if facts.token and not (facts.token.expires and facts.token.expires <= now):
        _refusals(found, facts)
    infos = [each.answer for each in facts.addresses if isinstance(each.answer, ClusterInfo)]
    if infos and _is_one_cluster(found, subject, facts.addresses):
        _endpoints(found, subject, infos[0], facts)
        if facts.cluster:
            _of_cluster(found, facts, facts.cluster)


def _token(found: Findings, subject: str, token: TokenFacts, now: datetime) -> None:
    check, subject = "token", f"{subject} {token.option}"
    if token.problem:
        fix = "write a token of the cluster there; the back end does not start without"
        found.critical(check, subject, token.problem, fix)
        return
    if not token.is_set:
        found.ok(check, subject, "not set, which is for a cluster without multi-tenancy only")
        return
    if is_open_to_others(token.mode):
        said = (
            f"{token.file} has mode {token.mode:04o}, so others on this machine can use the token"
        )
        fix = f"`chmod 0640 {token.file}` with the service's group, or 0600"
        found.warning("token-file", subject, said, fix)
    if token.expires is None:
        found.ok(check, subject, "it does not say when it expires")
        return
    left, when = token.expires - now, f"{token.expires:%Y-%m-%d %H:%M} UTC"
    renew = "renew it; lightos_jwt_file takes a new one without a restart"
    if left <= timedelta():
        found.critical(check, subject, f"it expired {when}", renew)
    elif left < _DAYS_PLENTY:
        found.warning(check, subject, f"{left.days} days left, it expires {when}", renew)
    else:
        found.ok(check, subject, f"{left.days} days left, it expires {when}")


def _addresses(found: Findings, subject: str, facts: BackEndFacts) -> None:
    check = "api-address"
    some_answer = any(_is_reached(each) for each in facts.addresses)
    for each in facts.addresses:
        where = f"{subject} {url_host(each.address)}:{facts.port}"
        error = each.answer
        if isinstance(error, ClusterInfo):
            found.ok(check, where, "the management API answers")
        elif isinstance(error, Untrusted):
            fix = "put the cluster's CA into driver_ssl_cert_path; certificates name the addresses"
            found.critical("tls", where, error.reason, f"{fix} as they are configured")
        elif isinstance(error, Unauthorized | Forbidden):
            found.ok(check, where, "the management API answers")
        else:
            fix = "check the address, lightos_api_port, the node and the network"
            tell = found.warning if some_answer else found.critical
            reason = error.reason.removeprefix(f"{each.address}: ")
            tell(check, where, f"no good answer: {reason}", fix)


def _refusals(found: Findings, facts: BackEndFacts) -> None:
    """Of the token: one finding, whichever addresses said so."""
    refused = [e for e in facts.addresses if isinstance(e.answer, Unauthorized | Forbidden)]
    if refused:
        reasons = {each.answer.reason for each in refused if isinstance(each.answer, LightOSError)}
        said = f"the cluster refused it: {', '.join(sorted(reasons))}"
        fix = "have a token made for this cluster, and for the projects of the volume types"
        found.critical("token", f"[{facts.section}]", said, fix)


def _tls(found: Findings, subject: str, facts: BackEndFacts) -> None:
    if not facts.verify:
        said = "the cluster's certificate is not verified: whoever answers can read the token"
        fix = "driver_ssl_cert_verify = True, and the cluster's CA in driver_ssl_cert_path"
        found.warning("tls", subject, said, fix)
    elif any(_is_reached(each) for each in facts.addresses) and not any(
        isinstance(each.answer, Untrusted) for each in facts.addresses
    ):
        found.ok("tls", subject, "certificates are verified")


def _is_reached(facts: AddressFacts) -> bool:
    return isinstance(facts.answer, ClusterInfo | Unauthorized | Forbidden)


def _is_one_cluster(found: Findings, subject: str, addresses: Sequence[AddressFacts]) -> bool:
    of: dict[str, list[str]] = {}
    for each in addresses:
        if isinstance(each.answer, ClusterInfo):
            of.setdefault(each.answer.uuid, []).append(each.address)
    if len(of) <= 1:
        return True
    said = "the addresses are of different clusters: " + "; ".join(
        f"{', '.join(names)} of {uuid}" for uuid, names in of.items()
    )
    fix = "name the addresses of one cluster only, and give each cluster a back end of its own"
    found.critical("cluster", f"{subject} lightos_api_address", said, fix)
    return False


def _endpoints(found: Findings, subject: str, info: ClusterInfo, facts: BackEndFacts) -> None:
    name = info.cluster_name or info.uuid
    if Fabric.of(info).discovery_services:
        found.ok("cluster", subject, f"{name}, subsystem {info.subsystem_nqn}")
    else:
        said = f"{name} names no discovery or NVMe endpoint, so no host can connect"
        found.critical("cluster", subject, said, "check that the cluster's nodes are active")
    has = {split_endpoint(text, facts.port)[0] for text in info.api_endpoints}
    if len(has) > 1 and len(facts.addresses) == 1:
        said = f"one address is named, and the cluster has {len(has)}: {', '.join(sorted(has))}"
        fix = "name several: cinder-volume does not start while that one is away"
        found.warning("api-address", f"{subject} lightos_api_address", said, fix)


# --- what the cluster has ----------------------------------------------------------------------


def _of_cluster(found: Findings, facts: BackEndFacts, cluster: ClusterFacts) -> None:
    subject = f"[{facts.section}]"
    types = facts.types or ()
    if isinstance(cluster.nodes, LightOSError):
        fix = "no harm, if the token is one of a project only"
        found.warning("nodes", subject, str(cluster.nodes), fix)
    else:
        _nodes(found, subject, cluster.nodes)
        _replicas(found, facts, cluster.nodes)
    for project, error in cluster.projects.items():
        _project(found, facts, project, error, is_wanted=facts.types is not None)
    for each in types:
        _type(found, subject, each, cluster.policies, facts.token)


def _nodes(found: Findings, subject: str, nodes: Sequence[Node]) -> None:
    down = [node for node in nodes if node.state is not NodeState.ACTIVE]
    if not down:
        found.ok("nodes", subject, f"{len(nodes)} nodes, all active")
        return
    shown = ", ".join(f"{node.name} {node.state.wire_name}" for node in down)
    said = f"{len(nodes) - len(down)} of {len(nodes)} nodes active; not {shown}"
    fix = "see the cluster's own tools why"
    (found.warning if len(down) < len(nodes) else found.critical)("nodes", subject, said, fix)


def _replicas(found: Findings, facts: BackEndFacts, nodes: Sequence[Node]) -> None:
    wanted: dict[int, str] = {facts.replica_count: "lightos_default_num_replicas"}
    for each in facts.types or ():
        if each.specs:
            wanted.setdefault(each.specs.replica_count, f"volume type {each.name}")
    active = sum(node.state is NodeState.ACTIVE for node in nodes)
    enough = True
    for count, who in sorted(wanted.items()):
        where = f"[{facts.section}] {who}"
        if count > len(nodes):
            enough = False
            said = f"{count} replicas of {len(nodes)} nodes: no such volume can be made"
            found.critical("replicas", where, said, f"ask for {len(nodes)} at most")
        elif count > active:
            enough = False
            said = f"{count} replicas, with {active} nodes active"
            found.warning("replicas", where, said, "bring the other nodes back")
    if enough:
        said = f"{', '.join(map(str, sorted(wanted)))} wanted, {active} nodes active"
        found.ok("replicas", f"[{facts.section}]", said)


def _project(
    found: Findings,
    facts: BackEndFacts,
    project: str,
    error: LightOSError | None,
    *,
    is_wanted: bool,
) -> None:
    """`is_wanted`: volume types are known, so it is one that volumes shall be in."""
    subject = f"[{facts.section}] project {project}"
    roles = facts.token.roles if facts.token else frozenset()
    tell = found.critical if is_wanted else found.warning
    if isinstance(error, NotFound):
        fix = "make it on the cluster, or name another with lightos:project_name in volume types"
        tell("project", subject, "the cluster has no such project", fix)
    elif error is not None:
        fix = f"have a token made with the role {project}:admin"
        tell("project", subject, f"the token may not use it: {error.reason}", fix)
    elif f"{project}:viewer" in roles and not {CLUSTER_ADMIN, f"{project}:admin"} & roles:
        fix = f"have a token made with the role {project}:admin"
        tell("project", subject, "the token may only read it", fix)
    else:
        found.ok("project", subject, "the token may use it")


def _type(
    found: Findings,
    subject: str,
    facts: TypeFacts,
    policies: Mapping[str, Policy | LightOSError],
    token: TokenFacts | None,
) -> None:
    where = f"{subject} volume type {facts.name}"
    if facts.specs is None:
        fix = "correct it: a volume of this type cannot be made"
        found.critical("volume-type", where, facts.problem, fix)
        return
    limit, name = facts.specs.qos_limit, policy_of(facts.specs)
    policy = policies.get(name)
    if policy is None:
        return
    check = "qos-policy"
    if isinstance(policy, Policy):
        scope = policy.rate_limit
        if limit and not limit.is_that_of(policy):
            said = f"QoS policy {policy.name} has another limit than its name says"
            found.critical(check, where, said, "delete that policy, or correct its limit")
        elif policy.state is not PolicyState.ACTIVE:
            said = f"QoS policy {policy.name} is {policy.state.wire_name}"
            found.warning(check, where, said, "wait for it to be Active, or have it made again")
        elif (
            scope is not None
            and scope.visibility is PolicyVisibility.SCOPED
            and facts.specs.project not in scope.projects
        ):
            said = f"QoS policy {policy.name} is not for project {facts.specs.project}"
            found.critical(check, where, said, "have the project added to the policy's scope")
        else:
            found.ok(check, where, f"QoS policy {policy.name} is there")
    elif limit and isinstance(policy, NotFound):
        if token and token.roles and CLUSTER_ADMIN not in token.roles:
            said = f"there is no QoS policy {name}, and the token may not make it"
            fix = "have it made, or give Cinder a token with the role system:cluster-admin"
            found.warning(check, where, said, fix)
        else:
            found.ok(check, where, f"QoS policy {name} is made when it is needed")
    elif isinstance(policy, NotFound):
        said = f"the cluster has no QoS policy {name}, so no volume of this type is made"
        found.critical(check, where, said, "make it, or correct lightos:qos_policy of the type")
    else:
        found.warning(check, where, str(policy), "ask an administrator of the cluster")


# --- the deployment ----------------------------------------------------------------------------


def _locks(found: Findings, locks: LockFacts) -> None:
    check, subject = "lock-manager", f"[coordination] {locks.where}"
    if not locks.cluster:
        found.ok(check, subject, "no cluster is set, so one cinder-volume has these back ends")
    elif not locks.is_shared:
        said = f"cluster {locks.cluster} is set, and these locks are of one machine only"
        fix = "set backend_url to etcd or Redis, the same on every controller"
        found.critical(check, subject, said, fix)
    elif locks.problem:
        fix = "start it, or correct backend_url: no attach or detach works without"
        found.critical(check, subject, locks.problem, fix)
    else:
        found.ok(check, subject, f"it answers; cluster {locks.cluster}")


def _records(found: Findings, records: RecordFacts) -> None:
    if records.problem:
        said = f"volume types and hosts were not checked: {records.problem}"
        fix = "see that it is reached from here, by this user and this environment"
        found.warning("database", "[database] connection", said, fix)
        return
    shared = shared_nqns(records.connectors)
    for nqn, names in shared.items():
        said = f"the attached hosts {' and '.join(names)} have it both"
        fix = (
            "give one an NQN and a host id of its own (nvme gen-hostnqn), and restart its services"
        )
        found.critical("host-nqn", nqn, said, fix)
    if not shared:
        number = len({connector["nqn"] for connector in records.connectors})
        found.ok("host-nqn", "attached hosts", f"{number}, each with an NQN of its own")


def shared_nqns(connectors: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Host NQNs that several machines have, with the names of these."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for connector in connectors:
        known = machines.setdefault(str(connector["nqn"]), [])
        if not any(is_same_machine(connector, other) for other in known):
            known.append(connector)
    return {
        nqn: tuple(sorted(str(each.get("host")) for each in each_machine))
        for nqn, each_machine in machines.items()
        if len(each_machine) > 1
    }


def projects_of(types: Iterable[TypeFacts] | None) -> tuple[str, ...]:
    """The projects that a back end's volumes are in; the default one where types are not known."""
    named = {each.specs.project for each in types or () if each.specs}
    return tuple(sorted(named or {DEFAULT_PROJECT}))


def policies_of(types: Iterable[TypeFacts] | None) -> tuple[VolumeSpecs, ...]:
    """The specs that need a QoS policy of the cluster."""
    return tuple(each.specs for each in types or () if each.specs and each.specs.has_qos)


def policy_of(specs: VolumeSpecs) -> str:
    """UUID or name of the QoS policy that volumes shall have; empty for none."""
    if specs.qos_limit:
        return specs.qos_limit.policy_name
    return specs.qos_policy_uuid or specs.qos_policy_name
