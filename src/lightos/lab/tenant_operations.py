# SPDX-License-Identifier: Apache-2.0
"""What the operations on QoS policies, projects and credentials do.

Administrators of the cluster write policies and projects (`lightos.lab.rest`), those of a project
its credentials too; everyone else reads the projects of
their roles and the policies that those may use, without who else may.
"""

from __future__ import annotations

from uuid import UUID

from lightos.api.models.credentials import (
    CreateCredential,
    CredentialDeleted,
    CredentialList,
    CredentialType,
    DeleteCredential,
    GetCredential,
    ListCredentials,
)
from lightos.api.models.policies import (
    BandwidthLimit,
    CreatePolicy,
    DeletePolicy,
    GetPolicy,
    IopsLimit,
    IopsPerGbLimit,
    ListPolicies,
    PolicyDeleted,
    PolicyList,
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
    PolicyType,
    ProjectDeleted,
    ProjectList,
    ProjectUpdated,
    UpdateProject,
)
from lightos.api.wire import Model
from lightos.lab.arguments import checked, optional_uuid, uuid_or_name
from lightos.lab.auth import OWN_CREDENTIAL, Caller
from lightos.lab.changes import Changes
from lightos.lab.describe import Description
from lightos.lab.errors import InvalidArgument, PermissionDenied
from lightos.lab.records import LimitKind
from lightos.lab.tenants import Tenants


class TenantOperations:
    """The operations on policies, projects and credentials, each with its message and who calls."""

    def __init__(self, description: Description, changes: Changes) -> None:
        self._describe = description
        self._tenants: Tenants = description.cluster.tenants
        self._changes = changes

    async def create_policy(self, message: CreatePolicy, _caller: Caller) -> Model:
        checked(message)
        limit = _limit(message.rate_limit)
        projects = _projects(message.rate_limit)
        if limit is None or projects is None:
            raise InvalidArgument(
                f"QoS policy {message.name} needs policyVisibility (Global, or Scoped with "
                "projectsNamesScope) and one of limitIOPS, limitBw and limitIOPSPerGB"
            )
        kind, read_limit, write_limit = limit
        change = await self._changes.carry_out(
            self._tenants.create_policy,
            name=message.name,
            description=message.description,
            projects=projects,
            limit=kind,
            read_limit=read_limit,
            write_limit=write_limit,
        )
        return self._describe.policy(change.put[0], tell_projects=True)

    async def list_policies(self, message: ListPolicies, caller: Caller) -> Model:
        found = self._tenants.list_policies(
            name=message.name or None,
            uuid=optional_uuid("UUID", message.uuid),
            projects=self._asking(message.project, caller),
        )
        tell_projects = caller.is_cluster_admin and not message.project
        return PolicyList(
            policies=tuple(self._describe.policy(p, tell_projects=tell_projects) for p in found)
        )

    async def get_policy(self, message: GetPolicy, caller: Caller) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        policy = self._tenants.find_policy(key, self._asking(message.project, caller))
        return self._describe.policy(policy, tell_projects=caller.is_cluster_admin)

    async def update_policy(self, message: UpdatePolicy, _caller: Caller) -> Model:
        checked(message)
        await self._changes.carry_out(
            self._tenants.update_policy,
            uuid_or_name(message.uuid, message.name),
            description=message.description or None,
            projects=_projects(message.rate_limit),
            limit=_limit(message.rate_limit),
        )
        return PolicyUpdated()

    async def delete_policy(self, message: DeletePolicy, _caller: Caller) -> Model:
        key = uuid_or_name(message.uuid, message.name)
        await self._changes.carry_out(self._tenants.delete_policy, key)
        return PolicyDeleted()

    async def create_project(self, message: CreateProject, _caller: Caller) -> Model:
        checked(message)
        change = await self._changes.carry_out(
            self._tenants.create_project,
            message.name,
            description=message.description,
            default_policy=_default_policy(message.default_policies),
        )
        return self._describe.project(change.put[0])

    async def list_projects(self, _message: ListProjects, caller: Caller) -> Model:
        found = (
            project
            for _, project in sorted(self._tenants.projects.items())
            if caller.may_read(project.name)
        )
        return ProjectList(projects=tuple(map(self._describe.project, found)))

    async def get_project(self, message: GetProject, caller: Caller) -> Model:
        self._asking(message.name, caller)
        return self._describe.project(self._tenants.find_project(message.name))

    async def update_project(self, message: UpdateProject, _caller: Caller) -> Model:
        checked(message)
        await self._changes.carry_out(
            self._tenants.update_project,
            message.name,
            default_policy=_default_policy(message.default_policies),
        )
        return ProjectUpdated()

    async def delete_project(self, message: DeleteProject, _caller: Caller) -> Model:
        await self._changes.carry_out(self._tenants.delete_project, message.name)
        return ProjectDeleted()

    async def create_credential(self, message: CreateCredential, _caller: Caller) -> Model:
        checked(message)
        if message.credential_type is not CredentialType.RS256_PUBLIC_KEY:
            raise InvalidArgument(
                f"credentials of type {message.credential_type.wire_name} are not supported here; "
                f"{CredentialType.RS256_PUBLIC_KEY.wire_name} is"
            )
        change = await self._changes.carry_out(
            self._tenants.create_credential,
            message.project,
            message.credential_id,
            message.payload,
        )
        return self._describe.credential(change.put[0])

    async def list_credentials(self, message: ListCredentials, _caller: Caller) -> Model:
        made = self._tenants.list_credentials(message.project)
        own = self._describe.own_credential(message.project)
        return CredentialList(credentials=(own, *map(self._describe.credential, made)))

    async def get_credential(self, message: GetCredential, _caller: Caller) -> Model:
        if message.credential_id == OWN_CREDENTIAL:
            self._tenants.check_credential_project(message.project)
            return self._describe.own_credential(message.project)
        found = self._tenants.find_credential(message.project, message.credential_id)
        return self._describe.credential(found)

    async def delete_credential(self, message: DeleteCredential, _caller: Caller) -> Model:
        await self._changes.carry_out(
            self._tenants.delete_credential, message.project, message.credential_id
        )
        return CredentialDeleted()

    def _asking(self, project: str, caller: Caller) -> frozenset[str] | None:
        """The projects for which a caller asks: one that it names, or all that it may read."""
        if not project:
            return caller.readable_projects
        if not caller.may_read(project):
            raise PermissionDenied(f"the token's roles do not cover project {project}")
        self._tenants.check_project(project)
        return frozenset({project})


