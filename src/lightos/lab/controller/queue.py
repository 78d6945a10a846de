# SPDX-License-Identifier: Apache-2.0
"""One TCP connection, which is one queue: bytes from the socket to commands and back.

Memory is bounded: data of a write goes to its sink as each PDU arrives, and while the host
does not take what it asked for, no further command is looked at and the socket is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import logging
import sys
import termios
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Protocol, cast

from lightos.lab.controller.base import Controller
from lightos.lab.controller.outcome import HELD, GatherSink, Outcome, Sink, Throttled
from lightos.lab.throttle import Lane
from lightos.nvme_tcp.commands import (
    CONNECT_DISABLE_SQ_FLOW,
    Command,
    Completion,
)
from lightos.nvme_tcp.connection import NEED_DATA, Connection, ConnectionClosed, Settings
from lightos.nvme_tcp.constants import (
    SGL_IN_CAPSULE,
    SGL_TRANSPORT,
    AdminOpcode,
    FabricsType,
    FatalError,
    Role,
    Status,
)
from lightos.nvme_tcp.errors import CommandFailed, RemoteProtocolError
from lightos.nvme_tcp.pdu import (
    R2T,
    C2HData,
    CapsuleCmd,
    CapsuleResp,
    H2CData,
    ICReq,
    Pdu,
    TermReq,
)
from lightos.nvme_tcp.structures import ConnectData

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 20
"""A connection that is not a queue by then is dropped."""
TERMINATED_SECONDS = 30
"""How long a terminated connection waits for its host to close it (Transport 3.5)."""
OUTPUT_HIGH_BYTES = 1 << 20
OUTPUT_BATCH_BYTES = 256 << 10
SETTINGS = Settings(header_digest=True, data_digest=True)


class Listener(Protocol):
    """Where a connection came in: what it needs of its port."""

    def opened(self, queue: Queue) -> bool:
        """A connection came; False refuses it."""

    def closed(self, queue: Queue) -> None: ...

    frozen: bool
    """Whether connections that come in are to `Queue.freeze` at once."""

    def connect(self, queue: Queue, command: Command, data: bytes) -> Controller:
        """The controller that Connect gives the queue; raises CommandFailed."""


class Queue(asyncio.Protocol):
    """An admin or I/O queue; until Connect it belongs to no controller."""

    def __init__(self, port: Listener) -> None:
        self._port = port
        self._connection = Connection(Role.CONTROLLER, SETTINGS)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self.host_address = ""
        self.queue_id = 0
        self.controller: Controller | None = None
        self._entries = 1
        self._head = 0
        self._flow_control = True
        self._outstanding: set[int] = set()
        self._receiving: dict[int, _Transfer] = {}
        self._tasks: dict[asyncio.Task[None], Command] = {}
        self._lanes: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._waiting: set[_Waiting] = set()
        self._admitted: deque[_Waiting] = deque()
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._paused = False
        self._terminated = False
        self._closing = False
        self._frozen = False
        self.late_since: int | None = None
        self._late_bytes = 0

    def __str__(self) -> str:
        if self.controller is None:
            return f"connection from {self.host_address}"
        return f"queue {self.queue_id} of {self.controller}"

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.host_address = transport.get_extra_info("peername")[0]
        if not self._port.opened(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=OUTPUT_HIGH_BYTES)
        self._arm(CONNECT_SECONDS)
        if self._port.frozen:
            self.freeze()

    def data_received(self, data: bytes) -> None:
        self._connection.receive_data(data)
        self._late_bytes -= len(data)
        self._run()

    def eof_received(self) -> bool:
        self._connection.receive_data(b"")
        self._run()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            logger.info("%s was lost: %s", self, exc)
        self._terminated = True
        self._disarm()
        for task in self._tasks:
            task.cancel()
        for lane in self._lanes:
            lane.leave(self)
        self._receiving.clear()
        self._waiting.clear()
        self._port.closed(self)
        if self.controller is not None:
            self.controller.queue_closed(self)

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if not self._frozen:
            self._transport.resume_reading()
        # Not now: asyncio may be about to end this connection, whose last output has gone.
        asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if not self._terminated:
            self._run()

    # ---- what its port calls

    def freeze(self) -> None:
        """Read nothing and write nothing, as a process that is stopped; the kernel acknowledges."""
        self._frozen = True
        self._transport.pause_reading()
        if self.controller is None:
            self._disarm()
        elif self.late_since is None:
            self.late_since = self.controller.moment()

    def thaw(self) -> None:
        """Go on. What came in meanwhile counts as of the moment of `freeze`."""
        self._frozen = False
        self._late_bytes = _unread_bytes(self._transport)
        if self.controller is None:
            self._arm(CONNECT_SECONDS)
        if not self._paused:
            self._transport.resume_reading()
        self._run()

    # ---- what controllers call (CommandQueue)

    def abort(self) -> None:
        self._terminated = True
        self._transport.abort()

    def leave(self) -> asyncio.Transport:
        """End as if the host were gone, and leave the transport open, for nobody."""
        self.connection_lost(None)
        return self._transport

    def close_after_responses(self) -> None:
        self._closing = True

    def complete_held(self, completion: Completion) -> None:
        if not self._terminated and completion.cid in self._outstanding:
            self._complete(completion)
            self._write()

    def drop(self, cid: int) -> None:
        self._outstanding.discard(cid)
        self._connection.forget(cid)

    def fail(self, concerns: Callable[[Command], bool], failed: CommandFailed) -> None:
        if self._terminated:
            return
        for transfer in self._receiving.values():
            # The host sends the rest of the data whatever we say; the command ends after it.
            if concerns(transfer.command):
                transfer.failed = transfer.failed or failed
        ended = []
        for task, command in self._tasks.items():
            if concerns(command) and not task.done():
                task.cancel()
                ended.append(command)
        for waiting in [each for each in self._waiting if concerns(each.command)]:
            waiting.throttled.lane.leave(self)  # with all that wait for the same volume
            self._waiting.discard(waiting)
            ended.append(waiting.command)
        for command in ended:
            self._fail(command.cid, failed)
        self._write()

    def awaits(self, command: Command) -> bool:
        # By identity: a host uses the command id of one that ended again.
        return not self._terminated and any(
            each is command and not task.cancelling() for task, each in self._tasks.items()
        )

    # ---- bytes to commands

    def _run(self) -> None:
        connection = self._connection
        try:
            while not (self._frozen or self._paused or self._terminated or self._closing):
                if self._admitted:
                    self._run_admitted(self._admitted.popleft())
                elif (event := connection.next_event()) is NEED_DATA:
                    if self._late_bytes <= 0:
                        self.late_since = None
                    break
                elif isinstance(event, CapsuleCmd):
                    self._command(event)
                elif isinstance(event, H2CData):
                    self._data(event)
                else:
                    self._control(event)
                if self._output_bytes >= OUTPUT_BATCH_BYTES:
                    self._write()
        except RemoteProtocolError as error:
            self._terminate(error)
        self._write()

    def _control(self, event: Pdu | ConnectionClosed) -> None:
        match event:
            case ICReq():
                self._put(self._connection.accept())
            case TermReq(fatal_error, field):
                logger.warning("%s: host ended it: error %d, field %d", self, fatal_error, field)
                self._closing = True
            case ConnectionClosed():
                self._closing = True

    def _command(self, capsule: CapsuleCmd) -> None:
        command = capsule.command
        self._head = (self._head + 1) % self._entries
        cid = command.cid
        try:
            if cid in self._outstanding:
                # The response of the first command must stay the only one that ends it.
                self._respond(Completion(cid, Status.COMMAND_ID_CONFLICT, do_not_retry=True))
                return
            if len(self._outstanding) >= self._entries:
                raise RemoteProtocolError(
                    f"{self}: more than {self._entries} commands outstanding",
                    FatalError.PDU_SEQUENCE_ERROR,
                )
            self._outstanding.add(cid)
            if capsule.corrupt:
                raise CommandFailed(Status.TRANSIENT_TRANSPORT_ERROR, do_not_retry=False)
            _check_data_pointer(command, capsule.data)
            self._settle(command, self._execute(command), capsule.data)
        except CommandFailed as failed:
            self._fail(cid, failed)

    def _execute(self, command: Command) -> Outcome:
        if self.controller is not None:
            return self.controller.execute(self, command)
        if command.opcode != AdminOpcode.FABRICS or command.fabrics_type != FabricsType.CONNECT:
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        return GatherSink(command, ConnectData.SIZE, lambda data: self._connect(command, data))

    def _connect(self, command: Command, data: bytes) -> int:
        controller = self._port.connect(self, command, data)
        self._disarm()
        self.controller = controller
        self.queue_id = command.cdw10 >> 16
        self._entries = (command.cdw11 & 0xFFFF) + 1
        self._head = 1
        self._flow_control = not command.cdw11 >> 16 & CONNECT_DISABLE_SQ_FLOW
        logger.info("%s connected from %s", self, self.host_address)
        return controller.controller_id

    def _settle(self, command: Command, outcome: Outcome, in_capsule: bytes) -> None:
        cid = command.cid
        if isinstance(outcome, bytes):
            self._return(command, outcome)
        elif isinstance(outcome, int):
            self._complete(Completion(cid, 0, outcome))
        elif isinstance(outcome, Coroutine):
            task = asyncio.get_running_loop().create_task(self._later(cid, outcome))
            self._tasks[task] = command
            task.add_done_callback(self._task_done)
            # One that is cancelled before it began never comes to await its work.
            task.add_done_callback(lambda _: outcome.close())
        elif isinstance(outcome, Throttled):
            self._lanes.add(outcome.lane)
            waiting = _Waiting(command, outcome, in_capsule)
            self._waiting.add(waiting)
            admit = functools.partial(self._admit, waiting)
            outcome.lane.wait(self, outcome.length_bytes, admit)
        elif outcome is not HELD:
            self._receive(command, outcome, in_capsule)

    def _admit(self, waiting: _Waiting) -> None:
        """It is the turn of a command, which runs as soon as the host takes its output."""
        self._admitted.append(waiting)
        self._run()

    def _run_admitted(self, waiting: _Waiting) -> None:
        if waiting not in self._waiting:
            return  # it was ended while it waited
        self._waiting.discard(waiting)
        try:
            self._settle(waiting.command, waiting.throttled.run(), waiting.in_capsule)
        except CommandFailed as failed:
            self._fail(waiting.command.cid, failed)

    def _receive(self, command: Command, sink: Sink, in_capsule: bytes) -> None:
        if not command.sends_data:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        if command.sgl_type == SGL_IN_CAPSULE:
            start = command.sgl_address
            sink.write(in_capsule[start : start + command.data_length])
            self._settle(command, sink.finish(), b"")
            return
        self._receiving[command.cid] = _Transfer(command, sink)
        self._put(self._connection.send(R2T(command.cid, command.cid, 0, command.data_length)))

    def _data(self, event: H2CData) -> None:
        transfer = self._receiving[event.cid]
        try:
            if event.corrupt:
                raise CommandFailed(Status.TRANSIENT_TRANSPORT_ERROR, do_not_retry=False)
            if transfer.failed is None:
                transfer.sink.write(event.data)
        except CommandFailed as failed:
            transfer.failed = transfer.failed or failed
        if not event.last:
            return
        del self._receiving[event.cid]
        if transfer.failed is not None:
            self._fail(event.cid, transfer.failed)
            return
        try:
            self._settle(transfer.command, transfer.sink.finish(), b"")
        except CommandFailed as failed:
            self._fail(event.cid, failed)

    async def _later(self, cid: int, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except CommandFailed as failed:
            completion = _failure(cid, failed)
        else:
            completion = Completion(cid)
        self.complete_held(completion)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and task.exception() is not None:
            # A command that can no longer complete takes its connection along.
            logger.error("%s failed", self, exc_info=task.exception())
            self.abort()

    # ---- outcomes to bytes

    def _return(self, command: Command, data: bytes) -> None:
        if len(data) > command.data_length:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        cid = command.cid
        if self._flow_control:
            self._put(self._connection.send(C2HData(cid, 0, data)))
            self._complete(Completion(cid))
        else:
            # Transport 3.3.2.2: no response is owed when the host needs no SQHD.
            self._outstanding.discard(cid)
            self._put(self._connection.send(C2HData(cid, 0, data, success=True)))

    def _fail(self, cid: int, failed: CommandFailed) -> None:
        self._complete(_failure(cid, failed))

    def _complete(self, completion: Completion) -> None:
        self._outstanding.discard(completion.cid)
        self._respond(completion)

    def _respond(self, completion: Completion) -> None:
        completion = completion._replace(
            sq_head=self._head if self._flow_control else 0xFFFF, sq_id=self.queue_id
        )
        self._put(self._connection.send(CapsuleResp(completion)))

    def _put(self, data: bytes) -> None:
        self._output.append(data)
        self._output_bytes += len(data)

    def _write(self) -> None:
        if self._frozen:
            return
        if self._output:
            output = self._output
            self._output = []
            self._output_bytes = 0
            self._transport.write(b"".join(output))
        if self._closing and not self._terminated:
            self._terminated = True
            self._transport.close()

    def _terminate(self, error: RemoteProtocolError) -> None:
        """Tell the host why, half close, and wait for it to close (Transport 3.5)."""
        logger.warning("%s: %s", self, error)
        self._put(self._connection.terminate(error))
        self._write()
        self._terminated = True
        with contextlib.suppress(OSError):  # the host has reset the connection already
            self._transport.write_eof()
        self._arm(TERMINATED_SECONDS)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Waiting:
    """A command whose turn has not come, and what came with it."""

    __slots__ = ("command", "in_capsule", "throttled")

    def __init__(self, command: Command, throttled: Throttled, in_capsule: bytes) -> None:
        self.command = command
        self.throttled = throttled
        self.in_capsule = in_capsule


class _Transfer:
    """A command whose data was asked for and is arriving."""

    __slots__ = ("command", "failed", "sink")

    def __init__(self, command: Command, sink: Sink) -> None:
        self.command = command
        self.sink = sink
        self.failed: CommandFailed | None = None


def _failure(cid: int, failed: CommandFailed) -> Completion:
    return Completion(cid, failed.status, failed.result, do_not_retry=failed.do_not_retry)


def _unread_bytes(transport: asyncio.Transport) -> int:
    """How much has come in that nobody has read (tcp(7), SIOCINQ)."""
    unread = fcntl.ioctl(transport.get_extra_info("socket"), termios.FIONREAD, bytes(4))
    return int.from_bytes(unread, sys.byteorder)


def _check_data_pointer(command: Command, in_capsule: bytes) -> None:
    """Fused operations and PRPs are not for fabrics; the SGL must say where the data is."""
    if command.flags & 0x03 or command.flags >> 6 not in (1, 2):
        raise CommandFailed(Status.INVALID_FIELD)
    if not command.data_length or command.sgl_type == SGL_TRANSPORT:
        return
    if command.sgl_type != SGL_IN_CAPSULE or not command.sends_data:
        raise CommandFailed(Status.SGL_DESCRIPTOR_TYPE_INVALID)
    if command.sgl_address + command.data_length > len(in_capsule):
        raise CommandFailed(Status.SGL_OFFSET_INVALID)
