# SPDX-License-Identifier: Apache-2.0
"""Reservations of two and more hosts over real sockets, on several nodes."""

from __future__ import annotations

import dataclasses
import struct
import threading
from collections.abc import Callable
from uuid import UUID

import pytest

from lightos.lab.view import AnaState, NodeView, RateLimit, RateLimits, RateUnit
from lightos.nvme_tcp import R2T, CapsuleCmd, CapsuleResp, CommandFailed, commands
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    ALL_NAMESPACES,
    AcquireAction,
    AsyncEvent,
    Cns,
    Feature,
    IoOpcode,
    LogPage,
    PersistenceChange,
    Property,
    RegisterAction,
    ReservationNoticeType,
    ReservationType,
    Status,
)
from lightos.nvme_tcp.structures import (
    AcquireData,
    DatasetRange,
    IndependentNamespace,
    RegistrantStatus,
    ReservationNotification,
)
from testbed.initiator import Initiator
from tests.unit.target.cluster import HOST_NQN, MIB, OTHER_NQN, SUBSYSTEM_NQN, Lab

Connect = Callable[..., Initiator]
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = ReservationType
A_KEY, B_KEY = 0xA, 0xB
A_ID, B_ID = b"a" * 16, b"b" * 16
BLOCK = bytes(512)
ABORT = AcquireAction.PREEMPT_AND_ABORT


@pytest.fixture
def alice(lab: Lab, connect: Connect) -> Initiator:
    lab.do(lambda: lab.cluster.acls[1].add(OTHER_NQN))
    return connect(host_id=A_ID)


@pytest.fixture
def bob(alice: Initiator, connect: Connect) -> Initiator:
    return connect(host_nqn=OTHER_NQN, host_id=B_ID, io_queues=2)


def io_commands(host: Initiator, queue: int) -> dict[str, int]:
    """How every command of the NVM command set ends on an I/O queue of a host."""
    one = {"block_size": 512}
    trim = DatasetRange(start_block=8, block_count=1).encode()
    jobs = {
        "read": (commands.read(1, 0, 1, **one), b""),
        "compare": (commands.compare(1, 0, 1, **one), BLOCK),
        "write": (commands.write(1, 0, 1, **one), BLOCK),
        "write zeroes": (commands.write_zeroes(1, 8, 1), b""),
        "deallocate": (commands.in_capsule(commands.deallocate(1, 1)), trim),
        "flush": (commands.flush(1), b""),
        "flush all": (commands.flush(ALL_NAMESPACES), b""),
    }
    return {
        name: host.io[queue].run(command, data).completion.status
        for name, (command, data) in jobs.items()
    }


READS = {"read", "compare"}
WRITES = {"write", "write zeroes", "deallocate", "flush", "flush all"}


@pytest.mark.parametrize("registered", [False, True], ids=["stranger", "registrant"])
@pytest.mark.parametrize("held", ReservationType)
def test_who_is_kept_out_of_what_on_every_queue(
    alice: Initiator, bob: Initiator, held: ReservationType, registered: bool
) -> None:
    alice.register(1, A_KEY)
    if registered:
        bob.register(1, B_KEY)
    alice.acquire(1, A_KEY, held)
    kept_out: set[str] = set()
    if held in (WE, EA) or not registered:
        kept_out = WRITES if held in (WE, WE_RO, WE_AR) else READS | WRITES
    for queue in (0, 1):
        ends = io_commands(bob, queue)
        assert {name for name, status in ends.items() if status} == kept_out
        assert set(ends.values()) <= {Status.SUCCESS, Status.RESERVATION_CONFLICT}
    assert set(io_commands(alice, 0).values()) == {Status.SUCCESS}
    if registered:
        alice.register(1, current_key=A_KEY, action=RegisterAction.UNREGISTER)
        still_held = held in (WE_AR, EA_AR)
        assert bob.reservation_report(1).reservation_type == (held if still_held else 0)
        assert set(io_commands(bob, 0).values()) == {Status.SUCCESS}


def test_a_conflict_is_not_to_be_retried(alice: Initiator, bob: Initiator) -> None:
    alice.register(1, A_KEY)
    alice.acquire(1, A_KEY, EA)
    completion = bob.io[0].run(commands.read(1, 0, 1, block_size=512)).completion
    assert (completion.status, completion.do_not_retry) == (Status.RESERVATION_CONFLICT, True)
    assert completion.status == 0x083


