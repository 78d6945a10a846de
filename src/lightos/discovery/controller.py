# SPDX-License-Identifier: Apache-2.0
"""A persistent session with one discovery controller over NVMe/TCP.

`AdminQueue` drives the sans-IO `HostQueue` of `lightos.nvme_tcp` over an asyncio stream;
`DiscoverySession` speaks what a discovery controller understands (NVM Express Base 2.0, section
3.1.2.3 "Discovery Controller"; NVMe-oF 1.1, section 5). Everything that ends a session is one
exception, `SessionError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

from lightos.discovery.desired import Endpoint, Record, RecordKind
from lightos.discovery.entries import (
    InvalidEntry,
    validated_ip_address,
    validated_nqn,
    validated_port,
)
from lightos.nvme_tcp import HostQueue, Reply, commands
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    AEC_BIT,
    DISCOVERY_NQN,
    AsyncEvent,
    Cns,
    Feature,
    LogPage,
    Property,
    SubsystemType,
    TransportType,
)
from lightos.nvme_tcp.errors import (
    CommandFailed,
    MalformedStructure,
    ProtocolError,
    RemoteProtocolError,
)
from lightos.nvme_tcp.structures import DiscoveryEntry, DiscoveryLog, IdentifyController

LOG = logging.getLogger(__name__)

_QUEUE_SIZE = 32
_READ_BYTES = 65536
_CHUNK_BYTES = 4096
"""A page: every controller transfers at least this much in one command."""
_MAX_RECORDS = 4096
_LOG_READ_ATTEMPTS = 8
_CC_ENABLE = 6 << 16 | 4 << 20 | 1
"""CC: 64-byte submission and 16-byte completion entries, enabled."""
_CSTS_READY = 1
_READY_POLL_SECONDS = 0.1


class SessionError(Exception):
    """This session is over: no connection, no answer in time, or an answer that makes no sense."""


class AdminQueue:
    """The admin queue of one controller: any number of commands under way at once."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        command_timeout_seconds: float,
        wake: asyncio.Event,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_seconds = command_timeout_seconds
        self._wake = wake
        self._queue = HostQueue()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._ready = asyncio.get_running_loop().create_future()
        self._ended: str | None = None
        self._receiver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._receiver = asyncio.create_task(self._receive())
        try:
            self._writer.write(self._queue.initiate())
            async with asyncio.timeout(self._timeout_seconds):
                await self._ready
        except TimeoutError:
            await self._close()
            raise SessionError("no ICResp in time") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)
        self.end("closed")
        # Else what a controller does not take would keep the socket open for ever.
        self._writer.transport.abort()

    async def execute(self, command: Command, data: bytes = b"", *, timed: bool = True) -> Reply:
        """Run one command and return its reply.

        `timed` False waits without limit, as Asynchronous Event Request must.

        Raises:
            CommandFailed: it completed with another status than success.
            SessionError: the session ended first, or the answer did not come in time.
        """
        if self._ended is not None:
            raise SessionError(self._ended)
        cid, written = self._queue.submit(command, data)
        self._replies[cid] = asyncio.get_running_loop().create_future()
        self._writer.write(written)
        try:
            async with asyncio.timeout(self._timeout_seconds if timed else None):
                reply = await self._replies[cid]
        except TimeoutError:
            # The command id cannot be used again, so neither can the connection.
            self.end(f"no answer to command {command.opcode:#04x} in time")
            raise SessionError(self._ended) from None
        return reply.check(f"command {command.opcode:#04x}")

    async def _receive(self) -> None:
        try:
            while not self._ended:
                self._dispatch(await self._reader.read(_READ_BYTES))
                # A controller that does not take its answers is not read either.
                await self._writer.drain()
        except RemoteProtocolError as error:
            self._writer.write(self._queue.data_to_send())
            self.end(f"the controller broke the protocol: {error}")
        except OSError as error:
            self.end(error.strerror or str(error))
        except ProtocolError as error:
            self.end(str(error))

    def _dispatch(self, data: bytes) -> None:
        for reply in self._queue.receive(data):
            future = self._replies.pop(reply.cid)
            if not future.done():
                future.set_result(reply)
        self._writer.write(self._queue.data_to_send())
        if self._queue.ready and not self._ready.done():
            self._ready.set_result(None)
        if self._queue.closed:
            self.end(self._queue.closed_because)

    def end(self, reason: str) -> None:
        """End the session: every command under way fails with `reason`. Twice changes nothing."""
        if self._ended is not None:
            return
        self._ended = reason
        for future in (self._ready, *self._replies.values()):
            if not future.done():
                future.set_exception(SessionError(reason))
                future.exception()  # nobody may be waiting any more; that is no news to log
        self._writer.close()
        self._wake.set()


