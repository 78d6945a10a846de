# SPDX-License-Identifier: Apache-2.0
"""Users that work on the same and on different volumes at once, at random."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from openstack.block_storage.v3.snapshot import Snapshot
from openstack.block_storage.v3.volume import Volume
from openstack.exceptions import HttpException

from testbed.cinder.client import Attachment
from testbed.cinder.errors import ResourceFailed
from testbed.cluster import connector
from tests.ha.bench import Bench, User

HOSTS = tuple(connector(f"compute-{number}", number=number) for number in (1, 2, 3))
USERS = 6
SHARED_VOLUMES = 3
MOST_OWN = 3
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Rules:
    """`excused`: operations that may fail. `left_out`: those that nobody does.

    `in_one_call`: attachments are made with their connector, not reserved first.
    """

    excused: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    in_one_call: bool = False


NO_ERRORS = Rules()


@dataclass
class Worker:
    """A user with volumes and snapshots of its own, beside the volumes that all share."""

    user: User
    bench: Bench
    shared: list[Volume]
    random: random.Random
    rules: Rules
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    volumes: list[Volume] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)

    def step(self) -> None:
        """One operation that is possible now."""
        possible = [each for each in self._possible() if each.__name__ not in self.rules.left_out]
        operation = self.random.choice(possible)
        try:
            operation()
        except (HttpException, ResourceFailed):
            if operation.__name__ not in self.rules.excused:
                raise
            self.failed[operation.__name__] += 1
        else:
            self.done[operation.__name__] += 1

    def _possible(self) -> list[Callable[[], None]]:
        possible = [self.attach, self.attach]
        if self.attachments:
            possible += [self.detach] * len(self.attachments)
        if len(self.volumes) < MOST_OWN:
            possible += [self.create, self.clone]
        if len(self.snapshots) < MOST_OWN:
            possible.append(self.snapshot)
        if self.snapshots:
            possible.append(self.delete_snapshot)
            if len(self.volumes) < MOST_OWN:
                possible.append(self.restore)
        if self._deletable():
            possible.append(self.delete)
        return possible

    def create(self) -> None:
        self.volumes.append(self.user.create_volume(self.bench.shared))

    def clone(self) -> None:
        source = self.random.choice(self.shared)
        self.volumes.append(self.user.create_volume(self.bench.shared, source=source))

    def restore(self) -> None:
        snapshot = self.random.choice(self.snapshots)
        self.volumes.append(self.user.create_volume(self.bench.shared, snapshot=snapshot))

    def snapshot(self) -> None:
        volume = self.random.choice(self.shared)
        self.snapshots.append(self.user.create_snapshot(volume.id))

    def attach(self) -> None:
        volume = self.random.choice([*self.shared, *self.volumes])
        host = self.random.choice(HOSTS)
        if self.rules.in_one_call:
            attachment = self.user.attach_in_one_call(volume.id, host)
            self.user.client.mark_attached(attachment)
        else:
            attachment = self.user.attach(volume.id, host)
        self.attachments.append(attachment)

    def detach(self) -> None:
        attachment = self.random.choice(self.attachments)
        self.attachments.remove(attachment)
        try:
            self.user.detach(attachment)
        except HttpException:
            self.user.give_up(attachment)
            raise

    def delete(self) -> None:
        volume = self.random.choice(self._deletable())
        self.volumes.remove(volume)
        self.user.delete_volume(volume.id)

    def delete_snapshot(self) -> None:
        snapshot = self.random.choice(self.snapshots)
        self.snapshots.remove(snapshot)
        self.user.delete_snapshot(snapshot.id)

    def _deletable(self) -> list[Volume]:
        attached = {attachment.volume_id for attachment in self.attachments}
        return [volume for volume in self.volumes if volume.id not in attached]


def work(
    bench: Bench,
    steps: int,
    seed: int,
    rules: Rules = NO_ERRORS,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Counter[str], Counter[str]]:
    """Have all users take `steps` steps each, at once; how many operations were done and failed.

    `meanwhile` is called when a third of them is done. The first error without excuse ends it all.
    """
    shared = [bench.admin.create_volume(bench.shared) for _ in range(SHARED_VOLUMES)]
    workers = [
        Worker(bench.user(), bench, shared, random.Random(f"{seed} {number}"), rules)
        for number in range(USERS)
    ]
    ended = threading.Event()

    def run(worker: Worker) -> None:
        try:
            for _ in range(steps):
                if ended.is_set():
                    return
                worker.step()
        except BaseException:
            ended.set()
            raise

    def taken() -> int:
        return sum(worker.done.total() + worker.failed.total() for worker in workers)

    with ThreadPoolExecutor(USERS) as pool:
        running = [pool.submit(run, worker) for worker in workers]
        while taken() < USERS * steps / 3 and not ended.wait(PAUSE_SECONDS):
            pass
        meanwhile()
        for each in running:
            each.result()
    counts = ([worker.done for worker in workers], [worker.failed for worker in workers])
    done, failed = (sum(each, Counter()) for each in counts)
    return done, failed
