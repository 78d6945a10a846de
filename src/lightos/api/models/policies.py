# SPDX-License-Identifier: Apache-2.0
"""Messages about QoS policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lightos.api.models.values import DESCRIPTION
from lightos.api.wire import STRING, UINT32, Model, WireEnum, enumeration, many, message, wired

IOPS_LIMIT_GRANULARITY: Final = 256
"""Clusters round the IOPS limits of a policy up to a multiple of this; IOPS per GB are exact."""


class PolicyState(WireEnum, schema="Policy.State"):
    """Life of a policy; Active is the steady state."""

    UNKNOWN = 0, "Unknown"
    CREATING = 1, "Creating"
    ACTIVE = 2, "Active"
    UPDATING = 3, "Updating"
    DEPRECATED = 4, "Deprecated"
    FAILED = 5, "Failed"


class PolicyVisibility(WireEnum, schema="PolicyVisibility"):
    """Which projects may use a QoS policy; Unavailable: not told to this caller."""

    UNAVAILABLE = 0, "Unavailable"
    SCOPED = 1, "Scoped"
    GLOBAL = 2, "Global"


_QOS_LIMIT = {"x-oneof": "QoSLimit"}


def _rate(unit: str) -> dict[str, Any]:
    return {"x-unit": unit, "x-unlimited": 0}


_IOPS = {"x-granularity": IOPS_LIMIT_GRANULARITY, "x-unlimited": 0}


@dataclass(frozen=True, kw_only=True)
class IopsLimit(Model, schema="QoSRateLimitPolicy.QoSLimitIOPS"):
    """Commands per second of each volume; 0 is no limit."""

    write_iops: int = wired("writeIOPSLimit", UINT32, limits=_IOPS)
    read_iops: int = wired("readIOPSLimit", UINT32, limits=_IOPS)


@dataclass(frozen=True, kw_only=True)
class BandwidthLimit(Model, schema="QoSRateLimitPolicy.QoSLimitBW"):
    """Megabytes per second of each volume; 0 is no limit."""

    write_mb_per_second: int = wired("writeBWLimit", UINT32, limits=_rate("MB/s"))
    read_mb_per_second: int = wired("readBWLimit", UINT32, limits=_rate("MB/s"))


@dataclass(frozen=True, kw_only=True)
class IopsPerGbLimit(Model, schema="QoSRateLimitPolicy.QoSLimitIOPSPerGB"):
    """Commands per second for each gigabyte of a volume's size; 0 is no limit."""

    write_iops_per_gb: int = wired("writeIOPSPerGBLimit", UINT32, limits=_rate("IOPS per GB"))
    read_iops_per_gb: int = wired("readIOPSPerGBLimit", UINT32, limits=_rate("IOPS per GB"))


@dataclass(frozen=True, kw_only=True)
class RateLimit(Model, schema="QoSRateLimitPolicy"):
    """One of three limits, and who may use it: `projects` are named by a Scoped policy only."""

    projects: tuple[str, ...] = wired("projectsNamesScope", many(STRING))
    visibility: PolicyVisibility = wired(
        "policyVisibility", enumeration(PolicyVisibility, unknown=PolicyVisibility.UNAVAILABLE)
    )
    iops: IopsLimit | None = wired("limitIOPS", message(IopsLimit), limits=_QOS_LIMIT)
    bandwidth: BandwidthLimit | None = wired("limitBw", message(BandwidthLimit), limits=_QOS_LIMIT)
    iops_per_gb: IopsPerGbLimit | None = wired(
        "limitIOPSPerGB", message(IopsPerGbLimit), limits=_QOS_LIMIT
    )

    @property
    def limit(self) -> IopsLimit | BandwidthLimit | IopsPerGbLimit | None:
        """The one limit that is set."""
        return self.iops or self.bandwidth or self.iops_per_gb


@dataclass(frozen=True, kw_only=True)
class Policy(Model, schema="Policy"):
    """A QoS policy; its name is unique in the cluster."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING)
    state: PolicyState = wired("state", enumeration(PolicyState, unknown=PolicyState.UNKNOWN))
    rate_limit: RateLimit | None = wired(
        "QoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "info"}
    )
    """In replies the wire name begins with a capital Q, in requests it does not."""


@dataclass(frozen=True, kw_only=True)
class CreatePolicy(Model, schema="CreatePolicyRequest"):
    """A policy to make."""

    name: str = wired("name", STRING, required=True)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    rate_limit: RateLimit | None = wired(
        "qoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "policy"}
    )


@dataclass(frozen=True, kw_only=True)
class UpdatePolicy(Model, schema="UpdatePolicyRequest"):
    """What to change; what is unset stays. `name` names the policy where `uuid` is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    description: str = wired("description", STRING, limits=DESCRIPTION)
    rate_limit: RateLimit | None = wired(
        "qoSRateLimitPolicy", message(RateLimit), limits={"x-oneof": "policy"}
    )


@dataclass(frozen=True, kw_only=True)
class GetPolicy(Model, schema="GetPolicyRequest"):
    """Names one policy, by name where the UUID is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    project: str = wired("projectName", STRING)


@dataclass(frozen=True, kw_only=True)
class ListPolicies(Model, schema="ListPoliciesRequest"):
    """Filter; with a project, only policies that it may use. There are no pages."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)
    project: str = wired("projectName", STRING)


@dataclass(frozen=True, kw_only=True)
class PolicyList(Model, schema="ListPoliciesResponse"):
    """Reply of ListPolicies."""

    policies: tuple[Policy, ...] = wired("policies", many(message(Policy)))


@dataclass(frozen=True, kw_only=True)
class DeletePolicy(Model, schema="DeletePolicyRequest"):
    """Names the policy to delete, by name where the UUID is empty."""

    uuid: str = wired("UUID", STRING)
    name: str = wired("name", STRING)


@dataclass(frozen=True, kw_only=True)
class PolicyUpdated(Model, schema="UpdatePolicyResponse"):
    """Empty: the update was made."""


@dataclass(frozen=True, kw_only=True)
class PolicyDeleted(Model, schema="DeletePolicyResponse"):
    """Empty: the policy was deleted."""