@dataclass(frozen=True)
class SessionSettings:
    """Who this host is, and how long it waits. Times are seconds."""

    host_nqn: str
    host_id: UUID
    connect_timeout_seconds: float = 1.5
    command_timeout_seconds: float = 5.0
    log_timeout_seconds: float = 30.0
    """For all parts of the log: one that comes too slowly keeps us from the next service."""
    keep_alive_timeout_seconds: float = 15.0


class DiscoverySession:
    """A connected discovery controller. Made by `open_session`."""

    def __init__(self, queue: AdminQueue, endpoint: Endpoint, settings: SessionSettings) -> None:
        self._queue = queue
        self._endpoint = endpoint
        self._settings = settings
        self.sends_events = False
        """Whether the controller announces changes of its log."""

    async def start(self) -> None:
        """Connect and enable the controller, and ask for log change events if it has them."""
        execute, settings = self._queue.execute, self._settings
        await execute(
            commands.connect(
                queue_id=0,
                queue_size=_QUEUE_SIZE,
                keep_alive_ms=int(settings.keep_alive_timeout_seconds * 1000),
            ),
            commands.connect_data(
                host_id=settings.host_id.bytes,
                host_nqn=settings.host_nqn,
                subsystem_nqn=DISCOVERY_NQN,
            ),
        )
        await execute(commands.property_set(Property.CC, _CC_ENABLE))
        async with asyncio.timeout(settings.command_timeout_seconds):
            while not await self._property(Property.CSTS) & _CSTS_READY:
                await asyncio.sleep(_READY_POLL_SECONDS)
        reply = await execute(commands.identify(Cns.CONTROLLER))
        events = IdentifyController.decode(reply.data).async_events
        bit = AEC_BIT[AsyncEvent.DISCOVERY_LOG_CHANGE]
        if events & bit:
            await execute(commands.set_features(Feature.ASYNC_EVENT_CONFIGURATION, bit))
            self.sends_events = True

    async def _property(self, name: Property) -> int:
        return (await self._queue.execute(commands.property_get(name))).completion.result

    async def keep_alive(self, interval_seconds: float) -> None:
        """Send Keep Alive until the session ends."""
        try:
            while True:
                await asyncio.sleep(interval_seconds)
                await self._queue.execute(commands.keep_alive())
        except (SessionError, CommandFailed) as error:
            self._queue.end(f"keep alive failed: {error}")

    async def listen(self, wake: asyncio.Event) -> None:
        """Set `wake` whenever the log changed (Base, figure "Notice", F0h), until the end."""
        request = commands.async_event_request()
        try:
            while True:
                reply = await self._queue.execute(request, timed=False)
                if reply.completion.result & 0xFFFFFF == AsyncEvent.DISCOVERY_LOG_CHANGE:
                    LOG.debug("%s announces a change of its log", self._endpoint)
                    wake.set()
        except (SessionError, CommandFailed) as error:
            self._queue.end(f"asynchronous event request failed: {error}")

    async def read_log(self) -> tuple[Record, ...]:
        """Read the discovery log page; parts that straddle a change are read again.

        Raises:
            SessionError: it does not hold still, takes too long, or is absurdly long.
        """
        try:
            async with asyncio.timeout(self._settings.log_timeout_seconds):
                return await self._read_log()
        except TimeoutError:
            raise SessionError("the discovery log was not read in time") from None

    async def _read_log(self) -> tuple[Record, ...]:
        for _ in range(_LOG_READ_ATTEMPTS):
            generation, count = DiscoveryLog.decode_header(await self._read(0, 1024))
            if count > _MAX_RECORDS:
                raise SessionError(f"a discovery log of {count} records is too long to be true")
            length = DiscoveryLog.HEADER_BYTES + count * DiscoveryEntry.SIZE
            parts = [
                await self._read(offset, min(_CHUNK_BYTES, length - offset))
                for offset in range(0, length, _CHUNK_BYTES)
            ]
            # The last read leaves the event unmasked again, so no change after it is missed.
            header = await self._read(0, 1024, retain_event=False)
            if DiscoveryLog.decode_header(header) == (generation, count):
                log = header + b"".join(parts)[DiscoveryLog.HEADER_BYTES :]
                return usable_records(DiscoveryLog.split(log))
        raise SessionError("the discovery log changes faster than it can be read")

    async def _read(self, offset: int, length: int, *, retain_event: bool = True) -> bytes:
        command = commands.get_log_page(
            LogPage.DISCOVERY, length=length, offset=offset, retain_event=retain_event, nsid=0
        )
        data = (await self._queue.execute(command)).data
        if len(data) != length:
            raise SessionError(f"{len(data)} of {length} bytes of the discovery log arrived")
        return data


