# SPDX-License-Identifier: Apache-2.0
"""I/O commands over real sockets to the real store."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import threading
from collections.abc import Callable
from uuid import UUID

import pytest

from lightos.lab.view import AnaState
from lightos.nvme_tcp import (
    R2T,
    CapsuleCmd,
    CapsuleResp,
    CommandFailed,
    H2CData,
    Reply,
    Settings,
    commands,
)
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import PSDT_SGL, Status
from lightos.nvme_tcp.structures import DatasetRange
from testbed.initiator import Initiator, QueueSocket
from tests.unit.target.cluster import HOST_NQN, MIB, OTHER_NQN, Lab

Connect = Callable[..., Initiator]
NODE = UUID(int=1)
ALL_SETTINGS = [
    Settings(header_digest=header, data_digest=data, alignment_bytes=alignment)
    for header in (False, True)
    for data in (False, True)
    for alignment in (4, 64)
]


def pattern(length: int, seed: int = 1) -> bytes:
    return bytes((seed * 31 + at * 7) % 251 for at in range(4096)) * (length // 4096 + 1)


def status_of(host: Initiator, command: Command, data: bytes = b"") -> int:
    return host.io[0].run(command, data).completion.status


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=str)
@pytest.mark.parametrize("flow_control", [True, False], ids=["sq flow", "no sq flow"])
def test_what_is_written_is_read(connect: Connect, settings: Settings, flow_control: bool) -> None:
    host = connect(settings=settings, disable_sq_flow=not flow_control)
    for start, count, in_capsule in (
        (0, 1, True),
        (7, 16, True),
        (100, 16, False),
        (999, 2048, False),
    ):
        data = pattern(count * 512, start)[: count * 512]
        host.write(1, start, data, in_capsule=in_capsule)
        assert host.read(1, start, count) == data
        host.compare(1, start, data)
    assert host.read(1, 30000, 8) == bytes(4096)


def test_data_is_in_the_store_once_a_write_is_complete(lab: Lab, connect: Connect) -> None:
    host = connect()
    uuid = lab.cluster.volumes[1].uuid
    data = pattern(MIB)[:MIB]
    host.write(1, 3, data)
    assert lab.store.read(uuid, 1536, MIB) == data


def test_many_commands_at_once(connect: Connect) -> None:
    host = connect(io_queues=2)
    jobs = [
        (commands.write(1, 8 * n, 8, block_size=512), n.to_bytes(4, "big") * 1024)
        for n in range(512)
    ]
    replies = list(host.io[0].pipeline(jobs, depth=100))
    assert [reply.completion.status for reply in replies] == [0] * 512
    reads = [(commands.read(1, 8 * n, 8, block_size=512), b"") for n in range(512)]
    data = b"".join(reply.data for reply in sorted_replies(host.io[1], reads))
    assert data == b"".join(sent for _, sent in jobs)


def sorted_replies(queue: QueueSocket, jobs: list[tuple[Command, bytes]]) -> list[Reply]:
    cids = [queue.submit(*job) for job in jobs[:100]]
    replies = []
    for job in (*jobs[100:], None):
        if job is not None:
            replies.append(queue.wait(cids.pop(0)))
            cids.append(queue.submit(*job))
    return replies + [queue.wait(cid) for cid in cids]


def test_a_write_that_the_host_cuts_anywhere(lab: Lab, connect: Connect) -> None:
    """The data of one R2T in PDUs that end inside blocks, as the specification allows."""
    host = connect()
    queue, sock = host.io[0].queue.connection, host.io[0].socket
    data = pattern(8192)[:8192]
    command = commands.write(1, 50, 16, block_size=512)._replace(cid=900)
    sock.sendall(queue.send(CapsuleCmd(command)))
    asked = _next_event(host)
    assert isinstance(asked, R2T)
    at = 0
    for size in (4, 508, 1, 1023, 600, 6056):
        chunk = H2CData(900, asked.tag, at, data[at : at + size], last=at + size == 8192)
        sock.sendall(queue.send(chunk))
        at += size
    done = _next_event(host)
    assert isinstance(done, CapsuleResp)
    assert done.completion.status == 0
    assert lab.store.read(lab.cluster.volumes[1].uuid, 50 * 512, 8192) == data


def _next_event(host: Initiator) -> object:
    connection, sock = host.io[0].queue.connection, host.io[0].socket
    while True:
        event = connection.next_event()
        if isinstance(event, tuple):
            return event
        connection.receive_data(sock.recv(65536))


def test_sq_head_follows_the_commands(connect: Connect) -> None:
    host = connect(queue_size=4)
    heads = [host.io[0].run(commands.flush(1)).completion.sq_head for _ in range(6)]
    assert heads == [2, 3, 0, 1, 2, 3]  # Connect was the first
    free = connect(queue_size=4, disable_sq_flow=True)
    assert free.io[0].run(commands.flush(1)).completion.sq_head == 0xFFFF


@pytest.mark.parametrize(
    "command",
    [
        commands.write_zeroes(2, 0, 1 << 16),
        commands.in_capsule(commands.deallocate(2, 1)),
    ],
    ids=["write zeroes", "deallocate"],
)
def test_a_long_deallocation_lets_others_through_and_ends_when_the_role_does(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    lab.add_volume(2, HOST_NQN, size_bytes=256 * MIB, block=4096)
    host, other = connect(), connect()
    steps: list[int] = []
    turns: list[int] = []

    def deallocate(_uuid: UUID, offset: int, _length: int) -> None:
        steps.append(offset)
        if len(steps) == 3:
            asyncio.get_running_loop().call_soon(lambda: turns.append(len(steps)))
        if len(steps) == 10:
            lab.cluster.states[NODE, 1] = AnaState.INACCESSIBLE

    monkeypatch.setattr(lab.store, "deallocate", deallocate)
    data = DatasetRange(start_block=0, block_count=1 << 16).encode()
    status = status_of(host, command, data if command.sends_data else b"")
    assert status == Status.ANA_INACCESSIBLE
    assert (len(steps), turns) == (10, [3])
    lab.cluster.states.clear()
    assert other.read(2, 0, 1) == bytes(4096)


def test_write_zeroes_and_deallocate(lab: Lab, connect: Connect) -> None:
    host = connect()
    uuid = lab.cluster.volumes[1].uuid
    host.write(1, 0, b"x" * MIB)
    host.write_zeroes(1, 1, 3)
    assert host.read(1, 0, 5) == b"x" * 512 + bytes(1536) + b"x" * 512
    used = lab.store.used_bytes(uuid)
    host.deallocate(1, [(8, 800), (900, 1), (1024, 1024)])
    assert host.read(1, 8, 800) == bytes(800 * 512)
    assert host.read(1, 899, 3) == b"x" * 512 + bytes(512) + b"x" * 512
    assert host.read(1, 1024, 1024) == bytes(MIB // 2)
    assert lab.store.used_bytes(uuid) < used


def test_compare_finds_a_difference(connect: Connect) -> None:
    host = connect()
    host.write(1, 0, b"a" * 8192)
    host.compare(1, 0, b"a" * 8192)
    with pytest.raises(CommandFailed, match="compare failure"):
        host.compare(1, 0, b"a" * 8191 + b"b")


@pytest.mark.parametrize("start", [32768, 32761, 2**63, 2**64 - 8])
def test_blocks_past_the_end(connect: Connect, start: int) -> None:
    host = connect()
    data = bytes(4096)
    assert status_of(host, commands.read(1, start, 8, block_size=512)) == Status.LBA_OUT_OF_RANGE
    write = commands.write(1, start, 8, block_size=512)
    assert status_of(host, write, data) == Status.LBA_OUT_OF_RANGE
    assert status_of(host, commands.in_capsule(write), data) == Status.LBA_OUT_OF_RANGE
    assert status_of(host, commands.write_zeroes(1, start, 8)) == Status.LBA_OUT_OF_RANGE
    with pytest.raises(CommandFailed, match="lba out of range"):
        host.deallocate(1, [(0, 1), (start, 8)])


@pytest.mark.parametrize("nsid", [0, 2, 3, 1025, 0xFFFFFFFF])
def test_namespaces_that_are_not_there(lab: Lab, connect: Connect, nsid: int) -> None:
    lab.add_volume(3, OTHER_NQN)
    host = connect()
    write = commands.write(nsid, 0, 8, block_size=512)
    for command, data in (
        (commands.read(nsid, 0, 8, block_size=512), b""),
        (write, bytes(4096)),
        (commands.in_capsule(write), bytes(4096)),
        (commands.write_zeroes(nsid, 0, 8), b""),
        (commands.in_capsule(commands.deallocate(nsid, 1)), bytes(16)),
    ):
        assert status_of(host, command, data) == Status.INVALID_NAMESPACE
    if nsid != 0xFFFFFFFF:
        assert status_of(host, commands.flush(nsid)) == Status.INVALID_NAMESPACE


def test_what_moves_no_data_is_not_bound_by_mdts(connect: Connect) -> None:
    host = connect()
    zeroes = commands.write_zeroes(1, 0, 4096)
    for command in (zeroes, commands.flush(1)):
        assert status_of(host, command) == 0
        assert status_of(host, command._replace(data_length=2 * MIB)) == 0


READ = commands.read(1, 0, 8, block_size=512)
WRITE = commands.write(1, 0, 8, block_size=512)
INLINE = commands.in_capsule(WRITE)
MALFORMED: dict[str, tuple[Command, bytes, Status]] = {
    "read of too few bytes": (READ._replace(data_length=512), b"", Status.DATA_SGL_LENGTH_INVALID),
    "read of too many": (READ._replace(data_length=8192), b"", Status.DATA_SGL_LENGTH_INVALID),
    "write of no bytes": (WRITE._replace(data_length=0), b"", Status.DATA_SGL_LENGTH_INVALID),
    "write of too few": (
        INLINE._replace(data_length=512),
        bytes(512),
        Status.DATA_SGL_LENGTH_INVALID,
    ),
    "read longer than MDTS": (
        commands.read(1, 0, 4096, block_size=512),
        b"",
        Status.INVALID_FIELD,
    ),
    "write longer than MDTS": (
        commands.write(1, 0, 2049, block_size=512),
        bytes(MIB + 512),
        Status.INVALID_FIELD,
    ),
    "compare longer than MDTS": (
        commands.compare(1, 0, 2049, block_size=512),
        bytes(MIB + 512),
        Status.INVALID_FIELD,
    ),
    "deallocate longer than MDTS": (
        commands.deallocate(1, 1)._replace(data_length=MIB + 4),
        bytes(MIB + 4),
        Status.INVALID_FIELD,
    ),
    "more blocks than it has room for": (
        commands.read(1, 0, 4096, block_size=512)._replace(data_length=4096),
        b"",
        Status.DATA_SGL_LENGTH_INVALID,
    ),
    "PRP": (READ._replace(flags=0), b"", Status.INVALID_FIELD),
    "fused": (INLINE._replace(flags=PSDT_SGL | 1), bytes(4096), Status.INVALID_FIELD),
    "SGL segment": (READ._replace(sgl_type=0x21), b"", Status.SGL_DESCRIPTOR_TYPE_INVALID),
    "keyed SGL": (READ._replace(sgl_type=0x40), b"", Status.SGL_DESCRIPTOR_TYPE_INVALID),
    "read into the capsule": (READ._replace(sgl_type=1), b"", Status.SGL_DESCRIPTOR_TYPE_INVALID),
    "data past the capsule": (INLINE, bytes(4092), Status.SGL_OFFSET_INVALID),
    "offset past the capsule": (
        INLINE._replace(sgl_address=4),
        bytes(4096),
        Status.SGL_OFFSET_INVALID,
    ),
    "deallocate with too few ranges": (
        commands.in_capsule(commands.deallocate(1, 3)._replace(data_length=32)),
        bytes(32),
        Status.DATA_SGL_LENGTH_INVALID,
    ),
}


@pytest.mark.parametrize(("command", "data", "status"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_commands(connect: Connect, command: Command, data: bytes, status: int) -> None:
    host = connect()
    assert status_of(host, command, data) == status
    assert host.read(1, 0, 8) == bytes(4096)


def test_in_capsule_data_may_start_at_an_offset(connect: Connect) -> None:
    host = connect()
    command = commands.in_capsule(commands.write(1, 0, 1, block_size=512), 64)
    assert status_of(host, command, b"#" * 64 + b"d" * 512 + b"#" * 8) == 0
    assert host.read(1, 0, 1) == b"d" * 512


# ---- paths, access, errors of the disk


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (AnaState.OPTIMIZED, 0),
        (AnaState.NON_OPTIMIZED, 0),
        (AnaState.INACCESSIBLE, Status.ANA_INACCESSIBLE),
        (AnaState.PERSISTENT_LOSS, Status.ANA_PERSISTENT_LOSS),
        (AnaState.CHANGE, Status.ANA_TRANSITION),
    ],
)
def test_a_path_serves_as_its_ana_state_says(
    lab: Lab, connect: Connect, state: AnaState, status: int
) -> None:
    host = connect()
    lab.do(lambda: lab.cluster.states.update({(NODE, 1): state}))
    assert status_of(host, READ) == status
    assert status_of(host, WRITE, b"w" * 4096) == status
    assert status_of(host, INLINE, b"w" * 4096) == status
    assert status_of(host, commands.write_zeroes(1, 100, 8)) == status
    assert status_of(host, commands.flush(1)) == status
    stored = lab.store.read(lab.cluster.volumes[1].uuid, 0, 4096)
    assert stored == (bytes(4096) if status else b"w" * 4096)
    reply = host.io[0].run(READ)
    assert not reply.completion.do_not_retry  # another path may serve it
    assert host.identify_namespace(1).size_blocks == 32768


def test_a_write_under_way_does_not_land_after_the_path_is_lost(lab: Lab, connect: Connect) -> None:
    host = connect()
    queue, sock = host.io[0].queue.connection, host.io[0].socket
    command = commands.write(1, 0, 16, block_size=512)._replace(cid=900)
    sock.sendall(queue.send(CapsuleCmd(command)))
    asked = _next_event(host)
    assert isinstance(asked, R2T)
    lab.do(lambda: lab.cluster.states.update({(NODE, 1): AnaState.INACCESSIBLE}))
    sock.sendall(queue.send(H2CData(900, asked.tag, 0, b"1" * 4096, last=False)))
    sock.sendall(queue.send(H2CData(900, asked.tag, 4096, b"2" * 4096)))
    done = _next_event(host)
    assert isinstance(done, CapsuleResp)
    assert done.completion.status == Status.ANA_INACCESSIBLE
    assert lab.store.read(lab.cluster.volumes[1].uuid, 0, 8192) == bytes(8192)


def test_access_taken_away_ends_io_at_once(lab: Lab, connect: Connect) -> None:
    host = connect()
    queue, sock = host.io[0].queue.connection, host.io[0].socket
    assert status_of(host, INLINE, b"1" * 4096) == 0
    command = commands.write(1, 0, 8, block_size=512)._replace(cid=900)
    sock.sendall(queue.send(CapsuleCmd(command)))
    asked = _next_event(host)
    assert isinstance(asked, R2T)

    def revoke() -> None:
        lab.cluster.acls[1].clear()
        lab.cluster.changed([1])

    lab.do(revoke)
    sock.sendall(queue.send(H2CData(900, asked.tag, 0, b"2" * 4096)))
    done = _next_event(host)
    assert isinstance(done, CapsuleResp)
    assert done.completion.status == Status.INVALID_NAMESPACE
    assert lab.store.read(lab.cluster.volumes[1].uuid, 0, 4096) == b"1" * 4096
    assert host.namespace_ids() == ()
    assert status_of(host, READ) == Status.INVALID_NAMESPACE


def test_a_volume_that_the_store_has_forgotten(lab: Lab, connect: Connect) -> None:
    host = connect()
    lab.store.delete(lab.cluster.volumes[1].uuid)
    assert status_of(host, READ) == Status.INVALID_NAMESPACE
    assert status_of(host, INLINE, bytes(4096)) == Status.INVALID_NAMESPACE
    assert status_of(host, commands.flush(1)) == Status.INVALID_NAMESPACE
    assert host.identify_namespace(1).used_blocks == 0


def test_a_view_ahead_of_the_store_never_writes_past_the_end(lab: Lab, connect: Connect) -> None:
    view = lab.cluster.volumes[1]

    def grow() -> None:
        lab.cluster.volumes[1] = dataclasses.replace(view, size_bytes=32 * MIB)
        lab.cluster.changed([1])

    host = connect()
    lab.do(grow)
    beyond = commands.write(1, 40000, 8, block_size=512)
    assert status_of(host, beyond, bytes(4096)) == Status.LBA_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("error", "write_status"),
    [
        (errno.ENOSPC, Status.CAPACITY_EXCEEDED),
        (errno.EDQUOT, Status.CAPACITY_EXCEEDED),
        (errno.EIO, Status.WRITE_FAULT),
    ],
)
def test_errors_of_the_disk(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch, error: int, write_status: int
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(error, "the disk says no")

    host = connect()
    for name in ("read", "write", "deallocate", "flush"):
        monkeypatch.setattr(lab.store, name, fail)
    assert status_of(host, WRITE, bytes(4096)) == write_status
    assert status_of(host, INLINE, bytes(4096)) == write_status
    assert status_of(host, commands.write_zeroes(1, 0, 8)) == write_status
    assert status_of(host, commands.flush(1)) == write_status
    if error == errno.EIO:
        assert status_of(host, READ) == Status.UNRECOVERED_READ_ERROR
    monkeypatch.undo()
    assert host.read(1, 0, 8) == bytes(4096)


# ---- durability


@pytest.fixture
def flushed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, bool]]:
    """Volumes flushed, and whether that was off the event loop's thread."""
    calls: list[tuple[UUID, bool]] = []
    flush = lab.store.flush
    loop_thread = lab.do(threading.get_ident)

    def spy(uuid: UUID) -> None:
        calls.append((uuid, threading.get_ident() != loop_thread))
        flush(uuid)

    monkeypatch.setattr(lab.store, "flush", spy)
    return calls


