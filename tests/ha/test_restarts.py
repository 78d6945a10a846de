# SPDX-License-Identifier: Apache-2.0
"""What cinder-volumes share is restarted in the middle of everything: the locks, the bus."""

from __future__ import annotations

from tests.ha.bench import Bench
from tests.ha.workload import work

STEPS = 20


def test_lock_manager_is_restarted(bench: Bench) -> None:
    with bench.watch() as watch:
        done = work(bench, STEPS, seed=6, meanwhile=bench.cinder.restart_lock_manager)
    print(done)
    bench.check()
    assert watch.lost == set()
    bench.empty()


def test_message_bus_is_restarted(bench: Bench) -> None:
    with bench.watch() as watch:
        done = work(bench, STEPS, seed=7, meanwhile=bench.cinder.restart_message_bus)
    print(done)
    bench.check()
    assert watch.lost == set()
    bench.empty()
