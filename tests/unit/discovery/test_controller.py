# SPDX-License-Identifier: Apache-2.0
"""A session against the lab's real discovery service, and against peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.discovery.controller import (
    AdminQueue,
    DiscoverySession,
    SessionError,
    SessionSettings,
    open_session,
    usable_records,
)
from lightos.discovery.desired import Endpoint, RecordKind
from lightos.nvme_tcp.constants import SubsystemType, TransportType
from lightos.nvme_tcp.errors import MalformedStructure
from lightos.nvme_tcp.structures import DiscoveryEntry, DiscoveryLog
from tests.unit.discovery.conftest import serving
from tests.unit.target.cluster import HOST_NQN, SUBSYSTEM_NQN, LiteralCluster

SETTINGS = SessionSettings(HOST_NQN, UUID(int=5))
IMPATIENT = dataclasses.replace(SETTINGS, command_timeout_seconds=0.2)


def test_log_names_io_controllers_and_referrals_of_every_node(store_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            async with open_session(cluster.service(2), SETTINGS, asyncio.Event()) as session:
                records = await session.read_log()
            assert session.sends_events
            io = [r for r in records if r.kind is RecordKind.IO]
            assert {r.endpoint for r in io} == {
                Endpoint(f"127.0.0.{n}", cluster.view.nvme_port) for n in (11, 12, 13)
            }
            assert {r.subsystem_nqn for r in io} == {SUBSYSTEM_NQN}
            referrals = {r.endpoint for r in records if r.kind is RecordKind.REFERRAL}
            assert referrals == {cluster.service(n) for n in (1, 2, 3)}

    asyncio.run(scenario())


def test_a_change_of_the_log_wakes_us_each_time(store_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(store_folder, nodes=1) as cluster:
            wake = asyncio.Event()
            async with open_session(cluster.service(1), SETTINGS, wake) as session:
                assert len(await session.read_log()) == 2
                for number in (2, 3):
                    await cluster.start(number)
                    await wake.wait()
                    wake.clear()
                    assert len(await session.read_log()) == 2 * number

    asyncio.run(scenario())


def test_a_log_of_many_nodes_is_read_in_parts(store_folder: Path) -> None:
    async def scenario() -> None:
        async with (
            serving(store_folder, nodes=9) as cluster,
            open_session(cluster.service(1), SETTINGS, asyncio.Event()) as session,
        ):
            assert len(await session.read_log()) == 18

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", [TransportType.TCP, TransportType.RDMA])
def test_an_entry_that_is_no_text_costs_only_itself(
    store_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    transport: TransportType,
) -> None:
    """A discovery service may be shared: what somebody else's entry holds is not our affair."""
    good = DiscoveryLog.encode

    def with_a_bad_entry(log: DiscoveryLog) -> bytes:
        page, first = bytearray(good(log)), DiscoveryLog.HEADER_BYTES
        page[first] = transport
        page[first + 512 : first + 515] = b"\xff\xfe\xfd"  # its address
        return bytes(page)

    monkeypatch.setattr(DiscoveryLog, "encode", with_a_bad_entry)

    async def scenario() -> None:
        async with (
            serving(store_folder) as cluster,
            open_session(cluster.service(1), SETTINGS, asyncio.Event()) as session,
        ):
            for _ in range(2):  # the session lasts
                assert len(await session.read_log()) == 5

    asyncio.run(scenario())
    assert "skipping 1 discovery log entries" in caplog.text
    assert "DiscoveryEntry.address is not UTF-8" in caplog.text


class RestlessCluster(LiteralCluster):
    """Its generation counter moves at each of the next `moves` readings."""

    moves = 0

    @property
    def discovery_generation(self) -> int:  # type: ignore[override]
        type(self).moves = max(0, self.moves - 1)
        return self.moves

    @discovery_generation.setter
    def discovery_generation(self, value: int) -> None:
        pass


