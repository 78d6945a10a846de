# SPDX-License-Identifier: Apache-2.0
"""ListChangedBlocks over HTTPS, of what a host wrote over NVMe/TCP."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.contract.lab import PROJECT, Api, Lab
from tests.contract.test_data_path import BLOCK, OPEN_TO_HOST, block, connect

ABSENT = str(uuid.UUID(int=1))
DIFF = f"{PROJECT}/snapshots/diff"
LAST = (1 << 30) // BLOCK - 1


def ranges(reply: dict[str, Any]) -> list[tuple[int, int]]:
    """First and last block of each; zeroes are left out on the wire."""
    found = reply.get("lbaRanges", [])
    assert not any("dataBitMap" in each for each in found)
    return [(int(each.get("lbaStart", "0")), int(each.get("lbaEnd", "0"))) for each in found]


def test_what_a_host_wrote_and_did_not_discard(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        for start in (0, 10, 11, 12, 2000, LAST):
            host.write(volume["nsid"], start, block(1))
        host.deallocate(volume["nsid"], [(11, 1)])
        first = api.create_snapshot("first", volume["UUID"])
        host.write(volume["nsid"], 12, block(2))
        host.write(volume["nsid"], 3000, block(2))
        host.deallocate(volume["nsid"], [(2000, 1)])
        second = api.create_snapshot("second", volume["UUID"])
    whole = [(0, 0), (10, 10), (12, 12), (2000, 2000), (LAST, LAST)]
    found = api.call("GET", f"{DIFF}/{first['UUID']}")
    assert ranges(found) == whole
    assert "nextOffsetLBA" not in found
    assert found == api.call("GET", f"{DIFF}/?snapshotName=first")
    assert ranges(api.call("GET", f"{DIFF}/{first['UUID']}?offsetLBA=2047")) == whole[3:]

    changed = [(12, 12), (2000, 2000), (3000, 3000)]
    by_uuid = api.call("GET", f"{DIFF}/{second['UUID']}?baseSnapshotUUID={first['UUID']}")
    assert ranges(by_uuid) == changed
    assert by_uuid == api.call("GET", f"{DIFF}/?snapshotName=second&baseSnapshotName=first")


def test_a_clones_snapshot_holds_what_the_clone_inherited(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        host.write(volume["nsid"], 7, block(1))
        origin = api.create_snapshot("origin", volume["UUID"])
        clone = api.create_volume("clone", **OPEN_TO_HOST, sourceSnapshotUUID=origin["UUID"])
        host.write(clone["nsid"], 9, block(2))
        snapshot = api.create_snapshot("snap", clone["UUID"])
    assert ranges(api.call("GET", f"{DIFF}/{snapshot['UUID']}")) == [(7, 7), (9, 9)]
    path = f"{DIFF}/{snapshot['UUID']}?baseSnapshotUUID={origin['UUID']}"
    assert api.call("GET", path, status=400)["code"] == 3


def test_many_ranges_come_in_pages(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    written = range(0, 3000, 2)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        for start in written:
            host.write(volume["nsid"], start, block(1))
    snapshot = api.create_snapshot("snap", volume["UUID"])
    found: list[tuple[int, int]] = []
    offset, pages = "0", 0
    while offset:
        page = api.call("GET", f"{DIFF}/{snapshot['UUID']}?offsetLBA={offset}")
        found += ranges(page)
        offset = page.get("nextOffsetLBA", "")
        pages += 1
    assert found == [(start, start) for start in written]
    assert pages == 2


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (ABSENT, 404),
        ("?snapshotName=nothing", 404),
        ("", 400),
        ("no-uuid", 400),
        ("{snap}?baseSnapshotUUID=no-uuid", 400),
        (f"{{snap}}?baseSnapshotUUID={ABSENT}", 404),
        ("{snap}?baseSnapshotName=other", 400),
        ("{snap}?offsetLBA=-1", 400),
        ("{snap}?offsetLBA=many", 400),
        (f"{{snap}}?offsetLBA={LAST + 1}", 400),
    ],
)
def test_what_is_refused(api: Api, key: str, status: int) -> None:
    snapshot = api.create_snapshot("snap", api.create_volume("vol")["UUID"])
    api.create_snapshot("other", api.create_volume("other")["UUID"])
    api.call("GET", f"{DIFF}/{key.format(snap=snapshot['UUID'])}", status=status)


def test_another_projects_snapshot_is_not_shown(lab: Lab, api: Api) -> None:
    snapshot = api.create_snapshot("snap", api.create_volume("vol")["UUID"])
    tenant = Api(lab, token=lab.token("blue"))
    path = f"snapshots/diff/{snapshot['UUID']}"
    tenant.call("GET", f"{PROJECT}/{path}", status=403)
    tenant.call("GET", f"/api/v2/projects/blue/{path}", status=404)
    api.call("GET", f"/api/v2/projects/green/{path}", status=404)
