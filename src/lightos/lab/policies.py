# SPDX-License-Identifier: Apache-2.0
"""QoS policies: their limits in numbers, who may use them, and the table that holds them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from lightos.api.models.policies import IOPS_LIMIT_GRANULARITY
from lightos.api.models.values import rounded_up
from lightos.lab.records import LimitKind, PolicyRecord
from lightos.lab.view import RateLimit, RateLimits, RateUnit

BYTES_PER_MB = 10**6
BYTES_PER_GB = 1 << 30
"""The API says GB; of its two readings this one allows less, and gives whole numbers for volumes
of whole GiB."""
MAX_LIMIT = (1 << 32) - 1


class Policies(dict[UUID, PolicyRecord]):
    """The policies of a cluster, by UUID; names are unique."""

    def __init__(self, records: Iterable[PolicyRecord]) -> None:
        super().__init__({record.uuid: record for record in records})

    def find(self, key: UUID | str) -> PolicyRecord | None:
        """The policy of a UUID or a name."""
        if isinstance(key, UUID):
            return self.get(key)
        return next((policy for policy in self.values() if policy.name == key), None)

    def name(self, uuid: UUID | None) -> str:
        """The name of a policy; empty where there is none."""
        policy = None if uuid is None else self.get(uuid)
        return "" if policy is None else policy.name


def is_usable_by(policy: PolicyRecord, projects: Collection[str] | None) -> bool:
    """Whether one of the projects may use a policy; None is every project."""
    return projects is None or not policy.projects or not set(policy.projects).isdisjoint(projects)


def kept_limit(kind: LimitKind, limit: int) -> int:
    """What the cluster makes of a limit: IOPS go up to the next multiple of 256."""
    if kind is not LimitKind.IOPS:
        return limit
    step = IOPS_LIMIT_GRANULARITY
    return min(rounded_up(limit, step), MAX_LIMIT // step * step)


def rate_limits(policy: PolicyRecord | None, size_bytes: int) -> RateLimits:
    """What a volume of this size may do under a policy."""
    if policy is None:
        return RateLimits()
    return RateLimits(
        read=_rate_limit(policy.limit, policy.read_limit, size_bytes),
        write=_rate_limit(policy.limit, policy.write_limit, size_bytes),
    )


def _rate_limit(kind: LimitKind, limit: int, size_bytes: int) -> RateLimit | None:
    if not limit:
        return None
    match kind:
        case LimitKind.IOPS:
            return RateLimit(limit, RateUnit.COMMANDS)
        case LimitKind.MB_PER_SECOND:
            return RateLimit(limit * BYTES_PER_MB, RateUnit.BYTES)
        case LimitKind.IOPS_PER_GB:
            # Rounded up, so that the smallest volume is slow but not still.
            return RateLimit(-(-limit * size_bytes // BYTES_PER_GB), RateUnit.COMMANDS)