def test_a_fenced_host_writes_nothing_more_on_any_node(
    lab: Lab, alice: Initiator, bob: Initiator
) -> None:
    """The reservation belongs to the volume: a controller on another node refuses as well."""
    lab.cluster.nodes.append(NodeView(UUID(int=2), "node2", "127.0.0.2", controller_id_base=5000))
    lab.serve()
    port = lab.cluster.nvme_port
    with Initiator(
        "127.0.0.2", port, SUBSYSTEM_NQN, host_nqn=OTHER_NQN, host_id=B_ID
    ) as bob_by_the_other_node:
        bob.register(1, B_KEY)
        bob_by_the_other_node.register(1, B_KEY)  # the same registrant
        bob_by_the_other_node.acquire(1, B_KEY, WE_RO)
        bob.write(1, 0, b"b" * 512)
        alice.register(1, A_KEY)
        alice.acquire(1, A_KEY, WE_RO, action=AcquireAction.PREEMPT, preempt_key=B_KEY)
        alice.write(1, 0, b"a" * 512)
        for fenced in (bob, bob_by_the_other_node):
            with pytest.raises(CommandFailed, match="reservation conflict"):
                fenced.write(1, 0, b"x" * 512)
            assert fenced.read(1, 0, 1) == b"a" * 512
        assert len(alice.reservation_report(1).registrants) == 1


def test_a_host_is_its_identifier_not_its_name(
    alice: Initiator, bob: Initiator, connect: Connect
) -> None:
    alice.register(1, A_KEY)
    alice.acquire(1, A_KEY, WE)
    alter_ego = connect(host_nqn=OTHER_NQN, host_id=A_ID)
    alter_ego.write(1, 0, BLOCK)
    same_name = connect(host_id=b"c" * 16)
    with pytest.raises(CommandFailed, match="reservation conflict"):
        same_name.write(1, 0, BLOCK)


def test_a_reservation_outlives_the_connection(
    alice: Initiator, connect: Connect, bob: Initiator
) -> None:
    alice.register(1, A_KEY)
    alice.acquire(1, A_KEY, WE)
    alice.close()
    with pytest.raises(CommandFailed, match="reservation conflict"):
        bob.write(1, 0, BLOCK)
    connect(host_id=A_ID).write(1, 0, BLOCK)


def test_report(alice: Initiator, bob: Initiator) -> None:
    empty = bob.reservation_report(1)
    assert (empty.generation, empty.reservation_type, empty.registrants) == (0, 0, ())
    alice.register(1, A_KEY, persistence=PersistenceChange.SET)
    bob.register(1, 2**64 - 1)
    bob.acquire(1, 2**64 - 1, EA_RO)
    for host in (alice, bob):
        report = host.reservation_report(1)
        assert (report.generation, report.reservation_type, report.persists) == (2, EA_RO, True)
        assert report.registrants == (
            RegistrantStatus(status=0, key=A_KEY, host_id=A_ID),
            RegistrantStatus(status=1, key=2**64 - 1, host_id=B_ID),
        )
        assert {r.controller_id for r in report.registrants} == {0xFFFF}
    cut = alice.io[0].run(commands.reservation_report(1, length=100)).check("report").data
    long = alice.io[0].run(commands.reservation_report(1, length=256)).check("report").data
    assert long[:100] == cut
    assert long[192:] == bytes(64)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (
            commands.reservation_report(1, length=64, extended=False),
            Status.HOST_IDENTIFIER_INCONSISTENT_FORMAT,
        ),
        (commands.reservation_report(9, length=64), Status.INVALID_NAMESPACE),
        (commands.reservation_report(ALL_NAMESPACES, length=64), Status.INVALID_NAMESPACE),
        (
            commands.reservation_report(1, length=64)._replace(cdw10=99),
            Status.DATA_SGL_LENGTH_INVALID,
        ),
        (commands.reservation_report(1, length=MIB + 4), Status.INVALID_FIELD),
        *(
            (Command(opcode, nsid=1, data_length=16, cdw10=dword), Status.INVALID_FIELD)
            for opcode, dword in [
                (IoOpcode.RESERVATION_REGISTER, 3),
                (IoOpcode.RESERVATION_REGISTER, 1 << 30),
                (IoOpcode.RESERVATION_ACQUIRE, 1 << 8 | 3),
                (IoOpcode.RESERVATION_ACQUIRE, 0),
                (IoOpcode.RESERVATION_ACQUIRE, 7 << 8),
                (IoOpcode.RESERVATION_ACQUIRE, 1 << 8 | 1 << 3),
                (IoOpcode.RESERVATION_RELEASE, 1 << 8 | 2),
                (IoOpcode.RESERVATION_RELEASE, 0),
                (IoOpcode.RESERVATION_RELEASE, 1 << 8 | 1 << 3),
            ]
        ),
        (
            Command(IoOpcode.RESERVATION_REGISTER, nsid=9, data_length=16),
            Status.INVALID_NAMESPACE,
        ),
        (
            Command(IoOpcode.RESERVATION_REGISTER, nsid=1, data_length=8),
            Status.DATA_SGL_LENGTH_INVALID,
        ),
    ],
)
def test_commands_that_are_refused(alice: Initiator, command: Command, status: Status) -> None:
    data = bytes(command.data_length) if command.sends_data else b""
    assert alice.io[0].run(command, data).completion.status == status
    assert alice.reservation_report(1).registrants == ()


