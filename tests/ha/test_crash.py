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

from testbed.cinder.errors import ResourceFailed
from testbed.polling import wait_until
from tests.ha.bench import Bench, User
from tests.ha.conftest import ETCD_BY_DAY
from tests.ha.workload import HOSTS, work

VICTIM = "volume-2"
HELD_SECONDS = 60
"""Longer than it takes to begin all operations; they go on when the rules are cleared."""
ATTEMPTS = 4
"""RabbitMQ deals requests out to the cinder-volumes in turn: one of so many is the victim's."""
MOST_AT_ONCE = 8
"""When what the operations are about is made."""
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

    def begin(self, kind: str, call: str, prepared: list[tuple[str, Operation]]) -> None:
        """Begin operations of a kind until one is the victim's.

        Of each, the end of the name, or a UUID, of what `call` is held back for. Nothing else is
        asked for in between, so that their turns come one after the other.
        """
        for object_id, operation in prepared:
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
        raise AssertionError(f"{VICTIM} got none of {len(prepared)} requests")


@ETCD_BY_DAY
def test_kill_in_the_middle_of_everything(bench: Bench) -> None:
    client = bench.admin.client
    with bench.watch() as watch, ThreadPoolExecutor(len(KINDS) * ATTEMPTS) as pool:
        prepared = prepare(bench)
        under_way = UnderWay(bench, pool)
        for kind, (call, _) in KINDS.items():
            under_way.begin(kind, call, prepared[kind])
        ends = under_way.at_the_victim

        bench.cinder.kill(VICTIM)
        bench.faults.clear()
        for future in under_way.at_others:
            future.result()
        for kind in ("attach", "detach"):
            volume_id, future = ends[kind]
            assert isinstance(future.exception(), exceptions.HttpException), kind
            (attachment,) = bench.attachments_of(volume_id, HOSTS[1])
            bench.admin.detach(attachment)
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
    source = bench.user().create_volume(bench.shared)
    return "", lambda user: user.create_volume(bench.shared, source=source)


def snapshot(bench: Bench) -> tuple[str, Operation]:
    volume = bench.user().create_volume(bench.shared)
    return "", lambda user: user.create_snapshot(volume.id)


def delete(bench: Bench) -> tuple[str, Operation]:
    volume = bench.user().create_volume(bench.shared)
    return volume.id, lambda user: user.delete_volume(volume.id)


def delete_snapshot(bench: Bench) -> tuple[str, Operation]:
    maker = bench.user()
    made = maker.create_snapshot(maker.create_volume(bench.shared).id)
    return made.id, lambda user: user.delete_snapshot(made.id)


def extend(bench: Bench) -> tuple[str, Operation]:
    volume = bench.user().create_volume(bench.shared)
    return volume.id, lambda user: user.client.extend_volume(volume.id, 2)


def attach(bench: Bench) -> tuple[str, Operation]:
    """To one host, while another one has the volume."""
    maker = bench.user()
    volume = maker.create_volume(bench.shared)
    maker.attach(volume.id, HOSTS[0])
    reserved = maker.reserve(volume.id, HOSTS[1])
    return volume.id, lambda user: user.connect(reserved, HOSTS[1])


def detach(bench: Bench) -> tuple[str, Operation]:
    """From one host, while another one keeps the volume."""
    maker = bench.user()
    volume = maker.create_volume(bench.shared)
    maker.attach(volume.id, HOSTS[0])
    attachment = maker.attach(volume.id, HOSTS[1])
    return volume.id, lambda user: user.detach(attachment)


KINDS = {
    "extend": ("UpdateVolume", extend),
    "delete": ("DeleteVolume", delete),
    "delete snapshot": ("DeleteSnapshot", delete_snapshot),
    "create": ("CreateVolume", create),
    "clone": ("CreateVolume", clone),
    "clone's snapshot": ("CreateSnapshot", clone),
    "snapshot": ("CreateSnapshot", snapshot),
    # Last, for the API waits for their answers.
    "attach": ("UpdateVolume", attach),
    "detach": ("UpdateVolume", detach),
}
"""The call that is held back, and what makes operations of this kind."""


def prepare(bench: Bench) -> dict[str, list[tuple[str, Operation]]]:
    """Operations of every kind, each with volumes of its own."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        making = {
            kind: [pool.submit(make, bench) for _ in range(ATTEMPTS)]
            for kind, (_, make) in KINDS.items()
        }
        return {kind: [each.result() for each in made] for kind, made in making.items()}
