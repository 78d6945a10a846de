# SPDX-License-Identifier: Apache-2.0
"""Rate limits over real sockets: what waits, what does not, and what becomes of what waited.

The limit is one command in many seconds, so what waits stays there until the test lifts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest

from lightos.lab.controller.queue import OUTPUT_BATCH_BYTES, OUTPUT_HIGH_BYTES
from lightos.lab.throttle import Direction, Lane
from lightos.lab.view import AnaState, RateLimit, RateLimits, RateUnit
from lightos.nvme_tcp import commands
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import Status
from testbed.initiator import Initiator
from tests.unit.target.cluster import HOST_NQN, MIB, Lab

Connect = Callable[..., Initiator]
BLOCK = 512
STILL = RateLimit(1, RateUnit.BYTES)
"""A byte per second: whatever moves more leaves a debt that no test outlives."""
LIMITED, FREE = 1, 2


def data(number: int, blocks: int = 8) -> bytes:
    return bytes([number]) * BLOCK * blocks


def write(number: int, nsid: int = LIMITED, blocks: int = 8) -> Command:
    return commands.write(nsid, number * blocks, blocks, block_size=BLOCK)


def limit(lab: Lab, limits: RateLimits) -> None:
    volume = lab.cluster.volumes[LIMITED].uuid
    lab.do(lambda: lab.cluster.limit(volume, limits))


def still(lab: Lab, connect: Connect, nsid: int = LIMITED) -> None:
    """Limit writes and reads, and spend what the buckets hold."""
    limit(lab, RateLimits(read=STILL, write=STILL))
    host = connect()
    host.block_size(nsid)

    def spend() -> None:
        for direction in Direction:
            lane = lab.throttles.lane(lab.cluster.volumes[LIMITED].uuid, direction)
            assert lane is not None
            while not lane.admit(MIB):
                lane._filled_at -= 1

    lab.do(spend)


def lift(lab: Lab) -> None:
    limit(lab, RateLimits())


def waiting(lab: Lab, direction: Direction) -> int:
    """How many commands wait; they have been looked at once the host's next command is done."""

    def count() -> int:
        lane = lab.throttles.lane(lab.cluster.volumes[LIMITED].uuid, direction)
        assert isinstance(lane, Lane)
        return sum(map(len, lane._waiting.values()))

    found = lab.do(count)
    assert isinstance(found, int)
    return found


@pytest.fixture
def free(lab: Lab) -> UUID:
    return lab.add_volume(FREE, HOST_NQN)


@pytest.mark.parametrize("in_capsule", [True, False])
def test_writes_wait_while_another_volume_on_the_same_queue_is_served(
    lab: Lab, connect: Connect, free: UUID, in_capsule: bool
) -> None:
    still(lab, connect)
    host = connect()
    queue = host.io[0]
    cids = []
    for number in range(20):
        command = commands.in_capsule(write(number)) if in_capsule else write(number)
        cids.append(queue.submit(command, data(number)))
    for number in range(20):
        host.write(FREE, number * 8, data(number))
        assert host.read(FREE, number * 8, 8) == data(number)
    host.keep_alive()
    assert waiting(lab, Direction.WRITE) == 20
    assert lab.store.read(lab.cluster.volumes[LIMITED].uuid, 0, MIB) == bytes(MIB)
    lift(lab)
    for cid in cids:
        queue.wait(cid).check("write")
    for number in range(20):
        assert host.read(LIMITED, number * 8, 8) == data(number)


def test_every_command_that_moves_data_or_frees_it_waits(lab: Lab, connect: Connect) -> None:
    still(lab, connect)
    host = connect()
    queue = host.io[0]
    read = queue.submit(commands.read(LIMITED, 0, 8, block_size=BLOCK))
    waits = [
        queue.submit(write(0), data(1)),
        queue.submit(commands.compare(LIMITED, 0, 8, block_size=BLOCK), data(1)),
        queue.submit(commands.write_zeroes(LIMITED, 0, 8)),
        queue.submit(commands.in_capsule(commands.deallocate(LIMITED, 1)), bytes(16)),
    ]
    host.flush(LIMITED)  # moves nothing of its own, and does not wait
    assert waiting(lab, Direction.READ) == 1
    assert waiting(lab, Direction.WRITE) == 4
    limit(lab, RateLimits(write=STILL))
    assert queue.wait(read).check("read").data == bytes(8 * BLOCK)
    assert waiting(lab, Direction.WRITE) == 4
    lift(lab)
    assert [queue.wait(cid).completion.status for cid in waits] == [0] * 4


