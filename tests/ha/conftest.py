# SPDX-License-Identifier: Apache-2.0
"""Needs root, and what `tools/install cloud` installs.

Each lock manager serves cinder-volumes under one of the two ways to run them; what differs
between eventlet and threads is not what differs between etcd and Redis.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.cloud.active_active import ActiveActive
from testbed.network import Network
from tests.ha.bench import Bench

COMBINATIONS = {"etcd-eventlet": ("etcd", False), "redis-threads": ("redis", True)}


@pytest.fixture(scope="session", params=COMBINATIONS)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Three cinder-volumes in one cluster; the tests are in their network."""
    lock_manager, threading = COMBINATIONS[request.param]
    cinder = ActiveActive(
        tmp_path_factory.mktemp("cinder"),
        Network.for_this_process("ha"),
        lock_manager=lock_manager,
        threading=threading,
        # Longer than test_crash has calls held back.
        lightos={"lightos_api_service_timeout": 120},
    )
    with cinder, cinder.deployment.network.entered():
        yield Bench(cinder)
