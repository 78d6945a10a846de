# SPDX-License-Identifier: Apache-2.0
"""A discovery service that means harm: malformed PDUs and log pages, floods, silence, storms."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lightos.nvme_tcp import NEED_DATA, Role
from lightos.nvme_tcp.commands import Command, Completion
from lightos.nvme_tcp.connection import Connection
from lightos.nvme_tcp.constants import (
    AEC_BIT,
    DISCOVERY_NQN,
    AdminOpcode,
    AsyncEvent,
    FabricsType,
    Property,
    SubsystemType,
)
from lightos.nvme_tcp.errors import ProtocolError
from lightos.nvme_tcp.pdu import PLAIN, R2T, C2HData, CapsuleCmd, CapsuleResp, ICReq, encode
from lightos.nvme_tcp.structures import (
    ConnectData,
    DiscoveryEntry,
    DiscoveryLog,
    IdentifyController,
)
from tests.fuzz.codec import exchanges
from tests.fuzz.exchanges import SUBSYSTEM_NQN
from tests.fuzz.mutator import broken, changed_pdu, generator
from tests.fuzz.parsers import broken_page

PDUS_BEFORE_LOG = 10
"""That a service sends until a host reads its log."""
NEVER = 1 << 30
SILENCE_SECONDS = 6.0
STORM_EVENTS = 200
FLOOD_PDUS = 200_000
LINGER_SECONDS = 0.1
"""How long a session goes on after all that it was about."""
LINGER_SHARE = 0.02
"""Of sessions that are left to the client to end."""
READ_SECONDS = 10.0


class Manner(enum.Enum):
    """What a session is like."""

    MALFORMED_PDU = "malformed or cut PDUs"
    MALFORMED_PAGE = "malformed log pages"
    LONG_PAGE = "a log page of thousands of records"
    SHORT_LIFE = "a good log page, then the end of the connection"
    STORM = "a storm of events"
    FLOOD = "a flood of R2Ts, and nothing is read"
    SILENCE = "silence"


SHARES = {
    Manner.MALFORMED_PDU: 70,
    Manner.MALFORMED_PAGE: 21,
    Manner.SHORT_LIFE: 6,
    Manner.STORM: 1,
    Manner.LONG_PAGE: 1,
    Manner.SILENCE: 0.5,
    Manner.FLOOD: 0.5,
}


def good_log(records: int) -> bytes:
    """Half of them I/O controllers, half other discovery services; nobody is at home there."""
    return DiscoveryLog(
        7,
        tuple(
            DiscoveryEntry(
                subsystem_type=SubsystemType.REFERRAL if number % 2 else SubsystemType.NVM,
                port_id=number % 65536,
                controller_id=0xFFFF,
                admin_queue_size=32,
                service_id=str(1 + number % 7),
                subsystem_nqn=DISCOVERY_NQN if number % 2 else SUBSYSTEM_NQN,
                address=f"127.1.{number // 250}.{number % 250 + 1}",
            )
            for number in range(records)
        ),
    ).encode()


@dataclass
class Session:
    """What one connection does, decided by its number alone."""

    chance: random.Random
    manner: Manner
    page: bytes
    break_from: int
    """Outgoing PDU from which on they are malformed."""
    lingers: bool
    storm: int
    sent: int = 0
    log_was_read: bool = False

    @property
    def is_over(self) -> bool:
        """Whether what it was about has happened."""
        return not self.storm and (self.sent > self.break_from or self.log_was_read)

    @classmethod
    def number(cls, seed: int, number: int) -> Session:
        chance = generator(seed, "service", number)
        manner = chance.choices(list(SHARES), list(SHARES.values()))[0]
        if manner is Manner.LONG_PAGE:
            page = good_log(chance.choice((500, 4000)))
        else:
            page = good_log(chance.randrange(7))
        if manner is Manner.MALFORMED_PAGE:
            page = broken_page(chance, page)
        break_from = (
            chance.randrange(PDUS_BEFORE_LOG) if manner is Manner.MALFORMED_PDU else 1 << 30
        )
        storm = STORM_EVENTS if manner is Manner.STORM else chance.randrange(2)
        return cls(chance, manner, page, break_from, chance.random() < LINGER_SHARE, storm)

    def altered(self, pdu: bytes) -> bytes:
        """The PDU as it goes out."""
        self.sent += 1
        if self.sent <= self.break_from:
            return pdu
        if self.chance.random() < 0.5:
            return changed_pdu(self.chance, pdu)
        return b"".join(broken(self.chance, [pdu], exchanges()[0].to_host))

    def answers(self, command: Command) -> tuple[bytes | None, int]:
        """Data and result of a command."""
        match command.opcode:
            case AdminOpcode.FABRICS if command.fabrics_type == FabricsType.CONNECT:
                return None, 1
            case AdminOpcode.FABRICS:
                return None, int(command.cdw11 == Property.CSTS)
            case AdminOpcode.IDENTIFY:
                bit = AEC_BIT[AsyncEvent.DISCOVERY_LOG_CHANGE]
                return IdentifyController(async_events=bit, model_number="hostile").encode(), 0
            case AdminOpcode.GET_LOG_PAGE:
                offset = command.cdw13 << 32 | command.cdw12
                length = command.data_length
                return self.page[offset : offset + length].ljust(length, b"\0"), 0
            case AdminOpcode.ASYNC_EVENT_REQUEST:
                return None, AsyncEvent.DISCOVERY_LOG_CHANGE
        return None, 0


class HostileService:
    """Listens on `address` and counts what it did, on an event loop in a thread of its own."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.port = 0
        self.sessions: Counter[Manner] = Counter()
        self._seed = seed
        self._started = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, self.address, 0, backlog=512), loop
        ).result()
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            loop.call_soon_threadsafe(server.close)
            asyncio.run_coroutine_threadsafe(_cancel_tasks(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session.number(self._seed, self._started)
        self._started += 1
        self.sessions[session.manner] += 1
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._converse(session, reader, writer)
        except (OSError, ProtocolError, TimeoutError, asyncio.CancelledError):
            pass  # the client has ended it, or its answer to nonsense is nonsense, or we end
        finally:
            writer.transport.abort()

    async def _converse(
        self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = Connection(Role.CONTROLLER)
        if session.manner is Manner.SILENCE:
            await asyncio.sleep(SILENCE_SECONDS)
            return
        while data := await self._read(session, reader):
            connection.receive_data(data)
            while (event := connection.next_event()) is not NEED_DATA:
                if isinstance(event, ICReq):
                    writer.write(session.altered(connection.accept()))
                elif isinstance(event, CapsuleCmd):
                    if session.manner is Manner.FLOOD:
                        await _flood(event.command.cid, writer)
                        return
                    if not self._answer(session, connection, event.command, writer):
                        return
                else:
                    return  # a TermReq, or the end
            await writer.drain()

    @staticmethod
    async def _read(session: Session, reader: asyncio.StreamReader) -> bytes:
        if not session.is_over or session.lingers:
            return await reader.read(1 << 16)
        async with asyncio.timeout(LINGER_SECONDS):
            return await reader.read(1 << 16)

    def _answer(
        self,
        session: Session,
        connection: Connection,
        command: Command,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one command; False ends the connection."""
        cid = command.cid
        if command.opcode == AdminOpcode.ASYNC_EVENT_REQUEST:
            if not session.storm:
                return True
            session.storm -= 1
        data, result = session.answers(command)
        if data is not None:
            writer.write(session.altered(connection.send(C2HData(cid, 0, data))))
        writer.write(session.altered(connection.send(CapsuleResp(Completion(cid, result=result)))))
        if command.opcode == AdminOpcode.GET_LOG_PAGE and not command.cdw10 & 1 << 15:
            session.log_was_read = True
        return not (session.log_was_read and session.manner is Manner.SHORT_LIFE)


async def _flood(cid: int, writer: asyncio.StreamWriter) -> None:
    """Ask for a command's data again and again, and take none of it."""
    pdu = encode(R2T(cid, cid, 0, ConnectData.SIZE), Role.CONTROLLER, PLAIN)
    for _ in range(FLOOD_PDUS // 500):
        writer.write(pdu * 500)
        await writer.drain()
    await asyncio.sleep(SILENCE_SECONDS)


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
