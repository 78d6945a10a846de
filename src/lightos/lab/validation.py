# SPDX-License-Identifier: Apache-2.0
"""What the cluster accepts as sizes, ACLs, placement, labels and ETags. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE, rounded_up
from lightos.api.models.volumes import (
    SIZE_GRANULARITY_BYTES,
    MatchKey,
    MatchOperator,
    PlacementRestriction,
)
from lightos.lab.addresses import normal_address
from lightos.lab.errors import FailedPrecondition, InvalidArgument
from lightos.lab.records import SnapshotRecord, VolumeRecord
from lightos.nvme_tcp.constants import NQN_MAX_BYTES

MAX_SIZE_BYTES = 1 << 50
MAX_IP_ACL_ENTRIES = 16


def rounded_size(size_bytes: int) -> int:
    """The size rounded up to whole 4 KiB."""
    if not 0 < size_bytes <= MAX_SIZE_BYTES:
        raise InvalidArgument(
            f"size {size_bytes} bytes is not valid: 1 to {MAX_SIZE_BYTES} bytes (1 PiB)"
        )
    return rounded_up(size_bytes, SIZE_GRANULARITY_BYTES)


def check_acl(rules: Sequence[str]) -> tuple[str, ...]:
    """Host NQNs, or ALLOW_ANY or ALLOW_NONE; ALLOW_NONE stands alone. Repetitions are dropped."""
    for rule in rules:
        if rule in (ALLOW_ANY, ALLOW_NONE):
            continue
        if not rule or len(rule.encode()) > NQN_MAX_BYTES or not rule.isprintable():
            raise InvalidArgument(f"acl entry {rule[:64]!r} is not a host NQN")
    return _rules("acl", rules)


def check_ip_acl(rules: Sequence[str]) -> tuple[str, ...]:
    """At most 16 IP addresses, or ALLOW_ANY or ALLOW_NONE; ALLOW_NONE stands alone."""
    for rule in rules:
        if rule in (ALLOW_ANY, ALLOW_NONE):
            continue
        try:
            normal_address(rule)
        except ValueError:
            raise InvalidArgument(f"IPAcl entry {rule[:64]!r} is not an IP address") from None
    unique = _rules("IPAcl", rules)
    if len(unique) > MAX_IP_ACL_ENTRIES:
        raise InvalidArgument(f"IPAcl has {len(unique)} entries, more than {MAX_IP_ACL_ENTRIES}")
    return unique


def _rules(what: str, rules: Sequence[str]) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(rules))
    if not unique:
        raise InvalidArgument(f"{what} is empty; use {ALLOW_NONE} to admit nobody")
    if ALLOW_NONE in unique and len(unique) > 1:
        raise InvalidArgument(f"{ALLOW_NONE} in {what} must stand alone")
    return unique


def check_placement(
    restrictions: Sequence[PlacementRestriction], replica_count: int
) -> tuple[PlacementRestriction, ...]:
    """For a volume of one replica only; each has an operator, and pairs with a key."""
    if restrictions and replica_count != 1:
        raise InvalidArgument(
            f"placementRestrictions are for volumes of one replica, not of {replica_count}"
        )
    for restriction in restrictions:
        if restriction.operator is MatchOperator.UNKNOWN:
            raise InvalidArgument("operator of a placement restriction is not given; In is one")
        if not restriction.pairs:
            raise InvalidArgument("labelValueKeyPairs of a placement restriction is empty")
        if any(pair.key is MatchKey.UNKNOWN for pair in restriction.pairs):
            raise InvalidArgument(
                "key of a placement restriction is not given; FD, PrimaryFD and ClusterID are"
            )
    return tuple(restrictions)


def check_labels(labels: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Each key once; the API's own limits hold for the rest."""
    keys = [key for key, _ in labels]
    for key in keys:
        if keys.count(key) > 1:
            raise InvalidArgument(f"label {key} is given more than once")
    return tuple(labels)


def check_etag(record: VolumeRecord | SnapshotRecord, if_match: str | None) -> None:
    """Raises FailedPrecondition when If-Match is given and not the record's ETag."""
    if if_match and if_match.strip('"') != str(record.etag):
        raise FailedPrecondition(
            f"ETag mismatch on {record.kind} {record.name}: it changed since it was read; "
            "read it again"
        )
