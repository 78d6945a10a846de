# SPDX-License-Identifier: Apache-2.0
"""What the extra specs of a volume type ask of the cluster. Pure: a dict in, a request out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lightos.openstack.cinder.naming import DEFAULT_PROJECT

COMPRESSION_SPEC = "compression"
REPLICAS_SPEC = "lightos:num_replicas"
QOS_POLICY_SPEC = "lightos:qos_policy"
PROJECT_SPEC = "lightos:project_name"

MIN_REPLICAS, MAX_REPLICAS = 1, 3

_BOOLEAN = re.compile(r"\s*(?:<is>)?\s*(true|false)\s*", re.IGNORECASE)
# Project names as the vendor's CSI driver checks them.
_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Names of objects in the management API.
_POLICY_NAME = re.compile(r"[a-zA-Z0-9._-]{1,253}")


class InvalidSpec(ValueError):
    """An extra spec has a value that the cluster could not honour."""

    def __init__(self, spec: str, value: object, legal: str) -> None:
        super().__init__(f"extra spec {spec!r} is {value!r}; legal: {legal}")
        self.spec = spec


@dataclass(frozen=True, kw_only=True)
class VolumeSpecs:
    """How a volume shall be made. At most one of the two QoS fields is set."""

    replica_count: int
    compression: bool
    project: str = DEFAULT_PROJECT
    qos_policy_uuid: str = ""
    qos_policy_name: str = ""


def parse(
    extra_specs: Mapping[str, str] | None,
    *,
    default_replica_count: int,
    default_compression: bool,
) -> VolumeSpecs:
    """Read a volume type's extra specs; None or an empty mapping gives the defaults.

    Specs of others (`volume_backend_name`, `multiattach`...) are left alone.

    :raises InvalidSpec: naming the spec, its value and the legal values.
    """
    specs = extra_specs or {}
    qos_policy_uuid, qos_policy_name = _qos_policy(specs.get(QOS_POLICY_SPEC))
    return VolumeSpecs(
        replica_count=_replica_count(specs.get(REPLICAS_SPEC), default_replica_count),
        compression=_compression(specs.get(COMPRESSION_SPEC), default_compression),
        project=project(specs),
        qos_policy_uuid=qos_policy_uuid,
        qos_policy_name=qos_policy_name,
    )


def project(extra_specs: Mapping[str, str] | None) -> str:
    """The project that a volume of this type belongs to.

    :raises InvalidSpec: when it is not a project name.
    """
    value = (extra_specs or {}).get(PROJECT_SPEC)
    if value is None:
        return DEFAULT_PROJECT
    if not _PROJECT.fullmatch(str(value)):
        legal = "1 to 63 of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit"
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
    if _UUID.fullmatch(text):
        return text, ""
    if not _POLICY_NAME.fullmatch(text):
        legal = "the UUID or the name of a QoS policy of the cluster"
        raise InvalidSpec(QOS_POLICY_SPEC, value, legal)
    return "", text
