# SPDX-License-Identifier: Apache-2.0
"""QoS policies and projects of the cluster, and what volumes get of them."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID, uuid4

import pytest

from lightos.lab.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from lightos.lab.records import LimitKind, PolicyRecord, ProjectRecord
from lightos.lab.view import RateLimit, RateLimits, RateUnit
from tests.unit.lab.harness import GIB, HOST, Harness

COMMANDS, BYTES = RateUnit.COMMANDS, RateUnit.BYTES


def policy(lab: Harness, name: str = "gold", **asked: Any) -> PolicyRecord:
    request: dict[str, Any] = {
        "description": "",
        "projects": (),
        "limit": LimitKind.IOPS,
        "read_limit": 512,
        "write_limit": 256,
    }
    change = lab.cluster.tenants.create_policy(name=name, **request | asked)
    return lab.cluster.carry_out(change).put[0]


def limits(lab: Harness, uuid: UUID) -> RateLimits:
    return lab.cluster.rate_limits(uuid)


@pytest.mark.parametrize(
    ("asked", "read", "write"),
    [
        (
            {"limit": LimitKind.IOPS, "read_limit": 400, "write_limit": 0},
            RateLimit(512, COMMANDS),
            None,
        ),
        (
            {"limit": LimitKind.IOPS, "read_limit": (1 << 32) - 1, "write_limit": 1},
            RateLimit((1 << 32) - 256, COMMANDS),
            RateLimit(256, COMMANDS),
        ),
        (
            {"limit": LimitKind.MB_PER_SECOND, "read_limit": 0, "write_limit": 20},
            None,
            RateLimit(20_000_000, BYTES),
        ),
        (
            {"limit": LimitKind.IOPS_PER_GB, "read_limit": 100, "write_limit": 1},
            RateLimit(1000, COMMANDS),
            RateLimit(10, COMMANDS),
        ),
    ],
)
def test_what_a_policy_lets_a_volume_of_10_gib_do(
    lab: Harness, asked: dict[str, Any], read: RateLimit | None, write: RateLimit | None
) -> None:
    gold = policy(lab, **asked)
    volume = lab.volume(size_bytes=10 * GIB, qos_policy=gold.uuid)
    assert limits(lab, volume.uuid) == RateLimits(read, write)
    assert limits(lab, lab.volume("other").uuid) == RateLimits()


def test_a_limit_per_gb_grows_with_the_volume_and_is_never_nothing(lab: Harness) -> None:
    gold = policy(lab, limit=LimitKind.IOPS_PER_GB, read_limit=100, write_limit=1)
    volume = lab.ready_volume(size_bytes=4096, qos_policy="gold")
    assert limits(lab, volume.uuid) == RateLimits(RateLimit(1, COMMANDS), RateLimit(1, COMMANDS))
    lab.update(volume.uuid, size_bytes=2 * GIB)
    assert limits(lab, volume.uuid).read == RateLimit(200, COMMANDS)
    assert lab.told[-1].limits
    assert volume.qos_policy_uuid == gold.uuid


def test_a_policy_is_set_changed_and_cleared(lab: Harness) -> None:
    gold, silver = policy(lab), policy(lab, "silver", write_limit=1024)
    volume = lab.ready_volume(acl=[HOST])
    for asked, expected in (
        (gold.uuid, RateLimit(256, COMMANDS)),
        ("silver", RateLimit(1024, COMMANDS)),
        ("", None),
    ):
        lab.told.clear()
        etag = lab.cluster.volumes[volume.uuid].etag
        lab.update(volume.uuid, qos_policy=asked)
        assert lab.cluster.volumes[volume.uuid].etag == etag + 1
        assert limits(lab, volume.uuid).write == expected
        assert lab.told[0].limits
        assert not lab.told[0].nsids  # hosts need not look at the namespace again
        lab.wait()
    lab.update(volume.uuid, qos_policy=silver.uuid)
    lab.wait()
    assert lab.update(volume.uuid, size_bytes=2 * GIB).qos_policy_uuid == silver.uuid


def test_a_changed_policy_counts_for_its_volumes_at_once(lab: Harness) -> None:
    gold = policy(lab)
    volume = lab.ready_volume(qos_policy="gold")
    lab.told.clear()
    change = lab.cluster.tenants.update_policy(
        gold.uuid, limit=(LimitKind.MB_PER_SECOND, 5, 0), description="new"
    )
    lab.cluster.carry_out(change)
    assert limits(lab, volume.uuid) == RateLimits(RateLimit(5_000_000, BYTES), None)
    assert [change.limits for change in lab.told] == [True]
    assert lab.cluster.tenants.find_policy("gold").description == "new"


def test_names_of_policies_are_unique(lab: Harness) -> None:
    gold = policy(lab)
    with pytest.raises(AlreadyExists, match=str(gold.uuid)):
        policy(lab)
    for name in ("", "a/b", "n" * 254):
        with pytest.raises(InvalidArgument):
            policy(lab, name)


def test_a_policy_in_use_stays_and_says_who_uses_it(lab: Harness) -> None:
    gold = policy(lab)
    volumes = [lab.ready_volume(f"v{number}", qos_policy="gold") for number in range(5)]
    with pytest.raises(
        FailedPrecondition,
        match=r"gold is in use by volume v0 of project default, .* v2 .* and 2 more",
    ):
        lab.cluster.tenants.delete_policy("gold")
    for volume in volumes[1:]:
        lab.update(volume.uuid, qos_policy="")
    lab.delete_volume(volumes[0].uuid)  # no longer counts, though it is still Deleting
    lab.cluster.carry_out(lab.cluster.tenants.delete_policy("gold"))
    assert lab.cluster.tenants.policies.name(gold.uuid) == ""
    lab.wait()
    lab.restart()
    with pytest.raises(NotFound):
        lab.cluster.tenants.find_policy(gold.uuid)


@pytest.mark.parametrize("key", ["bronze", uuid4(), "blue-only"])
def test_a_policy_that_the_project_does_not_have_is_refused(lab: Harness, key: str | UUID) -> None:
    policy(lab, "blue-only", projects=["blue"])
    volume = lab.ready_volume()
    with pytest.raises(InvalidArgument, match="does not exist for project default"):
        lab.volume("other", qos_policy=key)
    with pytest.raises(InvalidArgument, match="does not exist for project default"):
        lab.update(volume.uuid, qos_policy=key)
    assert lab.volume("other", project="blue", qos_policy="blue-only").qos_policy_uuid


def test_who_may_use_a_policy_is_not_narrowed_under_its_volumes(lab: Harness) -> None:
    policy(lab, "gold")
    lab.volume("v", project="blue", qos_policy="gold")
    with pytest.raises(FailedPrecondition, match="in use in projects blue"):
        lab.cluster.tenants.update_policy("gold", projects=["default"])
    with pytest.raises(NotFound, match="project green"):
        lab.cluster.tenants.update_policy("gold", projects=["green"])
    lab.cluster.carry_out(lab.cluster.tenants.update_policy("gold", projects=["blue"]))
    assert [p.name for p in lab.cluster.tenants.list_policies(projects={"blue"})] == ["gold"]
    assert lab.cluster.tenants.list_policies(projects={"default"}) == []
    with pytest.raises(NotFound):
        lab.cluster.tenants.find_policy("gold", {"default"})


def test_new_volumes_get_the_policy_of_their_project_and_clones_too(lab: Harness) -> None:
    gold, silver = policy(lab), policy(lab, "silver")
    old = lab.ready_volume("old", qos_policy="silver")
    snapshot = lab.ready_snapshot(old)
    lab.cluster.carry_out(lab.cluster.tenants.update_project("default", default_policy=gold.uuid))
    assert lab.cluster.volumes[old.uuid].qos_policy_uuid == silver.uuid
    assert lab.volume("new").qos_policy_uuid == gold.uuid
    assert lab.volume("clone", source_snapshot=snapshot.uuid).qos_policy_uuid == gold.uuid
    clone = lab.volume("clone2", source_snapshot=snapshot.uuid, qos_policy="silver")
    assert clone.qos_policy_uuid == silver.uuid
    assert lab.update(old.uuid, qos_policy="").qos_policy_uuid == gold.uuid
    with pytest.raises(FailedPrecondition, match="project default as its default"):
        lab.cluster.tenants.delete_policy("gold")


def test_policies_projects_and_limits_survive_a_restart(lab: Harness) -> None:
    gold = policy(lab, projects=["blue"], description="d")
    lab.cluster.carry_out(
        lab.cluster.tenants.create_project("green", description="g", default_policy=None)
    )
    volume = lab.volume("v", project="blue", qos_policy="gold")
    lab.restart()
    assert lab.cluster.tenants.find_policy("gold") == gold
    assert lab.cluster.projects["green"].description == "g"
    assert limits(lab, volume.uuid).write == RateLimit(256, COMMANDS)


def test_a_project_is_made_while_running_and_deleted_when_empty(lab: Harness) -> None:
    tenants = lab.cluster.tenants
    lab.cluster.carry_out(tenants.create_project("green", description="", default_policy=None))
    lab.volume("v", project="green")
    policy(lab, "gold", projects=["green"])
    with pytest.raises(AlreadyExists):
        tenants.create_project("green", description="", default_policy=None)
    with pytest.raises(FailedPrecondition, match="in use by volume v, QoS policy gold"):
        tenants.delete_project("green")
    with pytest.raises(FailedPrecondition, match="stays"):
        tenants.delete_project("default")
    with pytest.raises(NotFound):
        tenants.delete_project("red")
    lab.wait()
    lab.delete_volume(lab.cluster.volumes.find("green", "v").uuid)
    lab.wait()
    lab.cluster.carry_out(tenants.delete_policy("gold"))
    lab.cluster.carry_out(tenants.delete_project("green"))
    lab.restart()
    assert set(lab.cluster.projects) == {"default", "blue"}


def test_the_cluster_itself_is_no_project(lab: Harness) -> None:
    tenants = lab.cluster.tenants
    with pytest.raises(InvalidArgument, match="the cluster's own"):
        tenants.create_project("system", description="", default_policy=None)
    with pytest.raises(FailedPrecondition, match="the cluster's own and stays"):
        tenants.delete_project("system")


def test_a_project_that_took_the_clusters_name_before_keeps_its_credentials(lab: Harness) -> None:
    lab.database.commit([ProjectRecord(uuid4(), "system")])
    lab.restart()
    with pytest.raises(FailedPrecondition, match="stays"):
        lab.cluster.tenants.delete_project("system")


@pytest.mark.parametrize("name", ["", "Green", "-green", "g" * 64, ".."])
def test_a_bad_project_is_refused(lab: Harness, name: str) -> None:
    tenants = lab.cluster.tenants
    with pytest.raises(InvalidArgument):
        tenants.create_project(name, description="", default_policy=None)
    with pytest.raises(InvalidArgument, match="does not exist for project"):
        tenants.create_project("green", description="", default_policy=uuid4())


def test_a_state_folder_from_before_policies_opens(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.close()
    with sqlite3.connect(lab.directory / "cluster.sqlite") as database:
        database.execute(
            "UPDATE record SET body = json_remove(body, '$.qos_policy_uuid', '$.description', "
            "'$.default_policy_uuid') WHERE kind IN ('volume', 'project')"
        )
    database.close()
    lab.open()
    assert lab.cluster.volumes[volume.uuid] == volume
    assert lab.cluster.projects["blue"].default_policy_uuid is None
    policy(lab)
    assert lab.update(volume.uuid, qos_policy="gold").qos_policy_uuid