def test_a_report_may_be_as_long_as_a_transfer(alice: Initiator) -> None:
    done = alice.io[0].run(commands.reservation_report(1, length=MIB))
    assert (done.completion.status, len(done.data)) == (0, MIB)


def test_capabilities(alice: Initiator) -> None:
    assert alice.identify_controller().command_support & 1 << 5
    namespace = alice.identify_namespace(1)
    assert (namespace.reservation_capabilities, namespace.sharing) == (0xFF, 1)
    independent = IndependentNamespace.decode(alice.identify(Cns.INDEPENDENT_NAMESPACE, 1))
    assert independent.reservation_capabilities == 0xFF
    supported = alice.log_page(LogPage.COMMANDS_SUPPORTED, 2048, 1024)
    assert {n for n in range(256) if supported[4 * n]} >= {0x0D, 0x0E, 0x11, 0x15}


def notified(host: Initiator, event: int) -> ReservationNotification:
    assert host.event(event) is AsyncEvent.RESERVATION_LOG_AVAILABLE
    return host.reservation_notification()


def test_notifications(alice: Initiator, bob: Initiator) -> None:
    none = ReservationNotification()
    assert bob.reservation_notification() == none
    alice.register(1, A_KEY)
    bob.register(1, B_KEY)
    event = bob.watch()
    alice.acquire(1, A_KEY, WE_RO)
    alice.release(1, A_KEY, WE_RO)
    expected = ReservationNotification(1, ReservationNoticeType.RESERVATION_RELEASED, 0, 1)
    assert notified(bob, event) == expected
    event = bob.watch()
    alice.acquire(1, A_KEY, WE_RO, action=AcquireAction.PREEMPT, preempt_key=B_KEY)
    expected = ReservationNotification(2, ReservationNoticeType.REGISTRATION_PREEMPTED, 0, 1)
    assert notified(bob, event) == expected
    bob.register(1, B_KEY)
    event = bob.watch()
    alice.clear_reservation(1, A_KEY)
    expected = ReservationNotification(3, ReservationNoticeType.RESERVATION_PREEMPTED, 0, 1)
    assert notified(bob, event) == expected
    assert bob.reservation_notification() == none
    assert alice.reservation_notification() == none, "nobody is told of what it did itself"


def test_notifications_wait_in_order_and_one_event_tells_of_them(
    alice: Initiator, bob: Initiator
) -> None:
    bob.register(1, B_KEY)
    alice.register(1, A_KEY)
    event = bob.watch()
    for _ in range(3):
        alice.acquire(1, A_KEY, EA_RO)
        alice.release(1, A_KEY, EA_RO)
    assert bob.event(event) is AsyncEvent.RESERVATION_LOG_AVAILABLE
    page = bob.log_page(LogPage.RESERVATION_NOTIFICATION, 64, retain=True)
    assert struct.unpack_from("<QBB", page) == (1, 2, 2)
    read = [bob.reservation_notification() for _ in range(4)]
    assert [(page.count, page.available) for page in read] == [(1, 2), (2, 1), (3, 0), (0, 0)]


