# SPDX-License-Identifier: Apache-2.0
"""The model of `make test-ha` sees each way in which a cluster can differ from what should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from testbed.cluster import GIB
from tests.ha.model import Attachment, Found, Known, Snapshot, Volume, differences

HOST, OTHER = "nqn.host", "nqn.other"
KNOWN = Known(
    volumes=(Volume("v", "in-use", 1), Volume("half-made", "error", 1)),
    snapshots=(Snapshot("s", "available"),),
    attachments=(
        Attachment("1", "v", "attached", HOST),
        Attachment("2", "v", "attaching", HOST),
        Attachment("3", "v", "reserved", OTHER),
    ),
    promised=frozenset({"v", "s"}),
)


def volume(**changed: Any) -> dict[str, Any]:
    found = {"name": "volume-v", "state": "Available", "size": str(GIB), "acl": {"values": [HOST]}}
    return found | changed


def snapshot(**changed: Any) -> dict[str, Any]:
    return {"name": "snapshot-s", "state": "Available"} | changed


def found(*volumes: dict[str, Any], snapshots: tuple[dict[str, Any], ...] = ()) -> Found:
    return Found(volumes, snapshots or (snapshot(),))


def test_as_it_should_be() -> None:
    half_made = volume(name="volume-half-made", acl={"values": ["ALLOW_NONE"]})
    deleted = snapshot(name="snapshot-with-clones", state="Deleting")
    assert differences(KNOWN, found(volume())) == []
    assert differences(KNOWN, found(volume(), half_made)) == []
    assert differences(KNOWN, found(volume(), snapshots=(snapshot(), deleted))) == []


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (found(), "the cluster has no volume-v"),
        (found(volume(), volume()), "volume-v is there 2 times"),
        (found(volume(), volume(name="volume-x")), "Cinder has no volume-x"),
        (found(volume(state="Updating")), "volume-v is Updating on the cluster"),
        (found(volume(size="1")), "volume-v has 1 bytes, not 1 GiB"),
        (found(volume(acl={"values": ["ALLOW_NONE"]})), f"volume-v: host {HOST} needs access"),
        (found(volume(acl={"values": [HOST, OTHER]})), f"volume-v: host {OTHER} has access still"),
        (
            found(volume(), snapshots=(snapshot(state="Deleting"),)),
            "the cluster has no snapshot-s: ['Deleting']",
        ),
        (
            found(volume(), snapshots=(snapshot(), snapshot(name="for_clone_v"))),
            "Cinder has no for_clone_v",
        ),
    ],
)
def test_what_is_wrong_on_the_cluster(wrong: Found, line: str) -> None:
    assert differences(KNOWN, wrong) == [line]


def test_what_is_wrong_in_cinder() -> None:
    stuck = replace(KNOWN, snapshots=(Snapshot("s", "deleting"),))
    assert differences(stuck, found(volume())) == [
        "snapshot-s is deleting",
        "s was given to a user, and is not good",
    ]