@pytest.mark.parametrize(("moves", "settles"), [(7, True), (1000, False)])
def test_a_log_that_changes_while_it_is_read_is_read_again(
    store_folder: Path, moves: int, settles: bool
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            cluster.view.__class__ = RestlessCluster
            RestlessCluster.moves = moves
            async with open_session(cluster.service(1), SETTINGS, asyncio.Event()) as session:
                assert len(await session.read_log()) == 6

    if settles:
        asyncio.run(scenario())
    else:
        with pytest.raises(SessionError, match="faster than it can be read"):
            asyncio.run(scenario())


def test_the_end_of_a_session_wakes_us_and_is_an_error(store_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            wake = asyncio.Event()
            async with open_session(cluster.service(1), SETTINGS, wake) as session:
                await session.read_log()
                await cluster.stop(1)
                await wake.wait()
                await session.read_log()

    with pytest.raises(SessionError, match="closed the connection"):
        asyncio.run(scenario())


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[Endpoint]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint(*server.sockets[0].getsockname())


def meet(peer: Peer) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(10),
            listening(peer) as endpoint,
            open_session(endpoint, IMPATIENT, asyncio.Event()),
        ):
            pass

    asyncio.run(scenario())


IC_RESP = struct.pack("<BBBBIHBBI", 1, 0, 128, 0, 128, 0, 0, 0, 131072).ljust(128, b"\0")


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def speaks_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def silent_after_initialization(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.readexactly(128)
    writer.write(IC_RESP)


@pytest.mark.parametrize(
    ("peer", "complaint"),
    [
        (silent, "no ICResp in time"),
        (hangs_up, "closed the connection|reset by peer"),
        (speaks_http, "broke the protocol"),
        (silent_after_initialization, "no answer to command 0x7f in time"),
    ],
)
def test_peers_that_misbehave_end_the_session_with_a_reason(peer: Peer, complaint: str) -> None:
    with pytest.raises(SessionError, match=complaint):
        meet(peer)


@given(st.binary(max_size=300))
def test_no_bytes_of_a_peer_do_more_than_end_the_session(garbage: bytes) -> None:
    async def peer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(IC_RESP + garbage)
        writer.close()

    with pytest.raises(SessionError):
        meet(peer)


def test_nobody_there_is_said_so() -> None:
    async def scenario() -> None:
        async with open_session(Endpoint("127.0.0.1", 1), SETTINGS, asyncio.Event()):
            pass

    with pytest.raises(SessionError, match=r"[Cc]onnect"):
        asyncio.run(scenario())


GOOD = DiscoveryEntry(service_id="4420", subsystem_nqn=SUBSYSTEM_NQN, address="192.168.75.11")


@pytest.mark.parametrize(
    "changes",
    [
        {"transport_type": TransportType.RDMA},
        {"address": "192.168.75.11,host_traddr=6.6.6.6"},
        {"address": ""},
        {"address": "0.0.0.0"},
        {"address": "node1.example.com"},
        {"service_id": "none"},
        {"service_id": "0"},
        {"service_id": "70000"},
        {"service_id": "44\u0665"},
        {"subsystem_nqn": ""},
        {"subsystem_nqn": "nqn.2016-01.com.lightbitslabs:x,hostnqn=y"},
    ],
)
def test_entries_that_the_kernel_must_not_get_are_skipped(changes: dict[str, object]) -> None:
    bad = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    assert len(usable_records([bad.encode(), GOOD.encode()])) == 1


def test_strings_may_be_padded_and_referrals_of_either_kind_count() -> None:
    padded = dataclasses.replace(GOOD, service_id="4420  ", address="fd00:0::1 ")
    current = dataclasses.replace(GOOD, subsystem_type=SubsystemType.CURRENT_DISCOVERY)
    io, referral = usable_records([padded.encode(), current.encode()])
    assert (io.kind, io.endpoint) == (RecordKind.IO, Endpoint("fd00::1", 4420))
    assert referral.kind is RecordKind.REFERRAL


@given(st.binary(max_size=4096))
def test_any_log_page_is_read_or_refused(data: bytes) -> None:
    try:
        entries = DiscoveryLog.split(data)
    except MalformedStructure:
        return
    usable_records(entries)


async def asks_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """R2Ts for the data of Connect, again and again; what comes is never read."""
    await reader.readexactly(128)
    writer.write(IC_RESP)
    await reader.read(1)
    writer.transport.pause_reading()
    request = struct.pack("<BBBBIHHII", 9, 0, 24, 0, 24, 0, 0, 0, 1024).ljust(24, b"\0")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(request * 1000)
            await writer.drain()


def test_answers_that_a_peer_does_not_take_are_not_piled_up() -> None:
    async def scenario() -> None:
        async with listening(asks_without_end) as endpoint:
            reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
            async with AdminQueue(reader, writer, 1.0, asyncio.Event()) as queue:
                with pytest.raises(SessionError, match="in time"):
                    await DiscoverySession(queue, endpoint, SETTINGS).start()
                assert writer.transport.get_write_buffer_size() < 8 << 20
            await asyncio.sleep(0)
            assert writer.transport.get_write_buffer_size() == 0

    asyncio.run(scenario())


def test_a_log_that_comes_too_slowly_ends_the_session(store_folder: Path) -> None:
    async def scenario() -> None:
        settings = dataclasses.replace(SETTINGS, log_timeout_seconds=0)
        async with (
            serving(store_folder) as cluster,
            open_session(cluster.service(1), settings, asyncio.Event()) as session,
        ):
            await session.read_log()

    with pytest.raises(SessionError, match="not read in time"):
        asyncio.run(scenario())
