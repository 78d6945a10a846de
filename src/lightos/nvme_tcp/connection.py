# SPDX-License-Identifier: Apache-2.0
"""One NVMe/TCP connection as a state machine: bytes in, PDUs out, and the other way round.

There is no socket here. Feed what arrived to `receive_data`, call `next_event` until it
says `NEED_DATA`, and write whatever `send` returns. The role is an argument: every rule is
checked by the same code for what we send and for what the peer sends; only the exception
differs (LocalProtocolError, RemoteProtocolError). How much data a PDU may carry is checked
apart: of what arrives, before any of it is buffered.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from . import pdu as wire
from .commands import Command
from .constants import ADMIN_IN_CAPSULE_BYTES, FatalError, PduType, Role
from .digest import DIGEST_BYTES, digest
from .errors import LocalProtocolError, RemoteProtocolError
from .pdu import (
    PLAIN,
    R2T,
    C2HData,
    CapsuleCmd,
    CapsuleResp,
    Framing,
    H2CData,
    ICReq,
    ICResp,
    Pdu,
    Prefix,
    TermReq,
)
from .receive_buffer import ReceiveBuffer
from .state import COMMAND, CONNECTION, CommandState, State, Step


class NeedData(enum.Enum):
    NEED_DATA = enum.auto()


NEED_DATA: Final = NeedData.NEED_DATA


class ConnectionClosed(NamedTuple):
    """The peer closed the TCP connection; `unfinished_bytes` of a PDU were left."""

    unfinished_bytes: int = 0


@dataclass(frozen=True)
class Settings:
    """What this end asks for (host) or grants (controller) when the connection starts.

    A digest is used only if both ends have it here. `alignment_bytes` (a multiple of 4, at
    most 128) is the data alignment that this end wants in the PDUs it receives.
    """

    header_digest: bool = False
    data_digest: bool = False
    alignment_bytes: int = 4
    max_r2t: int = 1
    """Host: R2Ts that one command may have outstanding."""
    max_h2c_data: int = 131072
    """Controller: most bytes in one H2CData PDU; at least 4096 and a multiple of 4."""
    in_capsule_bytes: int = ADMIN_IN_CAPSULE_BYTES
    """Controller: most in-capsule data; 8192 at least, which admin queues always take."""
    max_c2h_data: int = 1 << 24
    """Host: most bytes it accepts in one C2HData PDU."""

    def __post_init__(self) -> None:
        if self.alignment_bytes % 4 or not 4 <= self.alignment_bytes <= wire.MAX_ALIGNMENT_BYTES:
            raise ValueError(f"alignment of {self.alignment_bytes} bytes: not 4, 8, ... 128")
        if self.max_h2c_data % 4 or self.max_h2c_data < 4096:
            raise ValueError(f"max_h2c_data {self.max_h2c_data}: under 4096 or not dwords")
        if self.in_capsule_bytes < ADMIN_IN_CAPSULE_BYTES:
            raise ValueError(f"in_capsule_bytes {self.in_capsule_bytes} is under 8192")


_KINDS: dict[type[Pdu], frozenset[PduType]] = {
    ICReq: frozenset({PduType.IC_REQ}),
    ICResp: frozenset({PduType.IC_RESP}),
    CapsuleCmd: frozenset({PduType.CAPSULE_CMD}),
    CapsuleResp: frozenset({PduType.CAPSULE_RESP}),
    H2CData: frozenset({PduType.H2C_DATA}),
    C2HData: frozenset({PduType.C2H_DATA}),
    R2T: frozenset({PduType.R2T}),
    TermReq: frozenset({PduType.H2C_TERM_REQ, PduType.C2H_TERM_REQ}),
}
_ALLOWED = {
    state: frozenset[PduType]().union(*(_KINDS[pdu_class] for pdu_class in row))
    for state, row in CONNECTION.items()
}


class _Violation(Exception):
    """A rule broken by either end; becomes a Local or a RemoteProtocolError."""

    def __init__(
        self,
        message: str,
        field: int = 0,
        fatal_error: FatalError = FatalError.INVALID_PDU_HEADER_FIELD,
    ) -> None:
        super().__init__(message)
        self.fatal_error = fatal_error
        self.field = field


class _Solicitation:
    """An R2T that is not answered in full."""

    __slots__ = ("cid", "end", "next")

    def __init__(self, cid: int, offset: int, end: int) -> None:
        self.cid = cid
        self.next = offset
        self.end = end


class _Exchange:
    """A command between its capsule and its completion."""

    __slots__ = ("command", "open_r2t", "repeats", "returned", "state")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.state = CommandState.ACCEPTED
        self.open_r2t = 0
        self.returned = 0
        self.repeats = 0
        """Capsules that reused this command's id while it was in use."""

    def step(self, step: Step) -> None:
        following = COMMAND[self.state].get(step)
        if following is None:
            raise _Violation(
                f"command {self.command.cid:#06x} is {self.state.name.lower()}: "
                f"{step.name.lower().replace('_', ' ')} is out of turn",
                fatal_error=FatalError.PDU_SEQUENCE_ERROR,
            )
        self.state = following


