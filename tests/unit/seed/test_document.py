# SPDX-License-Identifier: Apache-2.0
"""What a seed file may say, and how its errors name the line."""

from __future__ import annotations

import pytest

from lightos.api.models.policies import IopsLimit, PolicyVisibility, RateLimit
from lightos.api.models.values import Label
from lightos.seed.document import SeedError, parse

WHOLE = """\
projects:
  - {name: blue, description: A tenant, default_policy: gold}
policies:
  - name: gold
    iops: {read: 1000, write: 500}
    projects: [blue]
volumes:
  - {name: data, project: blue, size: 10 gib, acl: [nqn.x:host], compression: true}
  - name: copy
    project: blue
    size: 10gib
    snapshot: before
    replicas: 2
    labels: {team: db}
snapshots:
  - {name: before, project: blue, volume: data, retention_seconds: 3600}
"""


def test_a_whole_file() -> None:
    seed = parse(WHOLE, "s.yaml")
    (project,), (policy,), (snapshot,) = seed.projects, seed.policies, seed.snapshots
    assert (project.line, project.name, project.default_policy) == (2, "blue", "gold")
    assert policy.request.rate_limit == RateLimit(
        projects=("blue",),
        visibility=PolicyVisibility.SCOPED,
        iops=IopsLimit(read_iops=1000, write_iops=500),
    )
    data, copy = seed.volumes
    assert (data.line, copy.line, snapshot.line) == (8, 9, 16)
    assert (data.request.size_bytes, data.request.replica_count) == (10 << 30, 3)
    assert data.request.acl == ("nqn.x:host",)
    assert copy.request.acl == ("ALLOW_NONE",)
    assert copy.request.source_snapshot_name == "before"
    assert copy.request.labels == (Label(key="team", value="db"),)
    assert copy.given == {"name", "project", "size", "snapshot", "replicas", "labels"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "s.yaml:1: the file is empty"),
        ("a: [", "s.yaml:1: not YAML"),
        ("- a", "s.yaml:1: expected `key: value` lines"),
        ("nodes: 3", "s.yaml:1: 'nodes' is not known; legal are projects, policies"),
        ("volumes:\n  name: a", "s.yaml:2: expected a list"),
        ("volumes:\n  - name: a", "s.yaml:2: size is missing"),
        ("volumes:\n  - name: a\n    size: big", "s.yaml:3: expected a size such as"),
        ("volumes:\n  - name: a\n    size: 1gib\n    sise: 1", "s.yaml:4: 'sise' is not known"),
        ("volumes:\n  - name: a\n    size: 1gib\n    size: 2gib", "s.yaml:4: size is given twice"),
        ("volumes:\n\n  - {name: a b, size: 1gib}", "s.yaml:3: name 'a b' does not match"),
        ("volumes:\n  - {name: a, size: 1gib, replicas: 4}", "s.yaml:2: replicaCount 4 is more"),
        ("volumes:\n  - {name: a, size: 1gib, compression: 7}", "s.yaml:2: expected true or false"),
        (
            "volumes:\n  - {name: a, size: 1gib}\n  - {name: a, size: 1gib}",
            "s.yaml:3: volume default/a is in line 2 already",
        ),
        ("policies:\n  - name: gold", "s.yaml:2: a policy needs one of iops, mb_per_second"),
        ("policies:\n  - name: g\n    iops: {read: fast}", "s.yaml:3: expected a whole number"),
        ("snapshots:\n  - name: s", "s.yaml:2: volume is missing"),
        ("volumes:\n  - {name: a, size: 1gib, ip_acl: []}", "s.yaml:2: the list is empty"),
        ("volumes:\n  - {name: a, size: 1gib, acl: []}", "s.yaml:2: the list is empty"),
        ("volumes:\n  - {name: a, size: 1gib, acl: [null]}", "s.yaml:2: expected a text"),
        ("volumes:\n  - {name: a, size: 1gib, labels: {}}", "s.yaml:2: labels are empty"),
        (
            "volumes:\n  - {name: a, size: 1gib, replicas: 0}",
            "s.yaml:2: expected a whole number from 1, got '0'",
        ),
        ("volumes:\n  - {name: a, size: null}", "s.yaml:2: size is missing"),
        (
            "policies:\n  - {name: g, iops: {read: 1}, projects: []}",
            "s.yaml:2: the list is empty",
        ),
        (
            "snapshots:\n  - {name: s, volume: v, retention_seconds: 0}",
            "s.yaml:2: expected a whole number from 1",
        ),
    ],
)
def test_errors_name_the_line(text: str, said: str) -> None:
    with pytest.raises(SeedError) as caught:
        parse(text, "s.yaml")
    assert str(caught.value).startswith(said)


def test_one_name_in_two_projects() -> None:
    text = "volumes:\n  - {name: a, size: 1gib}\n  - {name: a, size: 1gib, project: blue}"
    assert len(parse(text, "s.yaml").volumes) == 2


def test_null_is_as_good_as_absent() -> None:
    text = "projects: [{name: blue, default_policy: null}]\nvolumes:\n  - {name: a, size: 1gib"
    nulls = ", replicas: ~, acl: null, ip_acl: null, policy:, labels: null, sector_size: }"
    seed = parse(text + nulls, "s.yaml")
    assert seed.projects[0].default_policy is None
    assert seed.volumes[0].given == {"name", "size"}
    assert seed.volumes[0].request == parse(text + "}", "s.yaml").volumes[0].request
    assert parse("volumes:\nsnapshots: null", "s.yaml").volumes == ()
