# SPDX-License-Identifier: Apache-2.0
"""The seed file: projects, QoS policies, volumes and snapshots, each with the line it stands in.

Everything that the file alone can get wrong is told with file and line, before a call is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightos.api.models.policies import (
    BandwidthLimit,
    CreatePolicy,
    IopsLimit,
    IopsPerGbLimit,
    PolicyVisibility,
    RateLimit,
)
from lightos.api.models.snapshots import CreateSnapshot
from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE, DEFAULT_PROJECT, Label
from lightos.api.models.volumes import CreateVolume, SectorSize
from lightos.api.wire import Model, WireError, parse_size

T = TypeVar("T")
R = TypeVar("R", bound=Model)

DEFAULT_REPLICAS = 3
_LIMITS: Mapping[str, Callable[[int, int], RateLimit]] = {
    "iops": lambda read, write: RateLimit(iops=IopsLimit(read_iops=read, write_iops=write)),
    "mb_per_second": lambda read, write: RateLimit(
        bandwidth=BandwidthLimit(read_mb_per_second=read, write_mb_per_second=write)
    ),
    "iops_per_gb": lambda read, write: RateLimit(
        iops_per_gb=IopsPerGbLimit(read_iops_per_gb=read, write_iops_per_gb=write)
    ),
}
_NULL = "tag:yaml.org,2002:null"
_SECTORS = {512: SectorSize.BYTES_512, 4096: SectorSize.BYTES_4096}


class SeedError(Exception):
    """The file, or the cluster, does not allow something; says file, line, and what."""


@dataclass(frozen=True)
class SeedProject:
    """`default_policy` is a name, empty for none; None leaves it as it is."""

    line: int
    name: str
    description: str
    default_policy: str | None


@dataclass(frozen=True)
class SeedPolicy:
    """A QoS policy."""

    line: int
    request: CreatePolicy


@dataclass(frozen=True)
class SeedVolume:
    """`given` are the keys in the file: of a volume that exists, others are left as they are."""

    line: int
    request: CreateVolume
    given: frozenset[str]


@dataclass(frozen=True)
class SeedSnapshot:
    """A snapshot of a volume, which it names."""

    line: int
    request: CreateSnapshot


@dataclass(frozen=True)
class Seed:
    """All that a file asks for, in its order."""

    file: str
    projects: tuple[SeedProject, ...]
    policies: tuple[SeedPolicy, ...]
    volumes: tuple[SeedVolume, ...]
    snapshots: tuple[SeedSnapshot, ...]


def parse(text: str, file: str) -> Seed:
    """Read a seed file; `file` is how errors call it. Raises SeedError."""
    return _Reader(file).seed(text)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def seed(self, text: str) -> Seed:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as cause:
            mark = cause.problem_mark
            line = mark.line + 1 if mark else 1
            raise SeedError(f"{self._file}:{line}: not YAML: {cause.problem}") from None
        except yaml.YAMLError as cause:
            raise SeedError(f"{self._file}:1: not YAML: {cause}") from None
        if root is None:
            raise SeedError(f"{self._file}:1: the file is empty")
        parts = self._fields(root, ("projects", "policies", "volumes", "snapshots"))
        found = Seed(
            self._file,
            self._all(parts.get("projects"), self._project),
            self._all(parts.get("policies"), self._policy),
            self._all(parts.get("volumes"), self._volume),
            self._all(parts.get("snapshots"), self._snapshot),
        )
        self._check_unique("project", ((p.line, p.name) for p in found.projects))
        self._check_unique("policy", ((p.line, p.request.name) for p in found.policies))
        for kind, requests in (("volume", found.volumes), ("snapshot", found.snapshots)):
            names = ((r.line, f"{r.request.project}/{r.request.name}") for r in requests)
            self._check_unique(kind, names)
        return found

    def _project(self, node: Node) -> SeedProject:
        fields = self._fields(node, ("name", "description", "default_policy"), ("name",))
        policy = fields.get("default_policy")
        return SeedProject(
            _line(node),
            self._text(fields["name"]),
            self._text(fields.get("description")),
            None if policy is None else self._text(policy),
        )

    def _policy(self, node: Node) -> SeedPolicy:
        known = ("name", "description", "projects", *_LIMITS)
        fields = self._fields(node, known, ("name",))
        given = [name for name in _LIMITS if name in fields]
        if len(given) != 1:
            raise self._error(node, f"a policy needs one of {', '.join(_LIMITS)}")
        rates = self._fields(fields[given[0]], ("read", "write"))
        limit = _LIMITS[given[0]](self._whole(rates.get("read")), self._whole(rates.get("write")))
        projects = self._texts(fields.get("projects"), ())
        visibility = PolicyVisibility.SCOPED if projects else PolicyVisibility.GLOBAL
        request = CreatePolicy(
            name=self._text(fields["name"]),
            description=self._text(fields.get("description")),
            rate_limit=RateLimit(
                projects=projects,
                visibility=visibility,
                iops=limit.iops,
                bandwidth=limit.bandwidth,
                iops_per_gb=limit.iops_per_gb,
            ),
        )
        return SeedPolicy(_line(node), self._checked(node, request))

    def _volume(self, node: Node) -> SeedVolume:
        known = (
            *("name", "project", "size", "replicas", "compression", "acl", "ip_acl", "policy"),
            *("snapshot", "sector_size", "labels"),
        )
        fields = self._fields(node, known, ("name", "size"))
        sector = self._whole(fields["sector_size"]) if "sector_size" in fields else 4096
        if sector not in _SECTORS:
            raise self._error(fields["sector_size"], "sector_size is 512 or 4096")
        labels = self._fields(fields["labels"]) if "labels" in fields else {}
        if "labels" in fields and not labels:
            raise self._error(fields["labels"], "labels are empty; a cluster can only replace them")
        request = CreateVolume(
            project=self._project_of(fields),
            name=self._text(fields["name"]),
            size_bytes=self._size(fields["size"]),
            replica_count=self._whole(fields.get("replicas"), DEFAULT_REPLICAS, least=1),
            compression=self._flag(fields.get("compression")),
            acl=self._texts(fields.get("acl"), (ALLOW_NONE,)),
            ip_acl=self._texts(fields.get("ip_acl"), (ALLOW_ANY,)),
            sector_size=_SECTORS[sector],
            qos_policy_name=self._text(fields.get("policy")),
            source_snapshot_name=self._text(fields.get("snapshot")),
            labels=tuple(Label(key=key, value=self._text(value)) for key, value in labels.items()),
        )
        return SeedVolume(_line(node), self._checked(node, request), frozenset(fields))

    def _snapshot(self, node: Node) -> SeedSnapshot:
        known = ("name", "project", "volume", "description", "retention_seconds")
        fields = self._fields(node, known, ("name", "volume"))
        kept = self._whole(fields.get("retention_seconds"), least=1)
        request = CreateSnapshot(
            project=self._project_of(fields),
            name=self._text(fields["name"]),
            source_volume_name=self._text(fields["volume"]),
            description=self._text(fields.get("description")),
            retention_time=timedelta(seconds=kept) if kept else None,
        )
        return SeedSnapshot(_line(node), self._checked(node, request))

    # Values

    def _project_of(self, fields: Mapping[str, Node]) -> str:
        return self._text(fields["project"]) if "project" in fields else DEFAULT_PROJECT

    def _all(self, node: Node | None, read: Callable[[Node], T]) -> tuple[T, ...]:
        if node is None:
            return ()
        if not isinstance(node, SequenceNode):
            raise self._error(node, "expected a list")
        return tuple(read(item) for item in node.value)

    def _fields(
        self, node: Node, known: Iterable[str] | None = None, required: Iterable[str] = ()
    ) -> dict[str, Node]:
        """The entries of a mapping but for those that are null, which are as good as absent.

        `known` are its legal keys, None allows any.
        """
        if not isinstance(node, MappingNode):
            raise self._error(node, "expected `key: value` lines")
        fields: dict[str, Node] = {}
        for key_node, value in node.value:
            key = self._text(key_node)
            if known is not None and key not in known:
                raise self._error(key_node, f"{key!r} is not known; legal are {', '.join(known)}")
            if key in fields:
                raise self._error(key_node, f"{key} is given twice")
            fields[key] = value
        given = {key: value for key, value in fields.items() if value.tag != _NULL}
        for key in required:
            if key not in given:
                raise self._error(node, f"{key} is missing")
        return given

    def _text(self, node: Node | None) -> str:
        if node is None:
            return ""
        if not isinstance(node, ScalarNode) or node.tag == _NULL:
            raise self._error(node, "expected a text")
        return str(node.value)

    def _texts(self, node: Node | None, absent: tuple[str, ...]) -> tuple[str, ...]:
        """A list; an empty one could mean nobody as well as anybody, so it is refused."""
        if node is None:
            return absent
        if not (texts := self._all(node, self._text)):
            raise self._error(node, "the list is empty; name at least one, or leave it out")
        return texts

    def _whole(self, node: Node | None, absent: int = 0, *, least: int = 0) -> int:
        if node is None:
            return absent
        text = self._text(node)
        if not re.fullmatch("[0-9]{1,10}", text, re.ASCII) or int(text) < least:
            wanted = f"a whole number from {least}" if least else "a whole number"
            raise self._error(node, f"expected {wanted}, got {text[:40]!r}")
        return int(text)

    def _flag(self, node: Node | None) -> bool:
        text = self._text(node).lower()
        if node is not None and text not in ("true", "false"):
            raise self._error(node, f"expected true or false, got {text[:40]!r}")
        return text == "true"

    def _size(self, node: Node) -> int:
        try:
            return parse_size(self._text(node))
        except WireError as cause:
            raise self._error(node, str(cause)) from None

    # Errors

    def _checked(self, node: Node, request: R) -> R:
        """The request, if it keeps the limits of the API's contract."""
        if problems := request.violations():
            raise self._error(node, "; ".join(problems))
        return request

    def _check_unique(self, kind: str, names: Iterable[tuple[int, str]]) -> None:
        first: dict[str, int] = {}
        for line, name in names:
            if name in first:
                raise SeedError(
                    f"{self._file}:{line}: {kind} {name} is in line {first[name]} already"
                )
            first[name] = line

    def _error(self, node: Node, text: str) -> SeedError:
        return SeedError(f"{self._file}:{_line(node)}: {text}")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
