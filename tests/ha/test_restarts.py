# SPDX-License-Identifier: Apache-2.0
"""What cinder-volumes share, and one of them, is killed and started again under load.

Which errors are allowed then, and why, stands with each test; there are no others.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.ha.bench import Bench
from tests.ha.conftest import ETCD_BY_DAY
from tests.ha.workload import Rules, work

STEPS = 12
AWAY_SECONDS = 4.0
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
