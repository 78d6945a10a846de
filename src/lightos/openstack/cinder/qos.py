# SPDX-License-Identifier: Apache-2.0
"""Cinder's QoS specs as QoS policies of the cluster. Pure: specs in, one limit out.

A policy of the cluster holds one kind of limit, with a number for reads and one for writes. Specs
are used when their consumer is the back end; those for the front end are Nova's.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from lightos.api.models.policies import (
    IOPS_LIMIT_GRANULARITY,
    BandwidthLimit,
    IopsLimit,
    IopsPerGbLimit,
    Policy,
    PolicyVisibility,
    RateLimit,
)
from lightos.api.models.volumes import Volume

BACKEND_CONSUMERS = frozenset({"back-end", "both"})
POLICY_NAME_PREFIX = "cinder-"
POLICY_DESCRIPTION = "Made by OpenStack Cinder for its QoS specs; deleted when no volume uses it"
BYTES_PER_MEGABYTE = 1_000_000
MAX_LIMIT = 2**32 - 1
"""The API's limits are unsigned 32-bit numbers."""


class InvalidQosSpecs(ValueError):
    """QoS specs ask for something that no policy of the cluster can hold."""


class LimitKind(enum.Enum):
    """What is limited: (key of the QoS specs, part of the policy's name, step, unit)."""

    IOPS = "total_iops_sec", "iops", IOPS_LIMIT_GRANULARITY, "operations per second"
    BANDWIDTH = "total_bytes_sec", "mb", BYTES_PER_MEGABYTE, "bytes per second"
    IOPS_PER_GB = "total_iops_sec_per_gb", "iops-per-gb", 1, "operations per second and GB"

    def __init__(self, key: str, label: str, step: int, unit: str) -> None:
        self.key = key
        self.label = label
        self.step = step
        self.unit = unit


LEGAL_KEYS = tuple(kind.key for kind in LimitKind)


@dataclass(frozen=True)
class Limit:
    """What one policy limits, in the numbers that the cluster keeps.

    `amount` is in IOPS (a multiple of 256), megabytes per second, or IOPS per GB. Reads and
    writes each get it, because the cluster counts them apart.
    """

    kind: LimitKind
    amount: int

    @property
    def policy_name(self) -> str:
        """Equal limits have one name, so volumes share a policy whatever type they are of."""
        return f"{POLICY_NAME_PREFIX}{self.kind.label}-{self.amount}"

    @property
    def rate_limit(self) -> RateLimit:
        """The limit as the API has it; volumes of every project may have it."""
        amount, visibility = self.amount, PolicyVisibility.GLOBAL
        match self.kind:
            case LimitKind.IOPS:
                iops = IopsLimit(read_iops=amount, write_iops=amount)
                return RateLimit(visibility=visibility, iops=iops)
            case LimitKind.BANDWIDTH:
                bandwidth = BandwidthLimit(read_mb_per_second=amount, write_mb_per_second=amount)
                return RateLimit(visibility=visibility, bandwidth=bandwidth)
            case LimitKind.IOPS_PER_GB:
                per_gb = IopsPerGbLimit(read_iops_per_gb=amount, write_iops_per_gb=amount)
                return RateLimit(visibility=visibility, iops_per_gb=per_gb)

    def is_that_of(self, policy: Policy) -> bool:
        """Whether a policy limits just this."""
        return policy.rate_limit is not None and policy.rate_limit.limit == self.rate_limit.limit


@dataclass(frozen=True)
class PolicyRef:
    """The policy that a volume shall have, by UUID or by name; neither means none."""

    uuid: str = ""
    name: str = ""

    def change_of(self, volume: Volume) -> dict[str, str]:
        """What to write to a volume, as fields of `UpdateVolume`, that it may have this policy."""
        if self.name:
            return {} if volume.qos_policy_name == self.name else {"qos_policy_name": self.name}
        is_so = volume.qos_policy_uuid.lower() == self.uuid.lower()
        return {} if is_so else {"qos_policy_uuid": self.uuid}


@dataclass(frozen=True)
class NotThisPolicy:
    """That a volume shall have another policy than this one, or none: what the cluster gives it."""

    uuid: str

    def change_of(self, volume: Volume) -> dict[str, str]:
        """As of `PolicyRef`."""
        has_it = self.uuid and volume.qos_policy_uuid.lower() == self.uuid.lower()
        return {"qos_policy_uuid": ""} if has_it else {}


def is_made_on_demand(policy: Policy) -> bool:
    """Whether a policy is one of ours, to be deleted when no volume uses it."""
    is_named_so = policy.name.startswith(POLICY_NAME_PREFIX)
    return is_named_so and policy.description == POLICY_DESCRIPTION


def limit_of(consumer: str, specs: Mapping[str, str | None]) -> Limit | None:
    """The limit that QoS specs ask of the back end; None when they ask nothing of it.

    The cluster counts in steps (256 IOPS, 1 MB/s): a number between two is rounded up.

    :raises InvalidQosSpecs: naming the key, and the legal keys or values.
    """
    if consumer not in BACKEND_CONSUMERS or not specs:
        return None
    one_of = f"legal: one of {', '.join(LEGAL_KEYS)}"
    kinds = {kind.key: kind for kind in LimitKind}
    if unknown := sorted(set(specs) - set(kinds)):
        reason = f"the cluster has no such limit: {', '.join(unknown)}"
        raise InvalidQosSpecs(f"{reason}; {one_of}, or the consumer 'front-end'")
    if len(specs) > 1:
        both = " and ".join(sorted(specs))
        raise InvalidQosSpecs(f"{both} together: a policy of the cluster has one limit; {one_of}")
    ((key, text),) = specs.items()
    kind = kinds[key]
    return Limit(kind, _amount(kind, text))


def _amount(kind: LimitKind, text: str | None) -> int:
    digits = str(text).strip()
    # At most as many digits as the largest number has: int() refuses endless ones in its own way.
    largest = MAX_LIMIT if kind is LimitKind.BANDWIDTH else MAX_LIMIT // kind.step
    most = largest * kind.step
    if digits.isascii() and digits.isdecimal() and len(digits) <= len(str(most)):
        number = int(digits)
        if 1 <= number <= most:
            steps = -(-number // kind.step)
            return steps if kind is LimitKind.BANDWIDTH else steps * kind.step
    legal = f"legal: a whole number of {kind.unit}, 1 to {most}"
    raise InvalidQosSpecs(f"QoS spec {kind.key!r} is {text!r}; {legal}")
