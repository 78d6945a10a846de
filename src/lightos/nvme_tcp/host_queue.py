# SPDX-License-Identifier: Apache-2.0
"""One NVMe queue as its host drives it, without a socket: command in, reply out.

A `Connection` moves PDUs; this pairs them. It hands out command ids, keeps the data of a
write until the controller asks for it, and gathers the data of a read:

    queue = HostQueue()
    socket.sendall(queue.initiate())                    # ICReq; then feed what arrives
    cid, data = queue.submit(commands.connect(queue_id=0, queue_size=32), connect_data(...))
    socket.sendall(data)
    for reply in queue.receive(socket.recv(65536)):     # also b"" for end of file
        reply.check("connect")                          # raises CommandFailed
    socket.sendall(queue.data_to_send())                # answers to R2T; often empty
"""

from __future__ import annotations

from typing import NamedTuple

from .commands import Command, Completion
from .connection import NEED_DATA, Connection, ConnectionClosed, Settings
from .constants import DYNAMIC_CONTROLLER_ID, SGL_IN_CAPSULE, Role, Status
from .errors import CommandFailed, LocalProtocolError, RemoteProtocolError
from .pdu import R2T, C2HData, CapsuleCmd, CapsuleResp, TermReq
from .state import State


class Reply(NamedTuple):
    """How one command ended. `data` is what it read."""

    cid: int
    completion: Completion
    data: bytes = b""

    def check(self, what: str) -> Reply:
        """This reply, if the command succeeded; else raises CommandFailed that names `what`."""
        completion = self.completion
        if completion.status:
            raise CommandFailed(
                completion.status,
                result=completion.result,
                do_not_retry=completion.do_not_retry,
                what=what,
            )
        return self


class _Pending:
    """A command that is not complete, with the data it sends or has read so far."""

    __slots__ = ("corrupt", "received", "sends")

    def __init__(self, sends: bytes) -> None:
        self.sends = sends
        self.received: list[bytes] = []
        self.corrupt = False


class HostQueue:
    """Host side of one queue over one connection; commands may be outstanding together."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.connection = Connection(Role.HOST, settings)
        self.closed_because = ""
        """Why the peer ended the connection, once it has."""
        self._pending: dict[int, _Pending] = {}
        self._next_cid = 0
        self._out: list[bytes] = []

    @property
    def ready(self) -> bool:
        """Whether ICResp arrived and commands may be submitted."""
        return self.connection.state is State.READY

    @property
    def closed(self) -> bool:
        """Whether the peer closed or terminated the connection."""
        return self.connection.state is State.CLOSED

    @property
    def outstanding(self) -> int:
        return len(self._pending)

    def initiate(self) -> bytes:
        """ICReq, the first bytes of the connection."""
        return self.connection.initiate()

    def submit(self, command: Command, data: bytes = b"") -> tuple[int, bytes]:
        """Give `command` an id; returns the id, and the bytes to write.

        `data` goes in the capsule if the command says so (`commands.in_capsule`), else when
        the controller asks for it.
        """
        if len(self._pending) >= DYNAMIC_CONTROLLER_ID:
            raise LocalProtocolError("every command id is in use")
        cid = self._next_cid
        while cid in self._pending:
            cid = (cid + 1) % DYNAMIC_CONTROLLER_ID
        self._next_cid = (cid + 1) % DYNAMIC_CONTROLLER_ID
        capsule = CapsuleCmd(
            command._replace(cid=cid), data if command.sgl_type == SGL_IN_CAPSULE else b""
        )
        written = self.connection.send(capsule)
        self._pending[cid] = _Pending(data)
        return cid, written

    def receive(self, data: bytes | bytearray | memoryview) -> list[Reply]:
        """Feed bytes (b"" for end of file); returns the commands that completed with them.

        Raises RemoteProtocolError if the controller breaks the protocol; `data_to_send`
        then holds the TermReq. Write `data_to_send()` after every call.
        """
        self.connection.receive_data(data)
        replies: list[Reply] = []
        while True:
            try:
                event = self.connection.next_event()
            except RemoteProtocolError as error:
                self.closed_because = str(error)
                self._out.append(self.connection.terminate(error))
                raise
            if event is NEED_DATA:
                return replies
            match event:
                case C2HData(cid=cid):
                    pending = self._pending[cid]
                    pending.received.append(event.data)
                    pending.corrupt |= event.corrupt
                    if event.success:
                        replies.append(self._finish(Completion(cid)))
                case CapsuleResp(completion):
                    replies.append(self._finish(completion))
                case R2T(cid=cid):
                    self._out.append(self.connection.answer(event, self._pending[cid].sends))
                case TermReq(fatal_error, field):
                    self.closed_because = (
                        f"the controller ended the connection: fatal error {fatal_error}, "
                        f"field {field:#x}"
                    )
                    return replies
                case ConnectionClosed():
                    self.closed_because = (
                        self.closed_because or "the controller closed the connection"
                    )
                    return replies

    def data_to_send(self) -> bytes:
        """Bytes that answer what was received (R2T, TermReq); empties them."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _finish(self, completion: Completion) -> Reply:
        pending = self._pending.pop(completion.cid)
        if pending.corrupt:
            completion = completion._replace(status=Status.TRANSIENT_TRANSPORT_ERROR)
        return Reply(completion.cid, completion, b"".join(pending.received))
