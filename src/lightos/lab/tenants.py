# SPDX-License-Identifier: Apache-2.0
"""Projects, credentials and QoS policies: who shares the cluster, and how much a volume may do.

Operations check what is asked and return the `Change` to carry out, as those of the cluster do.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from lightos.api.models.values import DEFAULT_PROJECT
from lightos.lab.auth import OWN_CREDENTIAL, public_key
from lightos.lab.changes import Change
from lightos.lab.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from lightos.lab.names import SYSTEM, check_name, valid_project_name
from lightos.lab.policies import Policies, is_usable_by, kept_limit, rate_limits
from lightos.lab.records import (
    CredentialRecord,
    LimitKind,
    PolicyRecord,
    ProjectRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.view import RateLimits

NAMED_IN_REFUSALS = 3
NO_POLICY = ""
"""Asks for no policy of a volume's own: its project's default counts, if there is one."""

_OWN_PROJECTS = (DEFAULT_PROJECT, SYSTEM)
_ENDING = (VolumeState.DELETING, VolumeState.FAILED)


class Tenants:
    """The projects, credentials and policies of one cluster."""

    def __init__(
        self,
        projects: Iterable[ProjectRecord],
        policies: Iterable[PolicyRecord],
        credentials: Iterable[CredentialRecord],
        volumes: Mapping[UUID, VolumeRecord],
        snapshots: Mapping[UUID, SnapshotRecord],
    ) -> None:
        """`volumes` and `snapshots` are the cluster's own tables, as they are now."""
        self.projects = {project.name: project for project in projects}
        self.policies = Policies(policies)
        self.credentials = {(each.project, each.name): each for each in credentials}
        self._volumes = volumes
        self._snapshots = snapshots

    # Policies

    def create_policy(
        self,
        *,
        name: str,
        description: str,
        projects: Sequence[str],
        limit: LimitKind,
        read_limit: int,
        write_limit: int,
    ) -> Change[PolicyRecord]:
        """Make a policy that `projects` may use, or every project where there are none.

        Raises InvalidArgument (name), NotFound (project), AlreadyExists.
        """
        check_name("policy name", name)
        for project in projects:
            self.check_project(project)
        if (namesake := self.policies.find(name)) is not None:
            raise AlreadyExists(f"QoS policy {name} already exists, with UUID {namesake.uuid}")
        policy = PolicyRecord(
            uuid=uuid4(),
            name=name,
            description=description,
            projects=tuple(sorted(set(projects))),
            limit=limit,
            read_limit=kept_limit(limit, read_limit),
            write_limit=kept_limit(limit, write_limit),
        )
        return Change(put=[policy])

    def find_policy(self, key: UUID | str, projects: Collection[str] | None = None) -> PolicyRecord:
        """The policy of a UUID or a name, if one of `projects` may use it. Raises NotFound."""
        policy = self.policies.find(key)
        if policy is None or not is_usable_by(policy, projects):
            raise NotFound(f"QoS policy {key} does not exist")
        return policy

    def list_policies(
        self,
        *,
        name: str | None = None,
        uuid: UUID | None = None,
        projects: Collection[str] | None = None,
    ) -> list[PolicyRecord]:
        """Policies that one of `projects` may use, in ascending UUID."""
        return [
            self.policies[key]
            for key in sorted(self.policies)
            if uuid in (None, key)
            and name in (None, self.policies[key].name)
            and is_usable_by(self.policies[key], projects)
        ]

    def update_policy(
        self,
        key: UUID | str,
        *,
        description: str | None = None,
        projects: Sequence[str] | None = None,
        limit: tuple[LimitKind, int, int] | None = None,
    ) -> Change[PolicyRecord]:
        """Change what is given; `limit` is kind, read limit and write limit.

        Volumes that have the policy are limited so at once. Raises NotFound (policy, project)
        and FailedPrecondition (a project that uses it would lose it).
        """
        policy = self.find_policy(key)
        if description is not None:
            policy = replace(policy, description=description)
        if projects is not None:
            for project in projects:
                self.check_project(project)
            policy = replace(policy, projects=tuple(sorted(set(projects))))
            self._check_not_used_elsewhere(policy)
        if limit is not None:
            kind, read_limit, write_limit = limit
            policy = replace(
                policy,
                limit=kind,
                read_limit=kept_limit(kind, read_limit),
                write_limit=kept_limit(kind, write_limit),
            )
        return Change(put=[policy])

    def delete_policy(self, key: UUID | str) -> Change[Record]:
        """Forget a policy that nothing uses. Raises NotFound and FailedPrecondition (in use)."""
        policy = self.find_policy(key)
        users = [
            *(f"project {name} as its default" for name in self._default_of(policy)),
            *(f"volume {volume.name} of project {volume.project}" for volume in self.users(policy)),
        ]
        if users:
            raise FailedPrecondition(f"QoS policy {policy.name} is in use by {_some(users)}")
        return Change(drop=[policy])

    def policy_for_volume(self, project: str, key: UUID | str) -> UUID | None:
        """The policy that a volume gets which asks for `key`. Raises InvalidArgument for none.

        404 would say that the volume does not exist.
        """
        if key == NO_POLICY:
            return self.projects[project].default_policy_uuid
        policy = self.policies.find(key)
        if policy is None or not is_usable_by(policy, {project}):
            raise InvalidArgument(f"QoS policy {key} does not exist for project {project}")
        return policy.uuid

    def rate_limits(self, volume: VolumeRecord) -> RateLimits:
        """What a volume may do."""
        if volume.qos_policy_uuid is None:
            return RateLimits()
        return rate_limits(self.policies.get(volume.qos_policy_uuid), volume.size_bytes)

    def users(self, policy: PolicyRecord) -> Iterator[VolumeRecord]:
        """The volumes that have a policy, but for those that are about to go."""
        return (
            volume
            for volume in self._volumes.values()
            if volume.qos_policy_uuid == policy.uuid and volume.state not in _ENDING
        )

    def _default_of(self, policy: PolicyRecord) -> Iterator[str]:
        return (
            project.name
            for project in self.projects.values()
            if project.default_policy_uuid == policy.uuid
        )

    def _check_not_used_elsewhere(self, policy: PolicyRecord) -> None:
        using = {volume.project for volume in self.users(policy)} | set(self._default_of(policy))
        losing = sorted(name for name in using if not is_usable_by(policy, {name}))
        if losing:
            raise FailedPrecondition(
                f"QoS policy {policy.name} is in use in projects {_some(losing)}; "
                "leave them in projectsNamesScope"
            )

    # Projects

    def check_project(self, name: str) -> None:
        """Raises NotFound for a project that does not exist."""
        if name not in self.projects:
            raise NotFound(f"project {name} does not exist")

    def find_project(self, name: str) -> ProjectRecord:
        """Raises NotFound."""
        self.check_project(name)
        return self.projects[name]

    def create_project(
        self, name: str, *, description: str, default_policy: UUID | None
    ) -> Change[ProjectRecord]:
        """Make a project. Raises InvalidArgument (name, policy) and AlreadyExists."""
        if not valid_project_name(name):
            raise InvalidArgument(
                f"project name {name[:64]!r} is not valid: 1 to 63 lower-case letters, digits, "
                "dots and dashes, a letter or digit first and last"
            )
        if name == SYSTEM:
            raise InvalidArgument(f"project name {name} is the cluster's own; choose another")
        if name in self.projects:
            raise AlreadyExists(f"project {name} already exists")
        self._check_default_policy(name, default_policy)
        return Change(put=[ProjectRecord(uuid4(), name, description, default_policy)])

    def update_project(self, name: str, *, default_policy: UUID | None) -> Change[ProjectRecord]:
        """Give new volumes of a project another default policy; existing ones keep theirs.

        Raises NotFound and InvalidArgument (policy).
        """
        project = self.find_project(name)
        self._check_default_policy(name, default_policy)
        return Change(put=[replace(project, default_policy_uuid=default_policy)])

    def delete_project(self, name: str) -> Change[Record]:
        """Forget a project that holds nothing. Raises NotFound and FailedPrecondition."""
        if name in _OWN_PROJECTS:
            raise FailedPrecondition(f"project {name} is the cluster's own and stays")
        project = self.find_project(name)
        objects: Iterator[VolumeRecord | SnapshotRecord] = itertools.chain(
            self._volumes.values(), self._snapshots.values()
        )
        held = [
            *(f"{each.kind} {each.name}" for each in objects if each.project == name),
            *(f"QoS policy {p.name}" for p in self.policies.values() if name in p.projects),
        ]
        if held:
            raise FailedPrecondition(f"project {name} is in use by {_some(held)}")
        credentials = [each for each in self.credentials.values() if each.project == name]
        return Change(drop=[project, *credentials])

    def _check_default_policy(self, project: str, uuid: UUID | None) -> None:
        if uuid is None:
            return
        policy = self.policies.get(uuid)
        if policy is None or not is_usable_by(policy, {project}):
            raise InvalidArgument(f"QoS policy {uuid} does not exist for project {project}")

    # Credentials

    def create_credential(
        self, project: str, name: str, payload: bytes
    ) -> Change[CredentialRecord]:
        """Have tokens of a project, or of `system`, checked with one more RSA key, in PEM.

        Raises InvalidArgument (name, payload), NotFound (project) and AlreadyExists.
        """
        self.check_credential_project(project)
        check_name("credential ID", name)
        if name == OWN_CREDENTIAL or (project, name) in self.credentials:
            raise AlreadyExists(f"credential {name} already exists in project {project}")
        try:
            public_key(payload)
            text = payload.decode()
        except ValueError as cause:
            raise InvalidArgument(
                f"the payload of credential {name} is not an RSA public key in PEM: {cause}"
            ) from None
        return Change(put=[CredentialRecord(uuid4(), project, name, text)])

    def find_credential(self, project: str, name: str) -> CredentialRecord:
        """One that was made, not the lab's own. Raises NotFound."""
        self.check_credential_project(project)
        if (found := self.credentials.get((project, name))) is None:
            raise NotFound(f"credential {name[:64]} does not exist in project {project}")
        return found

    def list_credentials(self, project: str) -> list[CredentialRecord]:
        """Those that were made in a project, by name. Raises NotFound."""
        self.check_credential_project(project)
        return [each for key, each in sorted(self.credentials.items()) if key[0] == project]

    def delete_credential(self, project: str, name: str) -> Change[CredentialRecord]:
        """Refuse tokens of a credential from now on. Raises NotFound and FailedPrecondition."""
        if name == OWN_CREDENTIAL:
            self.check_credential_project(project)
            raise FailedPrecondition(
                f"credential {name} is the lab's own and stays; to have tokens of it refused: "
                "`lightos lab fault add --token replace`"
            )
        return Change(drop=[self.find_credential(project, name)])

    def check_credential_project(self, project: str) -> None:
        """Raises NotFound for what has no credentials: no project, nor `system`."""
        if project != SYSTEM:
            self.check_project(project)

    # Changes

    def all_but_default(self) -> tuple[ProjectRecord, list[Record]]:
        """The default project as it was first, and all else that is here."""
        default = self.projects[DEFAULT_PROJECT]
        others = [p for p in self.projects.values() if p.name != DEFAULT_PROJECT]
        first = replace(default, description="", default_policy_uuid=None)
        return first, [*others, *self.policies.values(), *self.credentials.values()]

    def put(self, record: PolicyRecord | ProjectRecord | CredentialRecord) -> None:
        """Take what is durable now."""
        match record:
            case PolicyRecord():
                self.policies[record.uuid] = record
            case ProjectRecord():
                self.projects[record.name] = record
            case CredentialRecord():
                self.credentials[record.project, record.name] = record

    def drop(self, record: PolicyRecord | ProjectRecord | CredentialRecord) -> None:
        match record:
            case PolicyRecord():
                del self.policies[record.uuid]
            case ProjectRecord():
                del self.projects[record.name]
            case CredentialRecord():
                del self.credentials[record.project, record.name]


def _some(names: Sequence[str]) -> str:
    """The first few of a list, and how many more there are."""
    more = len(names) - NAMED_IN_REFUSALS
    shown = ", ".join(names[:NAMED_IN_REFUSALS])
    return f"{shown} and {more} more" if more > 0 else shown