def test_what_is_not_read_is_lost_and_the_count_tells(
    lab: Lab, alice: Initiator, bob: Initiator
) -> None:
    bob.register(1, B_KEY)
    alice.register(1, A_KEY)
    for _ in range(260):
        alice.acquire(1, A_KEY, EA_RO)
        alice.release(1, A_KEY, EA_RO)
    first = bob.reservation_notification()
    assert (first.count, first.available) == (6, 254)


def test_notifications_can_be_masked(lab: Lab, alice: Initiator, bob: Initiator) -> None:
    feature = Feature.RESERVATION_NOTIFICATION_MASK
    lab.add_volume(2, HOST_NQN, OTHER_NQN)
    released = 1 << ReservationNoticeType.RESERVATION_RELEASED
    assert bob.get_feature(feature, 3, nsid=1) == 1 << 2 | 1 << 1
    bob.set_feature(feature, released, nsid=1)
    assert [bob.get_feature(feature, nsid=nsid) for nsid in (1, 2)] == [released, 0]
    assert bob.get_feature(feature, 1, nsid=1) == 0
    for nsid in (1, 2):
        alice.register(nsid, A_KEY)
        bob.register(nsid, B_KEY)
        alice.acquire(nsid, A_KEY, WE_RO)
        alice.release(nsid, A_KEY, WE_RO)
    assert bob.reservation_notification().nsid == 2
    bob.set_feature(feature, 0b1110, nsid=ALL_NAMESPACES)
    assert [bob.get_feature(feature, nsid=nsid) for nsid in (1, 2)] == [0b1110, 0b1110]
    alice.clear_reservation(1, A_KEY)
    assert bob.reservation_notification() == ReservationNotification()
    bob.admin.run(commands.property_set(Property.CC, 0)).check("disable")
    bob.enable()
    assert bob.get_feature(feature, nsid=1) == 0


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (
            commands.set_features(Feature.RESERVATION_NOTIFICATION_MASK, 1, nsid=1),
            Status.INVALID_FIELD,
        ),
        (
            commands.set_features(Feature.RESERVATION_NOTIFICATION_MASK, 2, nsid=9),
            Status.INVALID_NAMESPACE,
        ),
        (
            commands.get_features(Feature.RESERVATION_NOTIFICATION_MASK, nsid=ALL_NAMESPACES),
            Status.INVALID_FIELD,
        ),
        (
            commands.get_features(Feature.RESERVATION_PERSISTENCE, nsid=9),
            Status.INVALID_NAMESPACE,
        ),
        (
            commands.set_features(Feature.RESERVATION_PERSISTENCE, 1, nsid=0),
            Status.INVALID_NAMESPACE,
        ),
    ],
)
def test_features_that_are_refused(alice: Initiator, command: Command, status: Status) -> None:
    assert alice.admin.run(command).completion.status == status


def test_persistence_is_a_feature_of_the_namespace(
    lab: Lab, alice: Initiator, bob: Initiator
) -> None:
    feature = Feature.RESERVATION_PERSISTENCE
    lab.add_volume(2, HOST_NQN, OTHER_NQN)
    alice.set_feature(feature, 1, nsid=1)
    assert [bob.get_feature(feature, nsid=nsid) for nsid in (1, 2)] == [1, 0]
    bob.set_feature(feature, 1, nsid=ALL_NAMESPACES)
    assert [alice.get_feature(feature, nsid=nsid) for nsid in (1, 2)] == [1, 1]
    alice.register(1, A_KEY, persistence=PersistenceChange.CLEAR)
    assert bob.get_feature(feature, nsid=1) == 0


def test_a_node_that_does_not_serve_takes_no_reservation_command(
    lab: Lab, alice: Initiator
) -> None:
    lab.do(lambda: lab.cluster.states.update({(UUID(int=1), 1): AnaState.INACCESSIBLE}))
    with pytest.raises(CommandFailed, match="ana inaccessible"):
        alice.register(1, A_KEY)
    with pytest.raises(CommandFailed, match="ana inaccessible"):
        alice.reservation_report(1)
    alice.set_feature(Feature.RESERVATION_NOTIFICATION_MASK, 2, nsid=1)


# ---- preempting what is under way


@pytest.fixture
def contested(alice: Initiator, bob: Initiator) -> Callable[[AcquireAction], None]:
    """B holds; the function lets A preempt it."""
    alice.register(1, A_KEY)
    bob.register(1, B_KEY)
    bob.acquire(1, B_KEY, WE_RO)
    return lambda action: alice.acquire(1, A_KEY, WE_RO, action=action, preempt_key=B_KEY)


