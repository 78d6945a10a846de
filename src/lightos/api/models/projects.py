# SPDX-License-Identifier: Apache-2.0
"""Messages about projects."""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.models.values import DESCRIPTION
from lightos.api.wire import STRING, Model, WireEnum, enumeration, many, message, wired


class PolicyType(WireEnum, schema="PolicyType"):
    """What a default policy of a project is about."""

    UNKNOWN = 0, "unknown"
    SNAPSHOT = 1, "snapshot"
    QOS_RATE_LIMIT = 2, "qosRateLimit"


@dataclass(frozen=True, kw_only=True)
class DefaultPolicy(Model, schema="DefaultPolicy"):
    """The policy that a project's new volumes get when they name none."""

    policy_type: PolicyType = wired("policyType", enumeration(PolicyType))
    policy_uuid: str = wired("policyUUID", STRING)


@dataclass(frozen=True, kw_only=True)
class Project(Model, schema="Project"):
    """A tenant's name space for volumes and snapshots."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy))
    )


@dataclass(frozen=True, kw_only=True)
class CreateProject(Model, schema="CreateProjectRequest"):
    """A project to make."""

    name: str = wired("name", STRING, required=True)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy))
    )


@dataclass(frozen=True, kw_only=True)
class UpdateProject(Model, schema="UpdateProjectRequest"):
    """The default policies that a project has from now on; its volumes keep theirs."""

    name: str = wired("projectName", STRING, required=True)
    default_policies: tuple[DefaultPolicy, ...] = wired(
        "defaultPolicies", many(message(DefaultPolicy)), required=True
    )


@dataclass(frozen=True, kw_only=True)
class GetProject(Model, schema="GetProjectRequest"):
    """Names one project; the variable of the path is `projectName`, the field's name `name`."""

    name: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class ListProjects(Model, schema="ListProjectsRequest"):
    """Request of every project."""


@dataclass(frozen=True, kw_only=True)
class ProjectList(Model, schema="ListProjectsResponse"):
    """Reply of ListProjects."""

    projects: tuple[Project, ...] = wired("projects", many(message(Project)))


@dataclass(frozen=True, kw_only=True)
class DeleteProject(Model, schema="DeleteProjectRequest"):
    """Names the project to delete."""

    name: str = wired("projectName", STRING, required=True)


@dataclass(frozen=True, kw_only=True)
class ProjectUpdated(Model, schema="UpdateProjectResponse"):
    """Empty: the update was made."""


@dataclass(frozen=True, kw_only=True)
class ProjectDeleted(Model, schema="DeleteProjectResponse"):
    """Empty: the project was deleted."""
