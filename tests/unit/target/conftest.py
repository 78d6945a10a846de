# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.view import NodeView
from testbed.initiator import Initiator
from tests.unit.target.cluster import HOST_NQN, SUBSYSTEM_NQN, Lab, LiteralCluster


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """One node that serves volume 1 (16 MiB, 512-byte blocks) to HOST_NQN."""
    nvme_port, discovery_port = free_ports(2)
    node = NodeView(UUID(int=1), "node1", "127.0.0.1", controller_id_base=1)
    cluster = LiteralCluster([node], nvme_port=nvme_port, discovery_port=discovery_port)
    store = ThinStore(tmp_path)
    lab = Lab(store, cluster)
    lab.add_volume(1, HOST_NQN)
    lab.serve()
    yield lab
    lab.close()
    store.close()


@pytest.fixture
def connect(lab: Lab) -> Iterator[Callable[..., Initiator]]:
    """Connects an initiator; all of them are closed at the end."""
    opened: list[Initiator] = []

    def connect(**options: object) -> Initiator:
        arguments = {"host_nqn": HOST_NQN, **options}
        opened.append(Initiator("127.0.0.1", lab.cluster.nvme_port, SUBSYSTEM_NQN, **arguments))
        return opened[-1]

    yield connect
    for initiator in opened:
        initiator.close()