@pytest.mark.parametrize(
    "ending",
    [
        (AcquireAction.PREEMPT, Status.RESERVATION_CONFLICT),
        (ABORT, Status.ABORTED_BY_PREEMPT_AND_ABORT),
    ],
)
def test_a_write_whose_data_comes_after_the_preempt(
    lab: Lab,
    alice: Initiator,
    bob: Initiator,
    contested: Callable[[AcquireAction], None],
    ending: tuple[AcquireAction, Status],
) -> None:
    """The controller has asked for the data of a write when the host is fenced."""
    action, status = ending
    queue = bob.io[0]
    connection = queue.queue.connection
    command = commands.write(1, 0, 8, block_size=512)._replace(cid=77)
    queue.socket.sendall(connection.send(CapsuleCmd(command)))
    event = None
    while not isinstance(event, R2T):
        connection.receive_data(queue.socket.recv(65536))
        event = connection.next_event()
    contested(action)
    alice.write(1, 0, b"a" * 4096)
    queue.socket.sendall(connection.answer(event, b"b" * 4096))
    while not isinstance(event, CapsuleResp):
        connection.receive_data(queue.socket.recv(65536))
        event = connection.next_event()
    assert (event.completion.cid, event.completion.status) == (77, status)
    assert lab.store.read(lab.cluster.volumes[1].uuid, 0, 4096) == b"a" * 4096


def test_commands_that_wait_their_turn_are_aborted(
    lab: Lab, alice: Initiator, bob: Initiator, contested: Callable[[AcquireAction], None]
) -> None:
    volume = lab.cluster.volumes[1].uuid
    slow = RateLimit(1, RateUnit.COMMANDS)
    lab.do(lambda: lab.cluster.limit(volume, RateLimits(write=slow)))
    lab.add_volume(2, OTHER_NQN)
    write = commands.in_capsule(commands.write(1, 0, 1, block_size=512))
    waiting = [queue.submit(write, b"b" * 512) for queue in bob.io for _ in range(20)]
    bob.write(2, 0, BLOCK)  # all of them arrived before this
    bob.io[1].run(commands.read(2, 0, 1, block_size=512)).check("read")
    contested(ABORT)
    ends = [bob.io[number // 20].wait(cid).completion.status for number, cid in enumerate(waiting)]
    aborted = ends.count(Status.ABORTED_BY_PREEMPT_AND_ABORT)
    assert aborted >= 36, ends
    assert set(ends[-19:]) == {Status.ABORTED_BY_PREEMPT_AND_ABORT}
    lab.do(lambda: lab.cluster.limit(volume, RateLimits()))
    alice.write(1, 0, b"a" * 512)
    for queue in bob.io:
        assert queue.run(write, b"b" * 512).completion.status == Status.RESERVATION_CONFLICT
        queue.run(commands.read(1, 0, 1, block_size=512)).check("the queue goes on")
    assert alice.read(1, 0, 1) == b"a" * 512


def test_what_waits_for_the_disk_is_aborted(
    lab: Lab,
    alice: Initiator,
    bob: Initiator,
    contested: Callable[[AcquireAction], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    monkeypatch.setattr(lab.store, "flush", lambda _uuid: (begun.set(), may_end.wait(20)))
    cid = bob.io[0].submit(commands.flush(1))
    assert begun.wait(20)
    contested(ABORT)
    assert bob.io[0].wait(cid).completion.status == Status.ABORTED_BY_PREEMPT_AND_ABORT
    may_end.set()
    bob.io[0].run(commands.read(1, 0, 1, block_size=512)).check("the queue goes on")
    alice.flush(1)


def test_other_volumes_and_hosts_go_on(
    lab: Lab, alice: Initiator, bob: Initiator, contested: Callable[[AcquireAction], None]
) -> None:
    lab.add_volume(2, HOST_NQN, OTHER_NQN)
    contested(ABORT)
    bob.write(2, 0, BLOCK)
    alice.write(2, 0, BLOCK)
    acquire = commands.reservation_acquire(1, AcquireAction.ACQUIRE, WE)
    again = bob.io[0].run(commands.in_capsule(acquire), AcquireData(B_KEY).encode())
    assert again.completion.status == Status.RESERVATION_CONFLICT, "it is no registrant any more"
    assert dataclasses.astuple(alice.reservation_report(1))[:2] == (3, WE_RO)
