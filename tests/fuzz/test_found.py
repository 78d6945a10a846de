# SPDX-License-Identifier: Apache-2.0
"""Every input that once did harm does none any more; they are in `found`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from lightos.lab.store import ThinStore
from lightos.lab.view import NodeView
from testbed.initiator import Initiator
from tests.fuzz import target, workers
from tests.fuzz.exchanges import BLOCK_BYTES, HOST_ID, HOST_NQN, NSID, SUBSYSTEM_NQN
from tests.fuzz.finding import FOUND, Input
from tests.unit.target.cluster import Lab, LiteralCluster
from tests.unit.target.conftest import free_ports

INPUTS = {path.name: Input.load(path) for path in sorted(FOUND.glob("*.hex"))}
OF_TARGET = {name: each for name, each in INPUTS.items() if each.kind not in workers.CHECKS}
OTHERS = {name: each for name, each in INPUTS.items() if each.kind in workers.CHECKS}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[target.Place]:
    """The real target on the event loop of a thread, with a volume for the host of the inputs."""
    nvme_port, discovery_port = free_ports(2)
    node = NodeView(UUID(int=1), "node1", "127.0.0.1", controller_id_base=1)
    store = ThinStore(tmp_path)
    lab = Lab(store, LiteralCluster([node], nvme_port=nvme_port, discovery_port=discovery_port))
    lab.add_volume(NSID, HOST_NQN, block=BLOCK_BYTES)
    lab.serve()
    yield target.Place("127.0.0.1", nvme_port, discovery_port, SUBSYSTEM_NQN)
    lab.close()
    store.close()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_read_in_process(name: str) -> None:
    assert workers.outcome(OTHERS[name])


@pytest.mark.parametrize("name", OF_TARGET)
def test_what_the_target_takes(
    name: str, place: target.Place, caplog: pytest.LogCaptureFixture
) -> None:
    with Initiator(
        place.address,
        place.nvme_port,
        place.subsystem_nqn,
        host_nqn=HOST_NQN,
        host_id=HOST_ID,
        io_queues=0,
    ) as admin:
        target.send(OF_TARGET[name], place, admin.controller_id)
        admin.keep_alive()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
