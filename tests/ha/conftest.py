# SPDX-License-Identifier: Apache-2.0
"""Needs root, and what `tools/install cloud` installs.

Each lock manager serves cinder-volumes under one of the two ways to run them; what differs
between eventlet and threads is not what differs between etcd and Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testbed.cloud.active_active import ActiveActive
from testbed.network import Network
from tests.ha.bench import Bench

COMBINATIONS: dict[str, dict[str, Any]] = {
    "etcd-eventlet": {"lock_manager": "etcd", "threading": False, "hosts": 3},
    "redis-threads": {"lock_manager": "redis", "threading": True, "hosts": 2},
}


ETCD_BY_DAY = pytest.mark.parametrize(
    "bench",
    ["etcd-eventlet", pytest.param("redis-threads", marks=pytest.mark.nightly)],
    indirect=True,
)
"""For long tests in which the lock manager is not what fails."""


@pytest.fixture(scope="session", params=COMBINATIONS)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Two or three cinder-volumes in one cluster; the tests are in their network."""
    cinder = ActiveActive(
        tmp_path_factory.mktemp("cinder"),
        Network.for_this_process("ha"),
        **COMBINATIONS[request.param],
        # Longer than test_crash has calls held back.
        lightos={"lightos_api_service_timeout": 120},
    )
    with cinder, cinder.deployment.network.entered():
        yield Bench(cinder)
