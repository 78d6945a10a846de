# SPDX-License-Identifier: Apache-2.0
"""Writes that the fault plan holds, whose command ends for its host before they are released."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from lightos.nvme_tcp import commands
from lightos.nvme_tcp.constants import AcquireAction, Property, ReservationType, Status
from testbed.initiator import Initiator
from testbed.polling import wait_until
from tests.unit.target.cluster import OTHER_NQN, Lab

Connect = Callable[..., Initiator]
HOST_KEY, OTHER_KEY = 0xA, 0xB
SHARED = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
LATE, NEWEST = b"l" * 512, b"n" * 512


def is_preempted_and_registers_again(host: Initiator, other: Initiator, late: int) -> None:
    other.acquire(
        1, OTHER_KEY, SHARED, action=AcquireAction.PREEMPT_AND_ABORT, preempt_key=HOST_KEY
    )
    aborted = host.io[0].wait(late).completion
    assert aborted.status == Status.ABORTED_BY_PREEMPT_AND_ABORT
    host.register(1, HOST_KEY)


def loses_its_connection(host: Initiator, _other: Initiator, _late: int) -> None:
    host.io[0].close()


def deletes_the_queue(host: Initiator, _other: Initiator, _late: int) -> None:
    host.io[0].submit(commands.disconnect())


def resets_the_controller(host: Initiator, _other: Initiator, _late: int) -> None:
    host.admin.run(commands.property_set(Property.CC, 0)).check("disable")
    host.enable()


@pytest.mark.parametrize(
    ("end", "queues_left"),
    [
        (is_preempted_and_registers_again, {0, 1}),
        (loses_its_connection, {0}),
        (deletes_the_queue, {0}),
        (resets_the_controller, {0}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_held_write_that_ended_for_its_host_never_lands(
    lab: Lab,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    end: Callable[[Initiator, Initiator, int], None],
    queues_left: set[int],
) -> None:
    """The association lasts, and the host may write all the time."""
    caplog.set_level(logging.INFO)
    lab.do(lambda: lab.cluster.acls[1].add(OTHER_NQN))
    host, other = connect(), connect(host_nqn=OTHER_NQN)
    host.register(1, HOST_KEY)
    other.register(1, OTHER_KEY)
    other.acquire(1, OTHER_KEY, SHARED)
    volume, server = lab.cluster.volumes[1].uuid, lab.servers[0]
    controller = server.io.controllers[host.controller_id]
    lab.do(server.hold_writes)
    write = commands.in_capsule(commands.write(1, 0, 1, block_size=512))
    late = host.io[0].submit(write, LATE)
    wait_until(lambda: lab.traffic.held_writes, "the write is held", pause=0.01)
    end(host, other, late)
    wait_until(lambda: controller.queues.keys() == queues_left, "the queue is gone", pause=0.01)
    lab.do(lambda: lab.store.write(volume, 0, NEWEST))  # the retry, by whatever way
    lab.do(server.release_writes)
    wait_until(lambda: "a write that was held" in caplog.text, "the write is refused", pause=0.01)
    assert lab.store.read(volume, 0, 512) == NEWEST
    assert lab.traffic.path_refusals == 0
    assert controller is server.io.controllers[host.controller_id]
