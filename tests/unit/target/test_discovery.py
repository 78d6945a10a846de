# SPDX-License-Identifier: Apache-2.0
"""The discovery service, by a user-space host over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from lightos.lab import discovery_service
from lightos.lab.discovery_service import discovery_log
from lightos.lab.view import NodeView
from lightos.nvme_tcp import DISCOVERY_NQN, CommandFailed, commands
from lightos.nvme_tcp.constants import AsyncEvent, Cns, Feature, LogPage, Property, Status
from lightos.nvme_tcp.structures import DiscoveryEntry, DiscoveryLog
from testbed.initiator import Initiator, InitiatorError
from tests.unit.target.cluster import HOST_NQN, SUBSYSTEM_NQN, Lab, LiteralCluster

Connect = Callable[..., Initiator]


@pytest.fixture
def discover(lab: Lab) -> Iterator[Connect]:
    opened: list[Initiator] = []

    def discover(**options: object) -> Initiator:
        arguments = {"host_nqn": HOST_NQN, "io_queues": 0, **options}
        port = lab.cluster.discovery_port
        opened.append(Initiator("127.0.0.1", port, DISCOVERY_NQN, **arguments))
        return opened[-1]

    yield discover
    for initiator in opened:
        initiator.close()


def test_identify(lab: Lab, discover: Connect) -> None:
    host = discover()
    identity = host.identify_controller()
    assert identity.controller_type == 2
    assert identity.subsystem_nqn == DISCOVERY_NQN
    assert identity.namespace_count == 0
    assert identity.async_events == 1 << 31
    for command, status in (
        (commands.identify(Cns.NAMESPACE, nsid=1), Status.INVALID_FIELD),
        (commands.get_log_page(LogPage.ANA, length=64), Status.INVALID_LOG_PAGE),
        (commands.set_features(Feature.NUMBER_OF_QUEUES, 0), Status.INVALID_FIELD),
    ):
        with pytest.raises(CommandFailed) as caught:
            host.admin.run(command).check("command")
        assert caught.value.status == status


def test_a_host_need_not_say_how_large_entries_of_io_queues_are(discover: Connect) -> None:
    host = discover()
    for value in (0, 1):
        host.admin.run(commands.property_set(Property.CC, value)).check("CC")
    assert host.get_property(Property.CSTS) == 1


def test_it_has_no_io_queues(lab: Lab, discover: Connect) -> None:
    from lightos.nvme_tcp.structures import ConnectData
    from testbed.initiator import QueueSocket

    host = discover(host_id=b"i" * 16)
    queue = QueueSocket("127.0.0.1", lab.cluster.discovery_port)
    identity = ConnectData(b"i" * 16, host.controller_id, DISCOVERY_NQN, HOST_NQN)
    with pytest.raises(CommandFailed, match="connect invalid parameters"):
        queue.connect(commands.connect(queue_id=1, queue_size=32), identity)
    queue.close()


def test_the_log_over_the_wire(lab: Lab, discover: Connect) -> None:
    log = discover().discovery_log()
    assert log == discovery_log(lab.cluster, lab.cluster.nodes[0])
    assert log.generation == 7
    assert [(entry.subsystem_type, entry.service_id) for entry in log.entries] == [
        (2, str(lab.cluster.nvme_port)),
        (3, str(lab.cluster.discovery_port)),
    ]


def test_the_log_in_parts(discover: Connect) -> None:
    host = discover()
    whole = host.log_page(LogPage.DISCOVERY, 3072)
    parts = b"".join(host.log_page(LogPage.DISCOVERY, 512, at) for at in range(0, 3072, 512))
    assert parts == whole
    beyond = commands.get_log_page(LogPage.DISCOVERY, length=1024, offset=4096)
    assert host.admin.run(beyond).completion.status == Status.INVALID_FIELD


def test_every_node_lists_every_node() -> None:
    nodes = [
        NodeView(UUID(int=1), "a", "192.168.75.11", 1),
        NodeView(UUID(int=2), "b", "192.168.75.12", 4097),
        NodeView(UUID(int=3), "c", "fd00::13", 8193),
    ]
    cluster = LiteralCluster(nodes, nvme_port=4420, discovery_port=8009)
    log = discovery_log(cluster, nodes[1])
    assert DiscoveryLog.decode(log.encode()) == log
    both = DiscoveryEntry.DUPLICATE_INFORMATION | DiscoveryEntry.EXPLICIT_PERSISTENT
    listed = [
        (e.subsystem_type, e.address_family, e.address, e.service_id, e.subsystem_nqn, e.flags)
        for e in log.entries
    ]
    assert listed == [
        (2, 1, "192.168.75.11", "4420", SUBSYSTEM_NQN, 0),
        (2, 1, "192.168.75.12", "4420", SUBSYSTEM_NQN, 0),
        (2, 2, "fd00::13", "4420", SUBSYSTEM_NQN, 0),
        (1, 1, "192.168.75.11", "8009", DISCOVERY_NQN, both),
        (3, 1, "192.168.75.12", "8009", DISCOVERY_NQN, both),
        (1, 2, "fd00::13", "8009", DISCOVERY_NQN, both),
    ]
    assert {entry.controller_id for entry in log.entries} == {0xFFFF}
    assert {entry.transport_type for entry in log.entries} == {3}


def test_a_persistent_connection_hears_of_nodes(lab: Lab, discover: Connect) -> None:
    host = discover(keep_alive_ms=30_000)
    event = host.watch(AsyncEvent.DISCOVERY_LOG_CHANGE)
    lab.do(lambda: lab.cluster.changed([1], ana=True))  # not for discovery
    another = NodeView(UUID(int=2), "node2", "127.0.0.2", 4097)

    def join() -> None:
        lab.cluster.nodes.append(another)
        lab.cluster.changed(nodes=True)

    lab.do(join)
    assert host.event(event) is AsyncEvent.DISCOVERY_LOG_CHANGE
    event = host.admin.submit(commands.async_event_request())
    log = host.discovery_log()
    assert (log.generation, len(log.entries)) == (8, 4)

    def leave() -> None:
        lab.cluster.nodes.remove(another)
        lab.cluster.changed(nodes=True)

    lab.do(leave)
    assert host.event(event) is AsyncEvent.DISCOVERY_LOG_CHANGE
    assert len(host.discovery_log().entries) == 2


def test_a_silent_connection_without_keep_alive_does_not_stay(
    discover: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery_service.DiscoveryController, "idle_timeout_ms", 200)
    host = discover()
    with pytest.raises((InitiatorError, ConnectionError)):
        host.admin.wait(0)


def test_the_io_subsystem_is_not_on_the_discovery_port(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="connect invalid parameters") as caught:
        Initiator("127.0.0.1", lab.cluster.discovery_port, SUBSYSTEM_NQN, host_nqn=HOST_NQN)
    assert caught.value.result == 0x10100
