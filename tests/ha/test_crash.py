# SPDX-License-Identifier: Apache-2.0
"""A cinder-volume is killed in the middle of every kind of operation; others take its place.

The lab holds the decisive call of each operation back, so that the kill lands in the middle, and
lets it go on afterwards: the cluster does what the dead process asked for.

What users are told of operations at the dead process, and Cinder makes unavoidable:

* attach, detach: error 500 after `rpc_response_timeout`, since the answer never comes. The user
  does what Nova does, and deletes the attachment;
* create, clone, snapshot: state "error", from the clean-up; the user deletes it;
* extend, delete of a snapshot: nothing. They stay "extending" and "deleting", for Cinder's
  clean-up knows neither; an administrator resets the state, and they are asked for again.

A delete of a volume is finished by another cinder-volume. Whatever is at the others succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from openstack import exceptions

from testbed.cinder.client import Attachment
from testbed.cinder.errors import ResourceFailed
from testbed.polling import wait_until
from tests.ha.bench import Bench, User
from tests.ha.workload import HOSTS, work

VICTIM = "volume-2"
HELD_SECONDS = 60
"""Longer than it takes to begin all operations; they go on when the rules are cleared."""
ATTEMPTS = 5
"""RabbitMQ deals requests out to the cinder-volumes in turn: one of so many is the victim's."""
POLL_SECONDS = 1.0
"""Many wait for long."""
STEPS_AFTERWARDS = 4

Operation = Callable[[User], Any]


@dataclass
class UnderWay:
    """Operations that the cluster holds back; each is in the middle."""

    bench: Bench
    pool: ThreadPoolExecutor
    at_the_victim: dict[str, tuple[str, Future[Any]]] = field(default_factory=dict)
    """By the kind of operation: the id of the object that it is about, and how it ends."""
    at_others: list[Future[Any]] = field(default_factory=list)

    def begin(self, kind: str, call: str, prepare: Callable[[], tuple[str, Operation]]) -> None:
        """Begin operations of a kind until one is the victim's.

        `prepare` gives the end of the name, or a UUID, of what `call` is held back for, and an
        operation that makes this call.
        """
        for _ in range(ATTEMPTS):
            object_id, operation = prepare()
            fault = self.bench.faults.add(
                operation=call, object=f"*{object_id}", delay_seconds=HELD_SECONDS
            )
            before = self.bench.cinder.requests_received(VICTIM)
            future = self.pool.submit(operation, self.bench.user(poll_seconds=POLL_SECONDS))
            wait_until(lambda: fault.hits, f"{call} of {kind}")  # noqa: B023 - called here
            if self.bench.cinder.requests_received(VICTIM) > before:
                self.at_the_victim[kind] = object_id, future
                return
            self.at_others.append(future)
        raise AssertionError(f"{VICTIM} got none of {ATTEMPTS} requests")


def test_kill_in_the_middle_of_everything(bench: Bench) -> None:
    client = bench.admin.client
    with bench.watch() as watch, ThreadPoolExecutor(10 * ATTEMPTS) as pool:
        to_connect = list(pool.map(attached_and_reserved, [bench] * ATTEMPTS))
        to_detach = list(pool.map(attached_twice, [bench] * ATTEMPTS))
        attachments = {each.volume_id: each for each in (*to_connect, *to_detach)}
        under_way = UnderWay(bench, pool)
        under_way.begin("extend", "UpdateVolume", lambda: extend(bench))
        under_way.begin("delete", "DeleteVolume", lambda: delete(bench))
        under_way.begin("delete snapshot", "DeleteSnapshot", lambda: delete_snapshot(bench))
        under_way.begin("create", "CreateVolume", lambda: create(bench))
        under_way.begin("clone", "CreateVolume", lambda: clone(bench))
        under_way.begin("clone's snapshot", "CreateSnapshot", lambda: clone(bench))
        under_way.begin("snapshot", "CreateSnapshot", lambda: snapshot(bench))
        # Last, for the API waits for their answers.
        under_way.begin("attach", "UpdateVolume", lambda: attach(to_connect.pop()))
        under_way.begin("detach", "UpdateVolume", lambda: detach(to_detach.pop()))
        ends = under_way.at_the_victim

        bench.cinder.kill(VICTIM)
        bench.faults.clear()
        for future in under_way.at_others:
            future.result()
        for kind in ("attach", "detach"):
            volume_id, future = ends[kind]
            assert isinstance(future.exception(), exceptions.HttpException), kind
            client.detach(attachments[volume_id])
        bench.cinder.wait_down(VICTIM)
        client.clean_up_workers()
        for kind in ("create", "clone", "clone's snapshot", "snapshot"):
            assert isinstance(ends[kind][1].exception(), ResourceFailed), kind
        assert ends["delete"][1].exception() is None
        ask_again(bench, ends["delete snapshot"][0], ends["extend"][0])
        bench.check()

        bench.cinder.restart(VICTIM)
        bench.check()
        work(bench, STEPS_AFTERWARDS, seed=5)
    assert watch.lost == set()
    bench.check()
    bench.empty()


def ask_again(bench: Bench, snapshot_id: str, volume_id: str) -> None:
    """Delete a snapshot and extend a volume whose processes died at it."""
    client = bench.admin.client
    client.reset_snapshot_status(snapshot_id, "error")
    client.delete_snapshot(snapshot_id)
    client.reset_volume_status(volume_id, "available")
    client.extend_volume(volume_id, 2)


# --- operations, and what the call that is held back is about -------------------------------------


def create(bench: Bench) -> tuple[str, Operation]:
    return "", lambda user: user.create_volume(bench.shared)


def clone(bench: Bench) -> tuple[str, Operation]:
    """Of a source of its own: of the same, clones take their snapshots one after the other."""
    source = bench.admin.create_volume(bench.shared)
    return "", lambda user: user.create_volume(bench.shared, source=source)


def snapshot(bench: Bench) -> tuple[str, Operation]:
    volume = bench.admin.create_volume(bench.shared)
    return "", lambda user: user.create_snapshot(volume.id)


def delete(bench: Bench) -> tuple[str, Operation]:
    volume = bench.admin.create_volume(bench.shared)
    return volume.id, lambda user: user.delete_volume(volume.id)


def delete_snapshot(bench: Bench) -> tuple[str, Operation]:
    volume = bench.admin.create_volume(bench.shared)
    made = bench.admin.create_snapshot(volume.id)
    return made.id, lambda user: user.delete_snapshot(made.id)


def extend(bench: Bench) -> tuple[str, Operation]:
    volume = bench.admin.create_volume(bench.shared)
    return volume.id, lambda user: user.client.extend_volume(volume.id, 2)


def attach(reserved: Attachment) -> tuple[str, Operation]:
    return reserved.volume_id, lambda user: user.connect(reserved, HOSTS[1])


def detach(attachment: Attachment) -> tuple[str, Operation]:
    return attachment.volume_id, lambda user: user.detach(attachment)


def attached_and_reserved(bench: Bench) -> Attachment:
    """A volume is attached to one host, and reserved for another; the latter attachment."""
    user = bench.user()
    volume = user.create_volume(bench.shared)
    user.attach(volume.id, HOSTS[0])
    return user.reserve(volume.id, HOSTS[1])


def attached_twice(bench: Bench) -> Attachment:
    """A volume is attached to one host, and to another; the latter attachment."""
    user = bench.user()
    volume = user.create_volume(bench.shared)
    user.attach(volume.id, HOSTS[0])
    return user.attach(volume.id, HOSTS[1])