def test_flush_reaches_the_store_in_a_thread(
    lab: Lab, connect: Connect, flushed: list[tuple[UUID, bool]]
) -> None:
    second = lab.add_volume(2, HOST_NQN)
    foreign = lab.add_volume(3, OTHER_NQN)
    first = lab.cluster.volumes[1].uuid
    host = connect()
    host.flush(1)
    assert flushed == [(first, True)]
    host.flush()
    assert set(flushed) == {(first, True), (second, True)}
    assert (foreign, True) not in flushed


def test_force_unit_access_and_a_disabled_cache_flush_each_write(
    lab: Lab, connect: Connect, flushed: list[tuple[UUID, bool]]
) -> None:
    from lightos.nvme_tcp.constants import Feature

    host = connect()
    host.write(1, 0, bytes(512))
    assert flushed == []
    for in_capsule in (False, True):
        host.write(1, 0, bytes(512), in_capsule=in_capsule, force_unit_access=True)
    assert len(flushed) == 2
    host.set_feature(Feature.VOLATILE_WRITE_CACHE, 0)
    host.write(1, 0, bytes(512))
    host.write_zeroes(1, 0, 8)
    assert len(flushed) == 4
    host.set_feature(Feature.VOLATILE_WRITE_CACHE, 1)
    host.write(1, 0, bytes(512))
    assert len(flushed) == 4


def test_reads_go_on_while_a_flush_takes_its_time(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = connect()
    host.block_size(1)
    may_end = threading.Event()
    monkeypatch.setattr(lab.store, "flush", lambda _uuid: may_end.wait(20))
    flush = host.io[0].submit(commands.flush(1))
    assert host.read(1, 0, 1) == bytes(512)
    may_end.set()
    assert host.io[0].wait(flush).completion.status == 0