@contextlib.asynccontextmanager
async def open_session(
    endpoint: Endpoint, settings: SessionSettings, wake: asyncio.Event
) -> AsyncIterator[DiscoverySession]:
    """A session with the discovery controller at `endpoint`, kept alive inside the block.

    `wake` is set when the log changed and when the session ended; read the log then.

    Raises:
        SessionError: it could not be made, or ended.
    """
    try:
        async with asyncio.timeout(settings.connect_timeout_seconds):
            reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
    except TimeoutError:
        raise SessionError("no TCP connection in time") from None
    except OSError as error:
        raise SessionError(error.strerror or str(error)) from None
    background: list[asyncio.Task[None]] = []
    try:
        async with AdminQueue(reader, writer, settings.command_timeout_seconds, wake) as queue:
            session = DiscoverySession(queue, endpoint, settings)
            await session.start()
            # Half the time-out, so that one late answer does not cost the session.
            interval = settings.keep_alive_timeout_seconds / 2
            background.append(asyncio.create_task(session.keep_alive(interval)))
            if session.sends_events:
                background.append(asyncio.create_task(session.listen(wake)))
            try:
                yield session
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
    except ProtocolError as error:
        raise SessionError(str(error)) from None
    except TimeoutError:
        raise SessionError("the controller did not become ready in time") from None


async def discover(endpoint: Endpoint, settings: SessionSettings) -> tuple[Record, ...]:
    """Read the log of the discovery controller at `endpoint` once. Raises SessionError."""
    async with open_session(endpoint, settings, asyncio.Event()) as session:
        return await session.read_log()


def usable_records(entries: Iterable[bytes]) -> tuple[Record, ...]:
    """The NVMe/TCP entries of a log whose strings are safe to hand to the kernel.

    One that is malformed is passed over: a service may list what is not the cluster's.
    """
    records: dict[Record, None] = {}
    skipped: list[str] = []
    for encoded in entries:
        try:
            entry = DiscoveryEntry.decode(encoded)
            if entry.transport_type == TransportType.TCP:
                records[_record(entry)] = None
        except (InvalidEntry, MalformedStructure) as error:
            skipped.append(str(error))
    if skipped:
        # One line for all: there may be thousands, each time that the log is read.
        LOG.warning("skipping %d discovery log entries, as the first: %s", len(skipped), skipped[0])
    return tuple(records)


def _record(entry: DiscoveryEntry) -> Record:
    service_id = entry.service_id.strip()
    if not service_id.isascii() or not service_id.isdigit():
        raise InvalidEntry(f"port {service_id!r} is not a number")
    kind = RecordKind.IO if entry.subsystem_type == SubsystemType.NVM else RecordKind.REFERRAL
    return Record(
        kind,
        Endpoint(validated_ip_address(entry.address.strip()), validated_port(int(service_id[:6]))),
        validated_nqn(entry.subsystem_nqn, "subsystem NQN"),
    )
