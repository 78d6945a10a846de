# SPDX-License-Identifier: Apache-2.0
"""Everything at once, through all cinder-volumes, and nothing goes wrong."""

from __future__ import annotations

from tests.ha.bench import Bench
from tests.ha.workload import work

STEPS = 25


def test_users_at_once(bench: Bench) -> None:
    with bench.watch() as watch:
        done, _ = work(bench, STEPS, seed=4)
    print(f"done: {dict(done)}, looks at the access lists: {watch.looks}")
    makers = {volume.host.partition("@")[0] for volume in bench.admin.client.volumes()}
    assert makers == set(bench.cinder.hosts)
    assert watch.lost == set()
    bench.check()
    bench.empty()
