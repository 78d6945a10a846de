# SPDX-License-Identifier: Apache-2.0
"""One host, one volume, and two cinder-volumes at the same moment.

Cinder's API takes a second attachment of a volume only while it is "in-use", and lets updates of
attachments of one host wait for each other; so of two attaches at once, one updates a reserved
attachment, and the other is made with its connector.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from openstack.block_storage.v3.volume import Volume

from testbed.cinder.client import Attachment
from tests.ha.bench import Bench, Connector
from tests.ha.workload import HOSTS

HOST, OTHER = HOSTS[0], HOSTS[1]
ROUNDS = 6


@pytest.fixture
def volume(bench: Bench) -> Volume:
    """Attached to another host."""
    made = bench.admin.create_volume(bench.shared)
    bench.admin.attach(made.id, OTHER)
    return made


def at_once(*operations: Any) -> list[Any]:
    """Their results; they begin at the same moment."""
    ready = Barrier(len(operations))

    def run(operation: Any) -> Any:
        ready.wait()
        return operation()

    with ThreadPoolExecutor(len(operations)) as pool:
        return list(pool.map(run, operations))


def reserved_beside(bench: Bench, volume: Volume, host: Connector) -> Attachment:
    """An attachment that waits for its host, of a volume that can be attached once more."""
    reserved = bench.admin.reserve(volume.id, host)
    others = bench.attachments_of(volume.id)
    bench.admin.client.mark_attached(next(each for each in others if each.status == "attached"))
    return reserved


def test_two_attaches_at_once(bench: Bench, volume: Volume) -> None:
    one, two = bench.user(), bench.user()
    received = bench.requests_received()
    with bench.watch() as watch:
        for _ in range(ROUNDS):
            reserved = reserved_beside(bench, volume, HOST)
            attachments = at_once(
                lambda: one.connect(reserved, HOST),  # noqa: B023 - called here
                lambda: two.attach_in_one_call(volume.id, HOST),
            )
            assert bench.cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}
            for user, attachment in zip((one, two), attachments, strict=True):
                user.client.mark_attached(attachment)
            at_once(*(lambda each=each: bench.user().detach(each) for each in attachments))
    assert watch.lost == set()
    assert all(after > received[host] for host, after in bench.requests_received().items())
    bench.check()
    bench.empty()


def test_attach_while_another_attachment_detaches(bench: Bench, volume: Volume) -> None:
    one, two = bench.user(), bench.user()
    present = one.attach(volume.id, HOST)
    with bench.watch() as watch:
        for _ in range(ROUNDS):
            reserved = reserved_beside(bench, volume, HOST)
            connected, _ = at_once(
                lambda: one.connect(reserved, HOST),  # noqa: B023 - called here
                lambda: two.detach(present),  # noqa: B023
            )
            one.client.mark_attached(connected)
            assert bench.cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}
            present = connected
    assert watch.lost == set()
    bench.check()
    bench.empty()