def _limit(asked: RateLimit | None) -> tuple[LimitKind, int, int] | None:
    """Kind, read limit and write limit; None when none is given."""
    match asked and asked.limit:
        case IopsLimit(read_iops=read, write_iops=write):
            return LimitKind.IOPS, read, write
        case BandwidthLimit(read_mb_per_second=read, write_mb_per_second=write):
            return LimitKind.MB_PER_SECOND, read, write
        case IopsPerGbLimit(read_iops_per_gb=read, write_iops_per_gb=write):
            return LimitKind.IOPS_PER_GB, read, write
    return None


def _projects(asked: RateLimit | None) -> tuple[str, ...] | None:
    """The projects of a Scoped policy; none for a Global one; None when neither is said."""
    if asked is None:
        return None
    if asked.visibility is PolicyVisibility.GLOBAL:
        if asked.projects:
            raise InvalidArgument("a Global policy has no projectsNamesScope")
        return ()
    if asked.visibility is PolicyVisibility.SCOPED and not asked.projects:
        raise InvalidArgument("a Scoped policy needs projectsNamesScope")
    return asked.projects or None


def _default_policy(asked: tuple[DefaultPolicy, ...]) -> UUID | None:
    """The UUID of the QoS policy among a project's default policies."""
    if len(asked) > 1:
        raise InvalidArgument("a project has one default policy here: for qosRateLimit")
    for policy in asked:
        if policy.policy_type is not PolicyType.QOS_RATE_LIMIT:
            raise InvalidArgument(
                f"default policies of type {policy.policy_type.wire_name} are not supported here"
            )
        return optional_uuid("policyUUID", policy.policy_uuid)
    return None
