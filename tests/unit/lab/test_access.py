# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from lightos.lab.errors import InvalidArgument
from lightos.lab.validation import check_acl, check_ip_acl
from tests.unit.lab.harness import ADDRESS, HOST, OTHER_HOST, Harness


@pytest.mark.parametrize(
    ("acl", "ip_acl", "address", "visible"),
    [
        ([HOST], ["ALLOW_ANY"], ADDRESS, True),
        ([OTHER_HOST], ["ALLOW_ANY"], ADDRESS, False),
        ([OTHER_HOST, HOST], ["ALLOW_ANY"], ADDRESS, True),
        (["ALLOW_ANY"], ["ALLOW_ANY"], ADDRESS, True),
        (["ALLOW_NONE"], ["ALLOW_ANY"], ADDRESS, False),
        ([HOST], ["ALLOW_NONE"], ADDRESS, False),
        ([HOST], [ADDRESS], ADDRESS, True),
        ([HOST], ["10.0.0.1", ADDRESS], f"::ffff:{ADDRESS}", True),
        ([HOST], ["10.0.0.1"], ADDRESS, False),
        (["ALLOW_ANY"], ["10.0.0.1"], ADDRESS, False),
        ([HOST], ["FE80:0::1"], "fe80::1%eth0", True),
        ([HOST.upper()], ["ALLOW_ANY"], ADDRESS, False),
    ],
)
def test_a_host_must_pass_both_lists(
    lab: Harness, acl: list[str], ip_acl: list[str], address: str, visible: bool
) -> None:
    volume = lab.ready_volume(acl=acl, ip_acl=ip_acl)
    seen = lab.cluster.namespaces(HOST, address)
    assert list(seen) == ([volume.nsid] if visible else [])


@pytest.mark.parametrize("name", ["ALLOW_ANY", "ALLOW_NONE"])
def test_a_host_cannot_call_itself_by_a_rule(lab: Harness, name: str) -> None:
    lab.ready_volume("one", acl=["ALLOW_NONE"])
    lab.ready_volume("two", acl=["ALLOW_ANY"])
    assert lab.cluster.namespaces(name, ADDRESS) == {}


def test_hosts_are_told_what_becomes_visible_and_what_not(lab: Harness) -> None:
    volume = lab.ready_volume(acl=["ALLOW_NONE"])
    lab.told.clear()
    lab.update(volume.uuid, acl=[HOST])
    assert [change.nsids for change in lab.told] == [{volume.nsid}]
    assert list(lab.cluster.namespaces(HOST, ADDRESS)) == [volume.nsid]
    lab.wait()
    lab.update(volume.uuid, acl=["ALLOW_NONE"])
    assert [change.nsids for change in lab.told] == [{volume.nsid}] * 2
    assert lab.cluster.namespaces(HOST, ADDRESS) == {}


@pytest.mark.parametrize(
    "acl", [[], [""], ["ALLOW_NONE", HOST], ["x" * 224], ["nqn.2014-08.org\n"]]
)
def test_bad_acl(acl: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        check_acl(acl)


@pytest.mark.parametrize(
    "ip_acl",
    [[], ["host1"], ["10.0.0.0/8"], ["ALLOW_NONE", "10.0.0.1"], [f"10.0.0.{n}" for n in range(17)]],
)
def test_bad_ip_acl(ip_acl: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        check_ip_acl(ip_acl)


def test_repeated_entries_count_once() -> None:
    assert check_ip_acl(["10.0.0.1"] * 17) == ("10.0.0.1",)
