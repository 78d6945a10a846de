# SPDX-License-Identifier: Apache-2.0
"""What QoS policies let through, counted by hosts that send as much as they can.

A host's window begins before the first of its commands goes out and ends after the last reply
came in, so it holds the window of the target's own clock: what fits the one fits the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from lightos.lab.throttle import BURST_SECONDS
from lightos.nvme_tcp import commands
from lightos.nvme_tcp.commands import Command
from testbed.initiator import Initiator
from tests.contract.lab import POLICIES, PROJECT, Api, Lab

HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a01"
OTHER_HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a02"
OPEN = {"acl": {"values": [HOST, OTHER_HOST]}, "replicaCount": 3}
BLOCK = 4096
SMALLEST_IOPS = 256
SLOW = {"limitIOPSPerGB": {"readIOPSPerGBLimit": 1, "writeIOPSPerGBLimit": 1}}
"""Of 1 GiB: one command per second."""
UNLIMITED: dict[str, Any] = {"limitIOPS": {}}

Job = tuple[Command, bytes]


def policy(api: Api, name: str = "gold", **limit: Any) -> str:
    rate = {"policyVisibility": "Global", **limit}
    uuid = api.call("POST", POLICIES, {"name": name, "qoSRateLimitPolicy": rate})["UUID"]
    assert isinstance(uuid, str)
    return uuid


def connect(lab: Lab, volume: dict[str, Any], host_nqn: str = HOST, queues: int = 1) -> Initiator:
    node = volume["primaryNodeUUID"]
    (address,) = (each["address"] for each in lab.info["nodes"] if each["uuid"] == node)
    return Initiator(
        address,
        lab.info["nvme_port"],
        lab.info["subsystem_nqn"],
        host_nqn=host_nqn,
        io_queues=queues,
    )


def read(nsid: int, blocks: int = 1) -> Job:
    return commands.read(nsid, 0, blocks, block_size=BLOCK), b""


def write(nsid: int, blocks: int = 1) -> Job:
    return commands.write(nsid, 0, blocks, block_size=BLOCK), bytes(blocks * BLOCK)


def send(host: Initiator, jobs: list[Job], queue: int = 0) -> None:
    for reply in host.io[queue].pipeline(jobs, depth=64):
        reply.check("limited I/O")


def seconds_of(*work: Callable[[], None]) -> float:
    """How long it takes to do all of this at once."""
    with ThreadPoolExecutor(len(work)) as pool:
        began = time.monotonic()
        for done in [pool.submit(each) for each in work]:
            done.result()
        return time.monotonic() - began


def test_all_hosts_and_queues_together_keep_the_iops_of_a_volume(lab: Lab, api: Api) -> None:
    policy(api, limitIOPS={"readIOPSLimit": 512, "writeIOPSLimit": SMALLEST_IOPS})
    volume = api.create_volume("vol", **OPEN, qosPolicyName="gold")
    nsid = volume["nsid"]
    with (
        connect(lab, volume, queues=2) as host,
        connect(lab, volume, OTHER_HOST) as other,
    ):
        writers = [(host, 0), (host, 1), (other, 0)]
        for job, limit in ((write(nsid), SMALLEST_IOPS), (read(nsid), 512)):
            each = limit // 2
            took = seconds_of(*(partial(send, to, [job] * each, queue) for to, queue in writers))
            assert len(writers) * each <= limit * took + max(limit * BURST_SECONDS, 1)


def test_a_volume_keeps_its_bandwidth_whatever_the_size_of_its_io(lab: Lab, api: Api) -> None:
    policy(api, limitBw={"readBWLimit": 0, "writeBWLimit": 10})
    volume = api.create_volume("vol", **OPEN, qosPolicyName="gold")
    with connect(lab, volume) as host:
        for blocks, count in ((1, 2000), (256, 8)):
            job = write(volume["nsid"], blocks)
            took = seconds_of(partial(send, host, [job] * count))
            allowed = 10_000_000 * took + max(10_000_000 * BURST_SECONDS, blocks * BLOCK)
            assert count * blocks * BLOCK <= allowed


def test_iops_per_gb_follow_the_size_of_the_volume(lab: Lab, api: Api) -> None:
    policy(api, limitIOPSPerGB={"readIOPSPerGBLimit": 100, "writeIOPSPerGBLimit": 0})
    volume = api.create_volume("vol", **OPEN, qosPolicyName="gold")
    with connect(lab, volume) as host:
        for gib in (1, 4):
            api.call("PUT", f"{PROJECT}/volumes/{volume['UUID']}", {"size": f"{gib} gib"})
            api.settled("volumes", volume["UUID"])
            jobs = [read(volume["nsid"])] * 150
            took = seconds_of(partial(send, host, jobs))
            assert len(jobs) <= 100 * gib * took + max(100 * gib * BURST_SECONDS, 1)


def test_io_that_waits_follows_a_change_of_policy_and_of_volume(lab: Lab, api: Api) -> None:
    """At a command per second none of this would end: the change lets it through."""
    slow = policy(api, "slow", **SLOW)
    policy(api, "fast", **UNLIMITED)
    volume = api.create_volume("vol", **OPEN, qosPolicyName="slow")
    other = api.create_volume("other", **OPEN, qosPolicyName="slow")
    free = api.create_volume("free", **OPEN)
    path = f"{PROJECT}/volumes/{volume['UUID']}"
    changes = [
        (path, {"qosPolicyName": "fast"}),
        (path, {"qosPolicyName": "slow"}),
        (path, {"qosPolicyName": ""}),
        (f"{PROJECT}/volumes/{other['UUID']}", {"qosPolicyUUID": ""}),
    ]
    for where, change in changes:
        target = other if other["UUID"] in where else volume
        api.settled("volumes", target["UUID"])
        if change == {"qosPolicyName": "slow"}:
            api.call("PUT", where, change)
            continue
        with connect(lab, target) as host:
            cids = [host.io[0].submit(*write(target["nsid"])) for _ in range(100)]
            with connect(lab, free) as unhindered:
                for _ in range(100):
                    unhindered.write(free["nsid"], 0, bytes(BLOCK))
            api.call("PUT", where, change)
            for cid in cids:
                host.io[0].wait(cid).check("write")
    api.settled("volumes", volume["UUID"])
    api.call("PUT", path, {"qosPolicyUUID": slow})
    with connect(lab, volume) as host:
        cids = [host.io[0].submit(*write(volume["nsid"])) for _ in range(100)]
        api.call("PUT", f"{POLICIES}/{slow}", {"qoSRateLimitPolicy": UNLIMITED})
        for cid in cids:
            host.io[0].wait(cid).check("write")


def test_limits_hold_after_a_restart(own_lab: Lab) -> None:
    api = Api(own_lab)
    policy(api, limitIOPS={"readIOPSLimit": SMALLEST_IOPS, "writeIOPSLimit": 0})
    volume = api.create_volume("vol", **OPEN, qosPolicyName="gold")
    own_lab.kill()
    own_lab.start()
    api = Api(own_lab)
    assert api.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")["qosPolicyName"] == "gold"
    with connect(own_lab, volume) as host:
        jobs = [read(volume["nsid"])] * 300
        took = seconds_of(partial(send, host, jobs))
        assert len(jobs) <= SMALLEST_IOPS * (took + BURST_SECONDS)
