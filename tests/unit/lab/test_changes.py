# SPDX-License-Identifier: Apache-2.0
"""The queue on a real event loop, cluster and store; waits end by events, not by the clock."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from lightos.lab.changes import Change, ChangeQueue
from lightos.lab.errors import AlreadyExists, Internal
from lightos.lab.records import VolumeRecord, VolumeState
from tests.unit.lab.harness import GIB, TRANSITION_SECONDS, Harness


def create(lab: Harness, name: str) -> Callable[[], Change[VolumeRecord]]:
    return partial(
        lab.cluster.volumes.create,
        "default",
        name=name,
        size_bytes=GIB,
        replica_count=3,
        acl=["ALLOW_ANY"],
        ip_acl=["ALLOW_ANY"],
        compression=False,
        sector_size_bytes=4096,
    )


def run(lab: Harness, test: Callable[[ChangeQueue], Coroutine[Any, Any, None]]) -> None:
    async def with_queue() -> None:
        queue = ChangeQueue(lab.cluster)
        try:
            await test(queue)
        finally:
            await queue.close()

    asyncio.run(with_queue())


async def until_told(lab: Harness, reached: Callable[[], bool]) -> None:
    """Wait for a change that hosts are told of."""
    told = asyncio.Event()
    unsubscribe = lab.cluster.subscribe(lambda _change: told.set())
    try:
        async with asyncio.timeout(10):
            while not reached():
                await told.wait()
                told.clear()
    finally:
        unsubscribe()


def test_of_two_creates_of_one_name_one_is_refused(lab: Harness) -> None:
    async def test(queue: ChangeQueue) -> None:
        results = await asyncio.gather(
            *(queue.carry_out(create(lab, "vol")) for _ in range(2)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Change, AlreadyExists]

    run(lab, test)
    assert len(lab.store.uuids()) == 1


def test_a_caller_that_goes_away_does_not_end_its_change(lab: Harness) -> None:
    async def test(queue: ChangeQueue) -> None:
        caller = asyncio.create_task(queue.carry_out(create(lab, "vol")))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await queue.carry_out(create(lab, "next"))

    run(lab, test)
    assert {volume.name for volume in lab.cluster.volumes.values()} == {"vol", "next"}
    lab.restart()
    assert {volume.name for volume in lab.cluster.volumes.values()} == {"vol", "next"}


def test_nobody_is_told_of_a_refusal_whose_caller_went_away(
    lab: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(queue: ChangeQueue) -> None:
        await queue.carry_out(create(lab, "vol"))
        async with queue._turn:
            caller = asyncio.create_task(queue.carry_out(create(lab, "vol")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        await queue.carry_out(create(lab, "next"))
        gc.collect()

    run(lab, test)
    assert caplog.records == []


def test_what_falls_due_ends_by_itself(lab: Harness) -> None:
    async def test(queue: ChangeQueue) -> None:
        (volume,) = (await queue.carry_out(create(lab, "vol"))).put
        lab.seconds += TRANSITION_SECONDS
        await queue.carry_out(create(lab, "next"))  # arms the timer on the moved clock
        states = lab.cluster.volumes
        await until_told(lab, lambda: states[volume.uuid].state is VolumeState.AVAILABLE)

    run(lab, test)


def test_what_falls_due_does_not_wait_for_the_queue(lab: Harness) -> None:
    async def test(queue: ChangeQueue) -> None:
        (volume,) = (await queue.carry_out(create(lab, "vol"))).put
        states: list[VolumeState] = []

        def look() -> Change[VolumeRecord]:
            states.append(lab.cluster.volumes[volume.uuid].state)
            return Change()

        lab.seconds += TRANSITION_SECONDS
        await queue.carry_out(look)
        assert states == [VolumeState.AVAILABLE]

    run(lab, test)


def test_a_full_disk_refuses_the_change_and_delays_what_falls_due(lab: Harness) -> None:
    connection = lab.database._connection
    (uuid,) = [lab.volume("vol").uuid]

    async def test(queue: ChangeQueue) -> None:
        connection.execute("PRAGMA query_only = ON")  # SQLite refuses every write
        with pytest.raises(Internal, match="cannot write its metadata"):
            await queue.carry_out(create(lab, "next"))
        lab.seconds += TRANSITION_SECONDS
        await queue.carry_out(Change)  # nothing to make, but it arms the timer
        while lab.cluster.seconds_to_next_due() in (0.0, None):  # None: in the worker
            await asyncio.sleep(0)
        assert lab.cluster.volumes[uuid].state is VolumeState.CREATING
        connection.execute("PRAGMA query_only = OFF")
        lab.seconds += 10
        await queue.carry_out(Change)
        await until_told(lab, lambda: lab.cluster.volumes[uuid].state is VolumeState.AVAILABLE)

    run(lab, test)
    assert lab.store.uuids() == {uuid}


def test_blocks_that_are_gone_already_do_not_stop_the_clock(lab: Harness) -> None:
    gone, other = lab.ready_volume("gone"), lab.volume("other")
    lab.store.delete(gone.uuid)

    async def test(queue: ChangeQueue) -> None:
        await queue.carry_out(partial(lab.cluster.volumes.delete, "default", gone.uuid))
        lab.seconds += TRANSITION_SECONDS
        await queue.carry_out(Change)  # nothing to make, but it arms the timer
        states = lab.cluster.volumes
        await until_told(lab, lambda: states[other.uuid].state is VolumeState.AVAILABLE)

    run(lab, test)
    assert set(lab.cluster.volumes) == {other.uuid}


def test_a_defect_in_one_change_does_not_stop_the_clock(
    lab: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = lab.ready_volume("broken"), lab.ready_volume("other")
    delete = lab.store.delete

    def delete_unless_broken(uuid: UUID) -> None:
        if uuid == broken.uuid:
            raise RuntimeError("a defect")
        delete(uuid)

    monkeypatch.setattr(lab.store, "delete", delete_unless_broken)

    async def test(queue: ChangeQueue) -> None:
        reported = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: reported.set_result(context["exception"])
        )
        for volume, delay in ((broken, 0.0), (other, TRANSITION_SECONDS / 2)):
            lab.seconds += delay
            await queue.carry_out(partial(lab.cluster.volumes.delete, "default", volume.uuid))
        lab.seconds += TRANSITION_SECONDS / 2
        await queue.carry_out(Change)  # the first falls due, the second does not yet
        while queue._tasks or lab.cluster.seconds_to_next_due() == 0.0:
            await asyncio.sleep(0)
        lab.seconds += TRANSITION_SECONDS
        async with asyncio.timeout(10):
            while other.uuid in lab.cluster.volumes:
                await asyncio.sleep(0.01)

    run(lab, test)
