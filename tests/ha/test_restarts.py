# SPDX-License-Identifier: Apache-2.0
"""What cinder-volumes share, and one of them, is killed and started again under load.

Which errors are allowed then, and why, stands with each test; there are no others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightos.openstack.cinder import locks
from testbed.polling import wait_until
from tests.ha.bench import Bench
from tests.ha.conftest import ETCD_BY_DAY
from tests.ha.workload import HOSTS, Rules, work

STEPS = 12
AWAY_SECONDS = 4.0
AWAY_FOR_LONGER_SECONDS = locks.AWAY_SECONDS + 10.0
VICTIM = "volume-1"


def test_lock_manager_is_away(bench: Bench) -> None:
    """No error but where Cinder takes locks of its own, which nobody asks for here.

    A lock of Cinder's that cannot be had fails the operation at once; one on etcd that cannot be
    released stays, for tooz keeps it alive as long as the process lives. The API takes one to
    connect a reserved attachment; cinder-volume takes one to delete, to clone and to make a volume
    of a snapshot, and leaves it "deleting" or "creating" for ever.
    """
    own = frozenset({"delete", "delete_snapshot", "clone", "restore"})
    rules = Rules(left_out=own, in_one_call=True)
    disturbed(bench, 6, rules, lambda: bench.cinder.restart_lock_manager(AWAY_SECONDS))


@pytest.mark.nightly
def test_lock_manager_is_away_for_longer_than_anybody_asks_it(bench: Bench) -> None:
    """An attach that has its lock then succeeds, and the volume can be attached again later."""
    volume = bench.admin.create_volume(bench.shared)
    with ThreadPoolExecutor(1) as pool:
        held = bench.faults.add(
            operation="UpdateVolume", object=f"*{volume.id}", delay_seconds=AWAY_SECONDS
        )
        attaching = pool.submit(bench.user().attach_in_one_call, volume.id, HOSTS[0])
        wait_until(lambda: held.hits, "the attach to have its lock")
        bench.cinder.restart_lock_manager(AWAY_FOR_LONGER_SECONDS)
        bench.admin.client.mark_attached(attaching.result())
    bench.faults.clear()
    bench.admin.attach(volume.id, HOSTS[1])
    bench.check()
    bench.empty()


@ETCD_BY_DAY
def test_message_bus_is_away(bench: Bench) -> None:
    """Requests and answers wait until it is back, in the senders and on its disk.

    For an answer the API waits `rpc_response_timeout`, 20 s here and 60 by default, and oslo's
    clients take nearly as long to come back; then an attach or detach ends with 500, though
    cinder-volume goes on with it.
    """
    rules = Rules(excused=frozenset({"attach", "detach"}))
    disturbed(bench, 7, rules, lambda: bench.cinder.restart_message_bus(AWAY_SECONDS))


@ETCD_BY_DAY
def test_cinder_volume_is_killed_and_comes_back(bench: Bench) -> None:
    """What it was doing fails, as `test_crash` tells; it cleans up itself when it starts.

    Nobody deletes snapshots, for one that it was deleting stays "deleting".
    """

    def crash() -> None:
        bench.cinder.kill(VICTIM)
        bench.cinder.restart(VICTIM)

    lost = {"attach", "detach", "create", "clone", "restore", "snapshot"}
    rules = Rules(excused=frozenset(lost), left_out=frozenset({"delete_snapshot"}))
    disturbed(bench, 8, rules, crash)


def disturbed(bench: Bench, seed: int, rules: Rules, disturb: Callable[[], None]) -> None:
    """Users work while `disturb` is called; all is as it should be then."""
    with bench.watch() as watch:
        done, failed = work(bench, STEPS, seed, rules, disturb)
    print(f"done: {dict(done)}, failed: {dict(failed)}")
    bench.check()
    assert watch.lost == set()
    bench.empty()