class Connection:
    """One end of one NVMe/TCP connection."""

    def __init__(self, role: Role, settings: Settings | None = None) -> None:
        self.role = role
        self.peer_role = Role.CONTROLLER if role is Role.HOST else Role.HOST
        self.settings = settings or Settings()
        self.state = State.NEW
        self.request: ICReq | None = None
        """The ICReq that crossed, and the ICResp; they hold what was negotiated."""
        self.response: ICResp | None = None
        self._sending = PLAIN
        self._receiving = PLAIN
        self._buffer = ReceiveBuffer()
        self._prefix: Prefix | None = None
        self._header = b""
        """Of the PDU that is arriving, or came last."""
        self._end_of_file = False
        self._exchanges: dict[int, _Exchange] = {}
        self._solicitations: dict[int, _Solicitation] = {}
        self._max_h2c_data = self.settings.max_h2c_data
        self._max_received_data = {
            PduType.C2H_DATA: self.settings.max_c2h_data,
            PduType.H2C_DATA: self.settings.max_h2c_data,
            PduType.CAPSULE_CMD: self.settings.in_capsule_bytes,
        }

    # ---- bytes out

    def initiate(self) -> bytes:
        """Host: the ICReq that opens the connection."""
        wanted = self.settings
        return self.send(
            ICReq(wanted.header_digest, wanted.data_digest, wanted.alignment_bytes, wanted.max_r2t)
        )

    def accept(self) -> bytes:
        """Controller: the ICResp to the ICReq that arrived."""
        if self.request is None:
            raise LocalProtocolError("no ICReq arrived yet")
        granted = self.settings
        return self.send(
            ICResp(
                granted.header_digest and self.request.header_digest,
                granted.data_digest and self.request.data_digest,
                granted.alignment_bytes,
                granted.max_h2c_data,
            )
        )

    def send(self, pdu: Pdu) -> bytes:
        """Bytes of `pdu`; raises LocalProtocolError if it may not be sent now."""
        framing = self._sending
        if isinstance(pdu, CapsuleCmd) and pdu.command.cid in self._exchanges:
            raise LocalProtocolError(f"command id {pdu.command.cid:#06x} is in use")
        try:
            self._check_sender(pdu)
            self._process(pdu)
        except _Violation as violation:
            raise LocalProtocolError(str(violation)) from None
        return wire.encode(pdu, self.role, framing)

    def answer(self, request: R2T, data: bytes) -> bytes:
        """Host: all H2CData PDUs that `request` asks for, out of the command's whole `data`."""
        end = request.offset + request.length
        parts = []
        for start in range(request.offset, end, self._max_h2c_data):
            stop = min(start + self._max_h2c_data, end)
            chunk = H2CData(request.cid, request.tag, start, data[start:stop], stop == end)
            parts.append(self.send(chunk))
        return b"".join(parts)

    def terminate(self, error: RemoteProtocolError) -> bytes:
        """The TermReq that `error` owes the peer; b"" if the connection is closed already.

        An error that the caller found itself quotes the PDU that came last.
        """
        if self.state is State.CLOSED:
            return b""
        quoted = wire.quote(error.pdu_header or self._header)
        return self.send(TermReq(error.fatal_error, error.field_offset, quoted))

    def forget(self, cid: int) -> None:
        """Controller: a reset ended this command without a response, and its id is free again."""
        self._exchanges.pop(cid, None)

    def _check_sender(self, pdu: Pdu) -> None:
        if isinstance(pdu, TermReq):
            return
        is_hosts = isinstance(pdu, ICReq | CapsuleCmd | H2CData)
        if is_hosts is not (self.role is Role.HOST):
            raise _Violation(f"a {self.role.value} does not send {type(pdu).__name__}")
        if isinstance(pdu, H2CData) and len(pdu.data) > self._max_h2c_data:
            raise _Violation(
                f"H2CData of {len(pdu.data)} bytes, MAXH2CDATA is {self._max_h2c_data}"
            )

    # ---- bytes in

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Add what arrived; an empty `data` means that the peer closed its side."""
        if not data:
            self._end_of_file = True
        elif self.state is not State.CLOSED:
            self._buffer.append(data)

    def next_event(self) -> Pdu | ConnectionClosed | NeedData:
        """The next whole PDU, or NEED_DATA, or ConnectionClosed after the last one.

        Raises RemoteProtocolError for bytes that end the connection: send what `terminate`
        makes of it, and drop whatever still arrives.
        """
        try:
            pdu = self._next_pdu()
        except _Violation as violation:
            raise self._remote_error(
                RemoteProtocolError(
                    str(violation), violation.fatal_error, field_offset=violation.field
                )
            ) from None
        except RemoteProtocolError as error:
            raise self._remote_error(error) from None
        if pdu is None:
            if self._end_of_file:
                self.state = State.CLOSED
                return ConnectionClosed(
                    len(self._buffer) + (len(self._header) if self._prefix else 0)
                )
            return NEED_DATA
        return pdu

    def _remote_error(self, error: RemoteProtocolError) -> RemoteProtocolError:
        error.pdu_header = self._header or self._buffer.peek_header()
        self._buffer.clear()
        self._header = b""
        self._prefix = None
        return error

    def _next_pdu(self) -> Pdu | None:
        prefix = self._prefix
        if prefix is None:
            prefix = self._next_prefix()
            if prefix is None:
                return None
        buffer = self._buffer
        data = b""
        corrupt = False
        if prefix.data_bytes:
            padding = prefix.data_offset - prefix.header_bytes
            trailer = DIGEST_BYTES if prefix.data_digest else 0
            if len(buffer) < padding + prefix.data_bytes + trailer:
                return None
            if padding:
                buffer.skip(padding)
            data = buffer.take(prefix.data_bytes)
            if trailer:
                corrupt = buffer.take(trailer) != digest(data)
        pdu = wire.decode(prefix, self._header, data, corrupt)
        self._process(pdu)
        self._prefix = None
        return pdu

    def _next_prefix(self) -> Prefix | None:
        """Take a header off the buffer once it is whole and its digest is right."""
        buffer = self._buffer
        if len(buffer) < wire.COMMON_HEADER_BYTES or self.state is State.CLOSED:
            return None
        self._header = b""
        raw = buffer.peek(wire.COMMON_HEADER_BYTES)
        prefix = wire.parse_prefix(
            raw, self.peer_role, _ALLOWED[self.state], self._receiving, self._max_received_data
        )
        if len(buffer) < prefix.header_bytes:
            return None
        header = buffer.take(prefix.header_bytes)
        self._header = header
        if prefix.header_digest and header[-DIGEST_BYTES:] != digest(header[:-DIGEST_BYTES]):
            raise _Violation(
                f"header digest of {prefix.kind.name} does not match",
                wire.header_digest_received(header),
                FatalError.HEADER_DIGEST_ERROR,
            )
        self._prefix = prefix
        return prefix

    # ---- the rules, the same for both directions

    def _process(self, pdu: Pdu) -> None:
        following = CONNECTION[self.state].get(type(pdu))
        if following is None:
            raise _Violation(
                f"{type(pdu).__name__} in state {self.state.name}",
                fatal_error=FatalError.PDU_SEQUENCE_ERROR,
            )
        match pdu:
            case CapsuleCmd():
                self._command(pdu)
            case CapsuleResp():
                self._completion(pdu)
            case C2HData():
                self._data_in(pdu)
            case H2CData():
                self._data_out(pdu)
            case R2T():
                self._solicit(pdu)
            case ICReq():
                self.request = pdu
            case ICResp():
                self._negotiated(pdu)
            case TermReq():
                self._buffer.clear()
        self.state = following

    def _negotiated(self, response: ICResp) -> None:
        request = self.request
        if request is None:
            raise _Violation("ICResp without ICReq", fatal_error=FatalError.PDU_SEQUENCE_ERROR)
        if response.header_digest > request.header_digest or (
            response.data_digest > request.data_digest
        ):
            raise _Violation("ICResp enables a digest that ICReq did not ask for", wire.DIGESTS)
        self.response = response
        digests = response.header_digest, response.data_digest
        to_controller = Framing(*digests, response.alignment_bytes)
        to_host = Framing(*digests, request.alignment_bytes)
        host = self.role is Role.HOST
        self._sending, self._receiving = (
            (to_controller, to_host) if host else (to_host, to_controller)
        )
        self._max_h2c_data = response.max_h2c_data

    def _command(self, pdu: CapsuleCmd) -> None:
        cid = pdu.command.cid
        exchange = self._exchanges.get(cid)
        if exchange is None:
            self._exchanges[cid] = _Exchange(pdu.command)
        else:
            # Not fatal: the controller completes it with Command ID Conflict.
            exchange.repeats += 1

    def _exchange(self, cid: int, field: int) -> _Exchange:
        exchange = self._exchanges.get(cid)
        if exchange is None:
            raise _Violation(f"no command {cid:#06x} is outstanding", field)
        return exchange

    def _completion(self, pdu: CapsuleResp) -> None:
        cid = pdu.completion.cid
        exchange = self._exchange(cid, wire.COMPLETION_CID)
        if exchange.repeats:
            exchange.repeats -= 1
            return
        exchange.step(Step.RESPOND)
        del self._exchanges[cid]

    def _data_in(self, pdu: C2HData) -> None:
        exchange = self._exchange(pdu.cid, wire.TRANSFER_CID)
        if exchange.command.transfer_bits != 2:
            raise _Violation(
                f"command {pdu.cid:#06x} reads nothing",
                fatal_error=FatalError.PDU_SEQUENCE_ERROR,
            )
        if pdu.offset != exchange.returned:
            raise _Violation(
                f"C2HData at {pdu.offset}, expected at {exchange.returned}",
                fatal_error=FatalError.DATA_TRANSFER_OUT_OF_RANGE,
            )
        end = pdu.offset + len(pdu.data)
        if end > exchange.command.data_length:
            raise _Violation(
                f"C2HData up to {end}, the command has {exchange.command.data_length}",
                fatal_error=FatalError.DATA_TRANSFER_OUT_OF_RANGE,
            )
        if pdu.success and not pdu.last:
            raise _Violation("C2HData with SUCCESS but without LAST_PDU", wire.FLAGS)
        if pdu.success:
            step = Step.DATA_IN_SUCCESS
        else:
            step = Step.DATA_IN_LAST if pdu.last else Step.DATA_IN
        exchange.step(step)
        exchange.returned = end
        if pdu.success:
            del self._exchanges[pdu.cid]

    def _solicit(self, pdu: R2T) -> None:
        exchange = self._exchange(pdu.cid, wire.TRANSFER_CID)
        if not exchange.command.sends_data:
            raise _Violation(
                f"command {pdu.cid:#06x} sends no data",
                fatal_error=FatalError.PDU_SEQUENCE_ERROR,
            )
        if not pdu.length:
            raise _Violation("R2T for no data", wire.TRANSFER_LENGTH)
        end = pdu.offset + pdu.length
        if end > exchange.command.data_length:
            raise _Violation(
                f"R2T up to {end}, the command has {exchange.command.data_length}",
                fatal_error=FatalError.DATA_TRANSFER_OUT_OF_RANGE,
            )
        if self.request is not None and exchange.open_r2t >= self.request.max_r2t:
            raise _Violation(
                f"command {pdu.cid:#06x} has {exchange.open_r2t} R2Ts outstanding already",
                fatal_error=FatalError.TRANSFER_LIMIT_EXCEEDED,
            )
        if pdu.tag in self._solicitations:
            raise _Violation(f"transfer tag {pdu.tag:#06x} is in use", wire.TRANSFER_TAG)
        exchange.step(Step.SOLICIT)
        exchange.open_r2t += 1
        self._solicitations[pdu.tag] = _Solicitation(pdu.cid, pdu.offset, end)

    def _data_out(self, pdu: H2CData) -> None:
        solicitation = self._solicitations.get(pdu.tag)
        if solicitation is None:
            raise _Violation(f"no R2T has transfer tag {pdu.tag:#06x}", wire.TRANSFER_TAG)
        if solicitation.cid != pdu.cid:
            raise _Violation(
                f"transfer tag {pdu.tag:#06x} is of command {solicitation.cid:#06x}",
                wire.TRANSFER_CID,
            )
        end = pdu.offset + len(pdu.data)
        if pdu.offset != solicitation.next or end > solicitation.end:
            raise _Violation(
                f"H2CData for {pdu.offset} to {end}, "
                f"expected {solicitation.next} to {solicitation.end} at most",
                fatal_error=FatalError.DATA_TRANSFER_OUT_OF_RANGE,
            )
        if pdu.last is not (end == solicitation.end):
            raise _Violation("LAST_PDU is not on the last H2CData of the R2T", wire.FLAGS)
        solicitation.next = end
        exchange = self._exchanges[pdu.cid]
        if not pdu.last:
            exchange.step(Step.DATA_OUT)
            return
        del self._solicitations[pdu.tag]
        exchange.open_r2t -= 1
        exchange.step(Step.DATA_OUT if exchange.open_r2t else Step.DATA_OUT_END)
