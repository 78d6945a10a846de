# SPDX-License-Identifier: Apache-2.0
"""Reservations of a running lab: on all nodes, through a kill, and beside the management API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lightos.nvme_tcp.constants import AsyncEvent, PersistenceChange, ReservationType
from lightos.nvme_tcp.errors import CommandFailed
from testbed.initiator import Initiator
from tests.contract.lab import PROJECT, Api, Lab

A_NQN, B_NQN = "nqn.2014-08.org.example:a", "nqn.2014-08.org.example:b"
A_KEY, B_KEY = 0xA, 0xB
BLOCK = bytes(4096)
SHARED = {"acl": {"values": [A_NQN, B_NQN]}, "replicaCount": 3}
HELD = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY


@contextmanager
def two_hosts(lab: Lab, node_uuid: str) -> Iterator[tuple[Initiator, Initiator]]:
    """Both on one node."""
    (address,) = (node["address"] for node in lab.info["nodes"] if node["uuid"] == node_uuid)
    port, subsystem_nqn = lab.info["nvme_port"], lab.info["subsystem_nqn"]
    with (
        Initiator(address, port, subsystem_nqn, host_nqn=A_NQN) as a,
        Initiator(address, port, subsystem_nqn, host_nqn=B_NQN) as b,
    ):
        yield a, b


def test_a_reservation_holds_on_every_node_and_through_a_kill(own_lab: Lab) -> None:
    api = Api(own_lab)
    kept = api.create_volume("kept", **SHARED)
    first = kept["primaryNodeUUID"]
    with two_hosts(own_lab, first) as (a, b):
        a.register(kept["nsid"], A_KEY, persistence=PersistenceChange.SET)
        a.acquire(kept["nsid"], A_KEY, HELD)
        with pytest.raises(CommandFailed, match="reservation conflict"):
            b.write(kept["nsid"], 0, BLOCK)

    nodes = [node["uuid"] for node in own_lab.info["nodes"]]
    elsewhere = Api(own_lab, (nodes.index(first) + 1) % 3)
    elsewhere.call("POST", f"/api/v2/nodes/{first}/stop", {})
    volume = f"{PROJECT}/volumes/{kept['UUID']}"
    second = elsewhere.call("GET", volume)["primaryNodeUUID"]
    lost = elsewhere.create_volume("lost", **SHARED)
    with two_hosts(own_lab, second) as (a, b):
        a.write(kept["nsid"], 0, BLOCK)
        with pytest.raises(CommandFailed, match="conflict"):
            b.write(kept["nsid"], 0, BLOCK)
    with two_hosts(own_lab, lost["primaryNodeUUID"]) as (a, b):
        a.register(lost["nsid"], A_KEY)
        a.acquire(lost["nsid"], A_KEY, HELD)
        with pytest.raises(CommandFailed, match="conflict"):
            b.write(lost["nsid"], 0, BLOCK)

    own_lab.kill()
    own_lab.start()
    second = elsewhere.call("GET", volume)["primaryNodeUUID"]
    with two_hosts(own_lab, second) as (a, b):
        a.write(kept["nsid"], 0, BLOCK)
        with pytest.raises(CommandFailed, match="conflict"):
            b.write(kept["nsid"], 0, BLOCK)
        report = b.reservation_report(kept["nsid"])
        assert (report.generation, report.reservation_type, report.persists) == (1, HELD, True)
        assert [(each.key, each.status) for each in report.registrants] == [(A_KEY, 1)]
    with two_hosts(own_lab, lost["primaryNodeUUID"]) as (_, b):
        b.write(lost["nsid"], 0, BLOCK)
        assert b.reservation_report(lost["nsid"]).registrants == ()


def test_who_loses_access_loses_its_reservation(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **SHARED)
    nsid, path = volume["nsid"], f"{PROJECT}/volumes/{volume['UUID']}"
    with two_hosts(lab, volume["primaryNodeUUID"]) as (a, b):
        for host, key in ((a, A_KEY), (b, B_KEY)):
            host.register(nsid, key)
        a.acquire(nsid, A_KEY, HELD)
        told = b.watch()
        api.call("PUT", path, {"acl": {"values": [B_NQN]}})
        assert b.event(told) is AsyncEvent.RESERVATION_LOG_AVAILABLE
        report = b.reservation_report(nsid)
        assert (report.reservation_type, len(report.registrants)) == (0, 1)
        api.settled("volumes", volume["UUID"])
        api.call("PUT", path, {"acl": {"values": [A_NQN, B_NQN]}})
        a.write(nsid, 0, BLOCK)
        with pytest.raises(CommandFailed, match="conflict"):
            a.acquire(nsid, A_KEY, HELD)
        clone = api.create_volume(
            "clone",
            **SHARED,
            sourceSnapshotUUID=api.create_snapshot("snap", volume["UUID"])["UUID"],
        )
    with two_hosts(lab, clone["primaryNodeUUID"]) as (_, b):
        assert b.reservation_report(clone["nsid"]).registrants == ()
