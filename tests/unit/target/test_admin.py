# SPDX-License-Identifier: Apache-2.0
"""The I/O controller's admin side, by a user-space host over real sockets."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from uuid import UUID

import pytest

from lightos.lab.view import AnaState
from lightos.nvme_tcp import CommandFailed, commands
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    AdminOpcode,
    AsyncEvent,
    Cns,
    Feature,
    LogPage,
    Property,
    Status,
)
from lightos.nvme_tcp.structures import (
    AnaGroupDescriptor,
    ConnectData,
    IdentifyNamespace,
    IndependentNamespace,
    NvmController,
    SmartLog,
)
from testbed.initiator import Initiator, InitiatorError, QueueSocket
from tests.unit.target.cluster import HOST_NQN, MIB, OTHER_NQN, SUBSYSTEM_NQN, Lab

Connect = Callable[..., Initiator]
NODE = UUID(int=1)
HOST_ID = b"0123456789abcdef"
IDENTITY = ConnectData(
    host_id=HOST_ID, controller_id=0xFFFF, subsystem_nqn=SUBSYSTEM_NQN, host_nqn=HOST_NQN
)


def failure(host: Initiator, command: Command, data: bytes = b"") -> int:
    """Status of a command that must fail."""
    with pytest.raises(CommandFailed) as caught:
        host.admin.run(command, data).check("command")
    return caught.value.status


# ---- Connect

ADMIN = commands.connect(queue_id=0, queue_size=32)
WRONG_CONNECTS: dict[str, tuple[Command, dict[str, object], int, int]] = {
    "record format": (ADMIN._replace(cdw10=1), {}, Status.CONNECT_INCOMPATIBLE_FORMAT, 40),
    "queue size 0": (ADMIN._replace(cdw11=0), {}, Status.CONNECT_INVALID_PARAMETERS, 44),
    "queue size 129": (ADMIN._replace(cdw11=128), {}, Status.CONNECT_INVALID_PARAMETERS, 44),
    "static controller": (ADMIN, {"controller_id": 1}, Status.CONNECT_INVALID_PARAMETERS, 0x10010),
    "other subsystem": (
        ADMIN,
        {"subsystem_nqn": "nqn.x"},
        Status.CONNECT_INVALID_PARAMETERS,
        0x10100,
    ),
    "no host NQN": (ADMIN, {"host_nqn": ""}, Status.CONNECT_INVALID_PARAMETERS, 0x10200),
    "host NQN too long": (
        ADMIN,
        {"host_nqn": "nqn." + "x" * 220},
        Status.CONNECT_INVALID_PARAMETERS,
        0x10200,
    ),
    "I/O queue of no controller": (
        commands.connect(queue_id=1, queue_size=32),
        {"controller_id": 77},
        Status.CONNECT_INVALID_PARAMETERS,
        0x10010,
    ),
}


@pytest.mark.parametrize(
    ("command", "fields", "status", "parameter"), WRONG_CONNECTS.values(), ids=WRONG_CONNECTS
)
def test_connect_says_which_parameter_is_wrong(
    lab: Lab, command: Command, fields: dict[str, object], status: int, parameter: int
) -> None:
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    with pytest.raises(CommandFailed) as caught:
        queue.connect(command, dataclasses.replace(IDENTITY, **fields))
    assert (caught.value.status, caught.value.result) == (status, parameter)
    assert queue.connect(ADMIN, IDENTITY)  # and the connection is still good for a right one
    queue.close()


def test_connect_data_may_come_by_r2t(lab: Lab) -> None:
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    assert queue.connect(ADMIN._replace(sgl_type=0x5A), IDENTITY)
    queue.close()


def test_a_host_that_is_barred(lab: Lab, connect: Connect) -> None:
    lab.cluster.barred.add(OTHER_NQN)
    with pytest.raises(CommandFailed, match="connect invalid host"):
        connect(host_nqn=OTHER_NQN)


def test_nothing_works_before_connect(lab: Lab) -> None:
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    for command in (commands.keep_alive(), commands.property_get(Property.CAP)):
        assert queue.run(command).completion.status == Status.COMMAND_SEQUENCE_ERROR
    queue.close()


def test_nothing_but_properties_works_before_enable(lab: Lab) -> None:
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    controller_id = queue.connect(ADMIN, IDENTITY)
    assert queue.run(commands.property_get(Property.CSTS)).check("CSTS").completion.result == 0
    identify = commands.identify(Cns.CONTROLLER)
    assert queue.run(identify).completion.status == Status.COMMAND_SEQUENCE_ERROR
    io_queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    with pytest.raises(CommandFailed) as caught:
        io_queue.connect(
            commands.connect(queue_id=1, queue_size=32),
            dataclasses.replace(IDENTITY, controller_id=controller_id),
        )
    assert caught.value.status == Status.COMMAND_SEQUENCE_ERROR
    queue.close()
    io_queue.close()


def test_io_queues_belong_to_the_host_of_the_admin_queue(lab: Lab, connect: Connect) -> None:
    host = connect(host_id=HOST_ID, io_queues=2)
    mine = dataclasses.replace(IDENTITY, controller_id=host.controller_id)
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    for identity, queue_id, parameter in (
        (dataclasses.replace(mine, host_nqn=OTHER_NQN), 3, 0x10200),
        (dataclasses.replace(mine, host_id=bytes(16)), 3, 0x10200),
        (mine, 2, 42),  # connected already
        (mine, 3, 42),  # more than Number of Queues granted
    ):
        with pytest.raises(CommandFailed) as caught:
            queue.connect(commands.connect(queue_id=queue_id, queue_size=32), identity)
        assert (caught.value.status, caught.value.result) == (0x182, parameter)
    queue.close()


def test_controller_ids_are_not_used_again_at_once(connect: Connect) -> None:
    ids = []
    for _ in range(3):
        host = connect(io_queues=0)
        ids.append(host.controller_id)
        host.close()
    assert len(set(ids)) == 3
    assert all(1 <= number < 4097 for number in ids)


# ---- properties


def test_properties(connect: Connect) -> None:
    host = connect()
    cap = host.get_property(Property.CAP)
    assert (cap & 0xFFFF) + 1 == 128
    assert cap >> 37 & 1  # NVM command set
    assert host.get_property(Property.VS) == 0x10400
    assert host.get_property(Property.CC) == 0x460001
    assert host.get_property(Property.CSTS) == 1


def test_property_commands_that_name_nothing(connect: Connect) -> None:
    host = connect()
    get, put = commands.property_get(Property.CC), commands.property_set(Property.CC, 0x460001)
    for command in (
        get._replace(cdw11=0x18),
        get._replace(cdw10=1),  # CC is four bytes wide
        commands.property_get(Property.CAP)._replace(cdw10=0),
        put._replace(cdw11=Property.CSTS),
        put._replace(cdw12=0x460001 | 1 << 7),  # 8 KiB pages
        put._replace(cdw12=0x460001 | 1 << 4),  # another command set
    ):
        assert failure(host, command) == Status.INVALID_FIELD


@pytest.mark.parametrize("value", [0x000001, 0x400001, 0x060001, 0x470001, 0x560001])
def test_entry_sizes_that_no_io_queue_has_are_refused(lab: Lab, value: int) -> None:
    queue = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    queue.connect(ADMIN, IDENTITY)
    refused = queue.run(commands.property_set(Property.CC, value)).completion
    assert refused.status == Status.INVALID_FIELD
    assert queue.run(commands.property_get(Property.CSTS)).check("CSTS").completion.result == 0
    queue.run(commands.property_set(Property.CC, value & ~1)).check("no enable")
    queue.run(commands.property_set(Property.CC, 0x460001)).check("enable")
    assert queue.run(commands.property_get(Property.CSTS)).check("CSTS").completion.result == 1
    queue.close()


def test_shutdown_and_reset(connect: Connect) -> None:
    host = connect()
    host.admin.run(commands.property_set(Property.CC, 0x460001 | 1 << 14)).check("shutdown")
    assert host.get_property(Property.CSTS) == 0b1001
    assert failure(host, commands.identify(Cns.CONTROLLER)) == Status.COMMAND_SEQUENCE_ERROR
    host.admin.run(commands.property_set(Property.CC, 0)).check("disable")
    assert host.get_property(Property.CSTS) == 0
    with pytest.raises(InitiatorError):
        host.io[0].wait(0)
    host.enable()
    assert host.namespace_ids() == (1,)


def test_the_end_of_the_admin_queue_is_the_end_of_the_association(connect: Connect) -> None:
    host = connect()
    host.block_size(1)
    host.admin.close()
    with pytest.raises((InitiatorError, ConnectionError)):
        host.io[0].wait(0)


def test_disconnect_of_an_io_queue_leaves_the_others(lab: Lab, connect: Connect) -> None:
    host = connect(io_queues=2, host_id=HOST_ID)
    host.io[1].run(commands.disconnect()).check("disconnect")
    with pytest.raises((InitiatorError, ConnectionError)):
        host.io[1].run(commands.flush(1))
    assert len(host.read(1, 0, 1)) == 512
    again = QueueSocket("127.0.0.1", lab.cluster.nvme_port)
    identity = dataclasses.replace(IDENTITY, controller_id=host.controller_id)
    assert again.connect(commands.connect(queue_id=2, queue_size=16), identity)
    again.close()
    assert failure(host, commands.disconnect()) == Status.INVALID_QUEUE_TYPE


# ---- Identify


def test_identify_controller(lab: Lab, connect: Connect) -> None:
    host = connect()
    identity = host.identify_controller()
    assert identity.controller_id == host.controller_id
    assert identity.subsystem_nqn == SUBSYSTEM_NQN
    assert identity.serial_number == lab.cluster.serial_number
    assert identity.multi_path & 0b1011 == 0b1011
    assert identity.ana_group_count == identity.max_ana_group_id == 4
    assert identity.namespace_count == identity.max_allowed_namespaces == 1024
    assert identity.keep_alive_granularity > 0
    assert identity.async_events == 1 << 8 | 1 << 11


def test_identify_namespace(lab: Lab, connect: Connect) -> None:
    uuid = lab.add_volume(5, HOST_NQN, size_bytes=64 * MIB, block=4096)
    lab.store.write(uuid, 0, bytes(range(256)) * 32)
    host = connect()
    namespace = host.identify_namespace(5)
    assert (namespace.size_blocks, namespace.format_data_shift) == (16384, 12)
    assert namespace.capacity_blocks == 16384
    assert 2 <= namespace.used_blocks < 16384
    assert namespace.nguid == uuid.bytes
    assert namespace.ana_group_id == 1
    assert namespace.sharing == 1
    assert namespace.features & 1
    assert host.namespace_descriptors(5) == {3: uuid.bytes, 2: uuid.bytes, 4: b"\0"}
    independent = IndependentNamespace.decode(host.identify(Cns.INDEPENDENT_NAMESPACE, 5))
    assert (independent.ana_group_id, independent.status) == (1, 1)


def test_a_namespace_is_visible_only_to_its_hosts(lab: Lab, connect: Connect) -> None:
    lab.add_volume(2, OTHER_NQN)
    lab.add_volume(9, HOST_NQN, OTHER_NQN)
    host, other = connect(), connect(host_nqn=OTHER_NQN)
    assert host.namespace_ids() == (1, 9)
    assert other.namespace_ids() == (2, 9)
    assert host.identify_namespace(2) == IdentifyNamespace.decode(bytes(4096))
    assert failure(host, commands.identify(Cns.NAMESPACE_DESCRIPTORS, nsid=2)) == 0x00B
    assert [group.nsids for group in host.ana_log().groups][:1] == [(1, 9)]
    assert [group.nsids for group in other.ana_log().groups][:1] == [(2, 9)]


def test_active_namespaces_continue_after_an_nsid(lab: Lab, connect: Connect) -> None:
    for nsid in (3, 4, 700):
        lab.add_volume(nsid, HOST_NQN, size_bytes=MIB)
    host = connect()
    page = host.identify(Cns.ACTIVE_NAMESPACES, 3)
    assert page[:12] == b"\x04\0\0\0\xbc\x02\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("cns", "nsid", "status"),
    [
        (Cns.NAMESPACE, 0, Status.INVALID_NAMESPACE),
        (Cns.NAMESPACE, 1025, Status.INVALID_NAMESPACE),
        (Cns.NAMESPACE, 0xFFFFFFFF, Status.INVALID_NAMESPACE),
        (Cns.ACTIVE_NAMESPACES, 0xFFFFFFFE, Status.INVALID_NAMESPACE),
        (Cns.NAMESPACE_DESCRIPTORS, 2, Status.INVALID_NAMESPACE),
        (Cns.COMMAND_SET_NAMESPACE, 2, Status.INVALID_NAMESPACE),
        (0x10, 1, Status.INVALID_FIELD),
        (0xFF, 1, Status.INVALID_FIELD),
    ],
)
def test_identify_of_what_is_not_there(connect: Connect, cns: Cns, nsid: int, status: int) -> None:
    assert failure(connect(), commands.identify(cns, nsid=nsid)) == status


def test_the_nvm_command_set_and_no_other(connect: Connect) -> None:
    host = connect()
    assert host.identify(Cns.COMMAND_SETS)[:9] == b"\1" + bytes(8)
    assert host.identify(Cns.COMMAND_SET_NAMESPACE, 1) == bytes(4096)
    limits = NvmController.decode(host.identify(Cns.COMMAND_SET_CONTROLLER))
    assert limits.max_range_blocks == 1 << 21
    for cns in (Cns.COMMAND_SET_CONTROLLER, Cns.COMMAND_SET_NAMESPACE):
        zoned = commands.identify(cns, nsid=1)._replace(cdw11=2 << 24)
        assert failure(host, zoned) == Status.INVALID_FIELD
    assert host.identify(Cns.CONTROLLERS)[:4] == b"\1\0" + host.controller_id.to_bytes(2, "little")


def test_a_transfer_shorter_than_the_answer_is_refused(connect: Connect) -> None:
    short = commands.identify(Cns.CONTROLLER)._replace(data_length=4092)
    assert failure(connect(), short) == Status.DATA_SGL_LENGTH_INVALID


# ---- log pages


def test_ana_log(lab: Lab, connect: Connect) -> None:
    lab.do(lambda: lab.cluster.states.update({(NODE, 2): AnaState.INACCESSIBLE}))
    host = connect()
    log = host.ana_log()
    assert log.change_count == 1
    assert log.groups[:2] == (AnaGroupDescriptor(1, 1, (1,), 1), AnaGroupDescriptor(2, 3, (), 1))
    groups_only = host.log_page(LogPage.ANA, 16 + 4 * 32, specific=1)
    assert groups_only[20:24] == bytes(4)
    whole = host.log_page(LogPage.ANA, 4096)
    parts = b"".join(host.log_page(LogPage.ANA, 40, at) for at in range(0, 4080, 40))
    assert parts == whole[: len(parts)]


@pytest.mark.parametrize(
    ("page", "length"),
    [
        (LogPage.SUPPORTED, 1024),
        (LogPage.ERROR_INFORMATION, 64),
        (LogPage.SMART, 512),
        (LogPage.FIRMWARE_SLOT, 512),
        (LogPage.CHANGED_NAMESPACES, 4096),
        (LogPage.COMMANDS_SUPPORTED, 4096),
    ],
)
def test_every_log_page_has_its_length(connect: Connect, page: LogPage, length: int) -> None:
    host = connect()
    assert len(host.log_page(page, length)) == length
    beyond = commands.get_log_page(page, length=4, offset=length + 4)
    assert failure(host, beyond) == Status.INVALID_FIELD
    supported = host.log_page(LogPage.SUPPORTED, 1024)
    assert supported[4 * page] == 1


def test_commands_supported_log_tells_the_truth(connect: Connect) -> None:
    host = connect()
    log = host.log_page(LogPage.COMMANDS_SUPPORTED, 4096)
    for opcode in range(256):
        status = (
            host.admin.run(Command(opcode, cdw10=0xFF)).completion.status
            if (opcode not in (AdminOpcode.ASYNC_EVENT_REQUEST, AdminOpcode.FABRICS))
            else None
        )
        if status is not None:
            assert (status != Status.INVALID_OPCODE) == bool(log[4 * opcode] & 1), hex(opcode)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (commands.get_log_page(0x7E, length=512), Status.INVALID_LOG_PAGE),
        (commands.get_log_page(LogPage.DISCOVERY, length=1024), Status.INVALID_LOG_PAGE),
        (commands.get_log_page(LogPage.SMART, length=512, offset=2), Status.INVALID_FIELD),
        (commands.get_log_page(LogPage.SMART, length=MIB + 4), Status.INVALID_FIELD),
    ],
    ids=["unknown", "of discovery", "odd offset", "longer than MDTS"],
)
def test_log_pages_that_cannot_be_had(connect: Connect, command: Command, status: int) -> None:
    assert failure(connect(), command) == status


def test_no_admin_command_transfers_more_than_mdts(connect: Connect) -> None:
    longer = commands.identify(Cns.CONTROLLER)._replace(data_length=MIB + 4)
    assert failure(connect(), longer) == Status.INVALID_FIELD


def test_smart_log_counts_what_the_host_did(connect: Connect) -> None:
    host = connect()
    host.write(1, 0, bytes(1 << 20))
    for _ in range(3):
        host.read(1, 0, 1)
    log = SmartLog.decode(host.log_page(LogPage.SMART, 512))
    assert (log.host_writes, log.host_reads) == (1, 3)
    assert (log.data_units_written, log.data_units_read) == (3, 1)


# ---- features


def test_number_of_queues(lab: Lab, connect: Connect) -> None:
    host = connect(io_queues=0)
    assert host.set_feature(Feature.NUMBER_OF_QUEUES, 63 << 16 | 7) == 7 << 16 | 7
    assert host.get_feature(Feature.NUMBER_OF_QUEUES) == 7 << 16 | 7
    assert host.set_feature(Feature.NUMBER_OF_QUEUES, 999 << 16 | 999) == 31 << 16 | 31
    wrong = commands.set_features(Feature.NUMBER_OF_QUEUES, 0xFFFF)
    assert failure(host, wrong) == Status.INVALID_FIELD
    late = commands.set_features(Feature.NUMBER_OF_QUEUES, 0)
    assert failure(connect(io_queues=1), late) == Status.COMMAND_SEQUENCE_ERROR


def test_features_have_values_defaults_and_capabilities(connect: Connect) -> None:
    host = connect(keep_alive_ms=5050)
    assert host.get_feature(Feature.KEEP_ALIVE_TIMER) == 5100  # rounded up to KAS
    assert host.get_feature(Feature.VOLATILE_WRITE_CACHE) == 1
    host.set_feature(Feature.VOLATILE_WRITE_CACHE, 0)
    assert [host.get_feature(Feature.VOLATILE_WRITE_CACHE, select) for select in range(4)] == [
        0,
        1,
        1,
        0b100,
    ]
    host.set_feature(Feature.ARBITRATION, 0x07)
    assert host.get_feature(Feature.ARBITRATION) == 7


def test_features_that_cannot_be_had(connect: Connect) -> None:
    host = connect()
    unknown = commands.get_features(Feature.ARBITRATION)._replace(cdw10=0x7D)
    assert failure(host, unknown) == Status.INVALID_FIELD
    assert failure(host, unknown._replace(opcode=AdminOpcode.SET_FEATURES)) == Status.INVALID_FIELD
    save = commands.set_features(Feature.ARBITRATION, 1)
    saved = save._replace(cdw10=save.cdw10 | 1 << 31)
    assert failure(host, saved) == Status.FEATURE_NOT_SAVEABLE
    host_id = commands.set_features(Feature.HOST_IDENTIFIER, 1)
    assert failure(host, host_id) == Status.COMMAND_SEQUENCE_ERROR


def test_host_identifier_is_that_of_connect(connect: Connect) -> None:
    host = connect(host_id=HOST_ID)
    command = commands.get_features(Feature.HOST_IDENTIFIER, length=16)
    assert host.admin.run(command._replace(cdw11=1)).check("host id").data == HOST_ID
    assert failure(host, command) == Status.INVALID_FIELD


# ---- keep alive, events, abort


def test_a_silent_host_is_disconnected(connect: Connect) -> None:
    host = connect(keep_alive_ms=200)
    with pytest.raises((InitiatorError, ConnectionError)):
        host.admin.wait(0)
    with pytest.raises((InitiatorError, ConnectionError)):
        host.io[0].wait(0)


def test_traffic_or_keep_alive_keeps_the_association(connect: Connect) -> None:
    host = connect(keep_alive_ms=400)
    for number in range(12):
        time.sleep(0.1)
        if number < 6:
            host.keep_alive()
        else:
            host.read(1, 0, 1)
    assert host.namespace_ids() == (1,)


def test_an_event_for_a_change_of_namespaces(lab: Lab, connect: Connect) -> None:
    host, other = connect(), connect(host_nqn=OTHER_NQN)
    event = host.watch(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
    not_told = other.watch(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
    lab.add_volume(6, HOST_NQN)
    assert host.event(event) is AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED
    event = host.admin.submit(commands.async_event_request())
    lab.add_volume(7, HOST_NQN)  # masked until the log page is read
    assert host.changed_namespaces() == (6, 7)
    assert host.changed_namespaces() == ()
    resized = dataclasses.replace(lab.cluster.volumes[1], size_bytes=32 * MIB)

    def resize() -> None:
        lab.cluster.volumes[1] = resized
        lab.cluster.changed([1])

    lab.do(resize)
    assert host.event(event) is AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED
    assert host.changed_namespaces() == (1,)
    assert host.identify_namespace(1).size_blocks == 65536
    # What the other host does not see, it does not hear of either.
    abort = other.admin.run(commands.abort(queue_id=0, cid=not_told))
    assert abort.check("abort").completion.result == 0
    assert other.admin.wait(not_told).completion.status == Status.ABORT_REQUESTED
    assert other.changed_namespaces() == ()


def test_a_log_that_does_not_fit_is_not_taken_as_read(lab: Lab, connect: Connect) -> None:
    host = connect()
    lab.add_volume(6, HOST_NQN)
    whole = commands.get_log_page(LogPage.CHANGED_NAMESPACES, length=4096)
    assert failure(host, whole._replace(data_length=512)) == Status.DATA_SGL_LENGTH_INVALID
    assert host.changed_namespaces() == (6,)


def test_an_event_for_a_change_of_paths(lab: Lab, connect: Connect) -> None:
    host = connect()
    event = host.watch(AsyncEvent.ANA_CHANGE)

    def lose() -> None:
        lab.cluster.states[NODE, 1] = AnaState.INACCESSIBLE
        lab.cluster.changed(ana=True)

    lab.do(lose)
    assert host.event(event) is AsyncEvent.ANA_CHANGE
    log = host.ana_log()
    assert (log.change_count, log.groups[0].state) == (2, AnaState.INACCESSIBLE)


def test_an_event_waits_for_a_request_and_a_log_read_in_parts(lab: Lab, connect: Connect) -> None:
    host = connect()
    host.set_feature(Feature.ASYNC_EVENT_CONFIGURATION, 1 << 11)
    lab.do(lambda: lab.cluster.changed(ana=True))
    event = host.admin.submit(commands.async_event_request())
    assert host.event(event) is AsyncEvent.ANA_CHANGE
    event = host.admin.submit(commands.async_event_request())
    host.log_page(LogPage.ANA, 16, retain=True)
    lab.do(lambda: lab.cluster.changed(ana=True))  # still masked
    host.log_page(LogPage.ANA, 16)
    lab.do(lambda: lab.cluster.changed(ana=True))
    assert host.event(event) is AsyncEvent.ANA_CHANGE


def test_events_that_were_not_asked_for_do_not_come(lab: Lab, connect: Connect) -> None:
    host = connect()
    event = host.watch(AsyncEvent.ANA_CHANGE)
    lab.add_volume(6, HOST_NQN)
    lab.do(lambda: lab.cluster.changed(ana=True))
    assert host.event(event) is AsyncEvent.ANA_CHANGE


def test_more_event_requests_than_the_limit(connect: Connect) -> None:
    host = connect()
    limit = host.identify_controller().async_event_limit + 1
    for _ in range(limit):
        host.admin.submit(commands.async_event_request())
    assert failure(host, commands.async_event_request()) == Status.ASYNC_EVENT_LIMIT_EXCEEDED


def test_abort_of_what_is_done_aborts_nothing(connect: Connect) -> None:
    host = connect()
    for queue_id in (0, 1, 9):
        reply = host.admin.run(commands.abort(queue_id=queue_id, cid=55))
        assert reply.check("abort").completion.result == 1


def test_unknown_commands(connect: Connect) -> None:
    host = connect()
    assert failure(host, Command(0x7E)) == Status.INVALID_OPCODE
    assert failure(host, Command(AdminOpcode.FABRICS, nsid=0x55)) == Status.INVALID_OPCODE
    assert host.io[0].run(Command(0x7E)).completion.status == Status.INVALID_OPCODE
    again = commands.connect(queue_id=0, queue_size=32)
    assert failure(host, again, IDENTITY.encode()) == Status.COMMAND_SEQUENCE_ERROR