def test_what_waits_is_checked_again_when_its_turn_comes(lab: Lab, connect: Connect) -> None:
    still(lab, connect)
    host = connect()
    cids = [host.io[0].submit(write(0), data(1)) for _ in range(3)]
    host.keep_alive()
    lab.do(lambda: lab.cluster.states.update({(UUID(int=1), 1): AnaState.INACCESSIBLE}))
    host.flush()
    lift(lab)
    statuses = {host.io[0].wait(cid).completion.status for cid in cids}
    assert statuses == {Status.ANA_INACCESSIBLE}
    lab.do(lambda: lab.cluster.states.clear())
    assert host.read(LIMITED, 0, 8) == bytes(8 * BLOCK)


def test_a_namespace_that_goes_while_commands_wait(lab: Lab, connect: Connect) -> None:
    still(lab, connect)
    host = connect()
    cid = host.io[0].submit(write(0), data(1))
    host.flush()
    assert waiting(lab, Direction.WRITE) == 1

    def take_away() -> None:
        uuid = lab.cluster.volumes.pop(LIMITED).uuid
        lab.cluster.changed([LIMITED])
        lab.cluster.limit(uuid, RateLimits())

    lab.do(take_away)
    assert host.io[0].wait(cid).completion.status == Status.INVALID_NAMESPACE


def test_a_bad_command_waits_for_no_more_than_a_good_one_can_move(
    lab: Lab, connect: Connect
) -> None:
    limit(lab, RateLimits(read=RateLimit(1 << 30, RateUnit.BYTES)))
    host = connect()
    good = commands.read(LIMITED, 0, 8, block_size=BLOCK)
    for _ in range(50):
        longest, longer = good._replace(data_length=MIB), good._replace(data_length=0xFFFFFFFF)
        assert host.io[0].run(longest).completion.status == Status.DATA_SGL_LENGTH_INVALID
        assert host.io[0].run(longer).completion.status == Status.INVALID_FIELD
    assert host.read(LIMITED, 0, 8) == bytes(8 * BLOCK)


def test_nothing_waits_for_a_connection_that_ended(lab: Lab, connect: Connect) -> None:
    still(lab, connect)
    host, other = connect(io_queues=2), connect()
    for queue in (*host.io, other.io[0]):
        for number in range(10):
            queue.submit(write(number), data(number))
    for each in (host, other):
        each.keep_alive()
        each.flush()
    host.io[1].run(commands.flush(LIMITED)).check("flush")
    assert waiting(lab, Direction.WRITE) == 30
    host.close()

    async def left() -> None:
        while waiting_now() > 10:
            await asyncio.sleep(0.01)

    def waiting_now() -> int:
        lane = lab.throttles.lane(lab.cluster.volumes[LIMITED].uuid, Direction.WRITE)
        assert lane is not None
        return sum(map(len, lane._waiting.values()))

    lab.run(left())
    assert waiting(lab, Direction.WRITE) == 10
    lift(lab)
    assert other.read(LIMITED, 0, 8) == data(0)


def test_reads_whose_turn_comes_wait_for_a_host_that_takes_nothing(
    lab: Lab, connect: Connect
) -> None:
    still(lab, connect)
    host = connect()
    queue = host.io[0]
    read = commands.read(LIMITED, 0, MIB // BLOCK, block_size=BLOCK)
    cids = [queue.submit(read) for _ in range(100)]
    queue.run(commands.flush(LIMITED)).check("flush")
    assert waiting(lab, Direction.READ) == 100
    lift(lab)

    def buffered() -> int:
        return max(q._transport.get_write_buffer_size() for q in lab.servers[0].io._queues)

    assert lab.do(buffered) <= OUTPUT_HIGH_BYTES + OUTPUT_BATCH_BYTES + MIB
    for cid in cids:
        assert len(queue.wait(cid).check("read").data) == MIB
