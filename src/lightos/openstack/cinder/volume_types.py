# SPDX-License-Identifier: Apache-2.0
"""What a volume type asks of the cluster. Pure: extra specs and QoS specs in, a request out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lightos.api.models.values import DEFAULT_PROJECT
from lightos.openstack.cinder.naming import UUID_PATTERN
from lightos.openstack.cinder.qos import InvalidQosSpecs, Limit

COMPRESSION_SPEC = "compression"
REPLICAS_SPEC = "lightos:num_replicas"
QOS_POLICY_SPEC = "lightos:qos_policy"
PROJECT_SPEC = "lightos:project_name"

VENDOR_PREFIX = "lightos:"
VENDOR_SPECS = (REPLICAS_SPEC, QOS_POLICY_SPEC, PROJECT_SPEC)

MIN_REPLICAS, MAX_REPLICAS = 1, 3

_BOOLEAN = re.compile(r"\s*(?:<is>)?\s*(true|false)\s*", re.IGNORECASE)
# The vendor's CSI driver is stricter, but old drivers took any name, and the cluster knows its own.
_PROJECT = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,252}")
# Names of objects in the management API.
_POLICY_NAME = re.compile(r"[a-zA-Z0-9._-]{1,253}")


class InvalidSpec(ValueError):
    """An extra spec has a value that the cluster could not honour, or is none at all."""

    def __init__(self, spec: str, value: object, legal: str) -> None:
        super().__init__(f"extra spec {spec!r} is {value!r}; legal: {legal}")
        self.spec = spec


@dataclass(frozen=True, kw_only=True)
class VolumeSpecs:
    """How a volume shall be made. At most one of the three QoS fields is set."""

    replica_count: int
    compression: bool
    project: str = DEFAULT_PROJECT
    qos_policy_uuid: str = ""
    qos_policy_name: str = ""
    qos_limit: Limit | None = None
    """To be held by a policy that the driver makes."""

    @property
    def has_qos(self) -> bool:
        return bool(self.qos_policy_uuid or self.qos_policy_name or self.qos_limit)


def parse(
    extra_specs: Mapping[str, str] | None,
    qos_limit: Limit | None = None,
    *,
    default_replica_count: int,
    default_compression: bool,
) -> VolumeSpecs:
    """Read a volume type: extra specs (None: no type), and the limit of its QoS specs.

    Specs of others (`volume_backend_name`, `multiattach`...) are left alone.

    :raises InvalidSpec: naming the spec, its value and the legal values.
    :raises InvalidQosSpecs: when the type names a policy and has a limit.
    """
    specs = extra_specs or {}
    for spec, value in specs.items():
        if spec.startswith(VENDOR_PREFIX) and spec not in VENDOR_SPECS:
            raise InvalidSpec(spec, value, f"no such spec, only {', '.join(VENDOR_SPECS)}")
    qos_policy_uuid, qos_policy_name = _qos_policy(specs.get(QOS_POLICY_SPEC))
    if qos_limit and QOS_POLICY_SPEC in specs:
        raise InvalidQosSpecs(
            f"the type has both extra spec {QOS_POLICY_SPEC!r} and QoS spec "
            f"{qos_limit.kind.key!r}; a volume has one policy: remove one of the two"
        )
    return VolumeSpecs(
        replica_count=_replica_count(specs.get(REPLICAS_SPEC), default_replica_count),
        compression=_compression(specs.get(COMPRESSION_SPEC), default_compression),
        project=project(specs),
        qos_policy_uuid=qos_policy_uuid,
        qos_policy_name=qos_policy_name,
        qos_limit=qos_limit,
    )


def check_source_project(specs: VolumeSpecs, source_project: str) -> None:
    """The cluster makes a volume only of a snapshot in the same project.

    :raises InvalidSpec: naming both projects.
    """
    if specs.project != source_project:
        legal = f"{source_project!r}, the project that the source is in"
        raise InvalidSpec(PROJECT_SPEC, specs.project, legal)


def project(extra_specs: Mapping[str, str] | None) -> str:
    """The project that a volume of this type belongs to.

    :raises InvalidSpec: when it is not a project name.
    """
    value = (extra_specs or {}).get(PROJECT_SPEC)
    if value is None:
        return DEFAULT_PROJECT
    if not _PROJECT.fullmatch(str(value)):
        legal = "1 to 253 of letters, digits, '.', '_' and '-', not beginning with '.'"
        raise InvalidSpec(PROJECT_SPEC, value, legal)
    return str(value)


def _compression(value: str | None, default: bool) -> bool:
    if value is None:
        return default
    match = _BOOLEAN.fullmatch(str(value))
    if not match:
        raise InvalidSpec(COMPRESSION_SPEC, value, "'<is> True' or '<is> False'")
    return match[1].lower() == "true"


def _replica_count(value: str | None, default: int) -> int:
    if value is None:
        return default
    text = str(value).strip()
    if text not in {str(count) for count in range(MIN_REPLICAS, MAX_REPLICAS + 1)}:
        raise InvalidSpec(REPLICAS_SPEC, value, f"{MIN_REPLICAS} to {MAX_REPLICAS}")
    return int(text)


def _qos_policy(value: str | None) -> tuple[str, str]:
    """(UUID, name) of the policy, one of them empty; both are without a policy."""
    if value is None:
        return "", ""
    text = str(value)
    if UUID_PATTERN.fullmatch(text):
        return text.lower(), ""
    if not _POLICY_NAME.fullmatch(text):
        legal = "the UUID or the name of a QoS policy of the cluster"
        raise InvalidSpec(QOS_POLICY_SPEC, value, legal)
    return "", text
