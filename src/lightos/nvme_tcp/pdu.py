# SPDX-License-Identifier: Apache-2.0
"""The nine PDUs of NVMe/TCP: their fields, and their bytes (Transport 3.6).

A PDU is a tuple that knows nothing of connections. `encode` adds what the connection
negotiated (digests, alignment); `parse_prefix` checks the header of an arriving PDU before
one byte of its data is waited for, and `decode` makes the tuple from the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping
from typing import NamedTuple

from .commands import Command, Completion
from .constants import COMMAND_BYTES, FatalError, PduType, Role
from .digest import DIGEST_BYTES, digest
from .errors import RemoteProtocolError

FLAG_HEADER_DIGEST = 0x01
FLAG_DATA_DIGEST = 0x02
FLAG_LAST = 0x04
FLAG_SUCCESS = 0x08

COMMON_HEADER_BYTES = 8
TERM_REQ_MAX_BYTES = 152
"""24 bytes of header and at most 128 of the PDU in error (Transport, "H2CTermReq PDU")."""
MAX_ALIGNMENT_BYTES = 128
"""HPDA and CPDA are 0 to 31, in dwords and 0's based."""

_COMMON = struct.Struct("<BBBBI")
_INITIALIZE = struct.Struct("<HBBI112x")
_TERMINATE = struct.Struct("<HI10x")
_TRANSFER = struct.Struct("<HHII4x")
_DWORD = struct.Struct("<I")

# Byte offsets of header fields, for FEI.
TYPE, FLAGS, HLEN, PDO, PLEN = 0, 1, 2, 3, 4
PFV, ALIGNMENT, DIGESTS, LIMIT = 8, 10, 11, 12
TRANSFER_CID, TRANSFER_TAG, TRANSFER_OFFSET, TRANSFER_LENGTH = 8, 10, 12, 16
COMPLETION_CID = 20


class ICReq(NamedTuple):
    """Initialize Connection Request. `alignment_bytes` is HPDA, for data sent to the host."""

    header_digest: bool = False
    data_digest: bool = False
    alignment_bytes: int = 4
    max_r2t: int = 1
    """R2Ts that one command may have outstanding (0's based on the wire)."""
    pdu_format: int = 0


class ICResp(NamedTuple):
    """Initialize Connection Response. `alignment_bytes` is CPDA, for data to the controller."""

    header_digest: bool = False
    data_digest: bool = False
    alignment_bytes: int = 4
    max_h2c_data: int = 131072
    """Most bytes that one H2CData PDU may carry."""
    pdu_format: int = 0


class TermReq(NamedTuple):
    """H2CTermReq or C2HTermReq, by the role that sends it. `pdu` quotes the PDU in error."""

    fatal_error: int
    field: int = 0
    pdu: bytes = b""


class CapsuleCmd(NamedTuple):
    """A command, with its data if that goes in the capsule.

    `corrupt`, here and in the data PDUs, says that DDGST did not match: the data must not
    be used, and the command fails with Transient Transport Error; the connection goes on
    (Transport 3.3.1.1).
    """

    command: Command
    data: bytes = b""
    corrupt: bool = False


class CapsuleResp(NamedTuple):
    completion: Completion


class H2CData(NamedTuple):
    """Data that an R2T asked for; `last` on the final PDU for that R2T."""

    cid: int
    tag: int
    offset: int
    data: bytes
    last: bool = True
    corrupt: bool = False


class C2HData(NamedTuple):
    """Data of a read. `success` (with `last`) completes the command without a response."""

    cid: int
    offset: int
    data: bytes
    last: bool = True
    success: bool = False
    corrupt: bool = False


class R2T(NamedTuple):
    """Ready to transfer: the controller asks for `length` bytes from `offset`."""

    cid: int
    tag: int
    offset: int
    length: int


Pdu = ICReq | ICResp | TermReq | CapsuleCmd | CapsuleResp | H2CData | C2HData | R2T


class Framing(NamedTuple):
    """What both ends agreed on: digests, and the data alignment of one direction."""

    header_digest: bool = False
    data_digest: bool = False
    alignment_bytes: int = 4


PLAIN = Framing()
"""For the PDUs that never carry digests: ICReq, ICResp and both TermReqs."""


class Layout(NamedTuple):
    """Fixed facts of a PDU type: who sends it, its HLEN, whether data may follow."""

    sender: Role
    header_bytes: int
    has_data: bool = False
    has_digests: bool = True


LAYOUTS = {
    PduType.IC_REQ: Layout(Role.HOST, 128, has_digests=False),
    PduType.IC_RESP: Layout(Role.CONTROLLER, 128, has_digests=False),
    PduType.H2C_TERM_REQ: Layout(Role.HOST, 24, has_data=True, has_digests=False),
    PduType.C2H_TERM_REQ: Layout(Role.CONTROLLER, 24, has_data=True, has_digests=False),
    PduType.CAPSULE_CMD: Layout(Role.HOST, 8 + COMMAND_BYTES, has_data=True),
    PduType.CAPSULE_RESP: Layout(Role.CONTROLLER, 24),
    PduType.H2C_DATA: Layout(Role.HOST, 24, has_data=True),
    PduType.C2H_DATA: Layout(Role.CONTROLLER, 24, has_data=True),
    PduType.R2T: Layout(Role.CONTROLLER, 24),
}


# ---- bytes out


def encode(pdu: Pdu, sender: Role, framing: Framing) -> bytes:  # noqa: PLR0911 one per PDU
    """The bytes of `pdu` as `sender` puts them on the wire."""
    match pdu:
        case C2HData(cid, offset, data, last, success):
            flags = (FLAG_LAST if last else 0) | (FLAG_SUCCESS if success else 0)
            body = _TRANSFER.pack(cid, 0, offset, len(data))
            return _frame(PduType.C2H_DATA, flags, body, data, framing)
        case CapsuleResp(completion):
            return _frame(PduType.CAPSULE_RESP, 0, completion.encode(), b"", framing)
        case R2T(cid, tag, offset, length):
            body = _TRANSFER.pack(cid, tag, offset, length)
            return _frame(PduType.R2T, 0, body, b"", framing)
        case CapsuleCmd(command, data):
            return _frame(PduType.CAPSULE_CMD, 0, command.encode(), data, framing)
        case H2CData(cid, tag, offset, data, last):
            flags = FLAG_LAST if last else 0
            body = _TRANSFER.pack(cid, tag, offset, len(data))
            return _frame(PduType.H2C_DATA, flags, body, data, framing)
        case ICReq():
            body = _initialize(pdu, pdu.max_r2t - 1)
            return _frame(PduType.IC_REQ, 0, body, b"", PLAIN)
        case ICResp():
            body = _initialize(pdu, pdu.max_h2c_data)
            return _frame(PduType.IC_RESP, 0, body, b"", PLAIN)
        case TermReq(fatal_error, field, quoted):
            kind = PduType.H2C_TERM_REQ if sender is Role.HOST else PduType.C2H_TERM_REQ
            # "H2CTermReq PDU": PDO is reserved here, and the quoted PDU follows the header at once.
            body = _TERMINATE.pack(fatal_error, field)
            return _COMMON.pack(kind, 0, 24, 0, 24 + len(quoted)) + body + quoted


def _initialize(pdu: ICReq | ICResp, limit: int) -> bytes:
    digests = pdu.header_digest | pdu.data_digest << 1
    alignment = pdu.alignment_bytes // 4 - 1
    return _INITIALIZE.pack(pdu.pdu_format, alignment, digests, limit)


def _frame(kind: int, flags: int, body: bytes, data: bytes, framing: Framing) -> bytes:
    header_digest, data_digest, alignment = framing
    header_bytes = COMMON_HEADER_BYTES + len(body)
    end = header_bytes
    if header_digest:
        flags |= FLAG_HEADER_DIGEST
        end += DIGEST_BYTES
    if not data:
        header = _COMMON.pack(kind, flags, header_bytes, 0, end) + body
        return header + digest(header) if header_digest else header
    data_offset = end + -end % alignment
    length = data_offset + len(data)
    if data_digest:
        flags |= FLAG_DATA_DIGEST
        length += DIGEST_BYTES
    header = _COMMON.pack(kind, flags, header_bytes, data_offset, length) + body
    parts = [header]
    if header_digest:
        parts.append(digest(header))
    if data_offset > end:
        parts.append(bytes(data_offset - end))
    parts.append(data)
    if data_digest:
        parts.append(digest(data))
    return b"".join(parts)


# ---- bytes in


class Prefix(NamedTuple):
    """What the first eight bytes of a PDU promise, checked against its type."""

    kind: PduType
    flags: int
    header_bytes: int
    """Header with its digest."""
    data_offset: int
    data_bytes: int
    data_digest: bool
    header_digest: bool


def _invalid(message: str, field: int) -> RemoteProtocolError:
    return RemoteProtocolError(message, FatalError.INVALID_PDU_HEADER_FIELD, field_offset=field)


def parse_prefix(
    raw: bytes,
    sender: Role,
    allowed: Container[PduType],
    framing: Framing,
    max_data_bytes: Mapping[PduType, int],
) -> Prefix:
    """Check a common header (Transport 3.6.1) that came from `sender`.

    `allowed` are the types that may come now, and `max_data_bytes` bounds the data of those
    that carry any, so a peer cannot make us buffer more. Raises RemoteProtocolError with the
    FES and FEI that section 3.5 names.
    """
    number, flags, header_bytes, data_offset, length = _COMMON.unpack_from(raw)
    try:
        kind = PduType(number)
    except ValueError:
        raise _invalid(f"unknown PDU type {number:#04x}", TYPE) from None
    layout = LAYOUTS[kind]
    if layout.sender is not sender:
        raise _invalid(f"{kind.name} is not sent by a {sender.value}", TYPE)
    if kind not in allowed:
        raise RemoteProtocolError(f"{kind.name} is out of sequence", FatalError.PDU_SEQUENCE_ERROR)
    if header_bytes != layout.header_bytes:
        raise _invalid(f"{kind.name} has HLEN {header_bytes}, not {layout.header_bytes}", HLEN)
    if not layout.has_digests:
        return _parse_plain_prefix(kind, flags, layout, length)
    header_digest, data_digest, alignment = framing
    if bool(flags & FLAG_HEADER_DIGEST) is not header_digest:
        raise _invalid(f"{kind.name}: HDGSTF differs from what was negotiated", FLAGS)
    end = header_bytes + DIGEST_BYTES if header_digest else header_bytes
    if length == end:
        # 3.6.2: PDO and DDGSTF mean nothing without data.
        return Prefix(kind, flags, end, end, 0, False, header_digest)
    if length < end or not layout.has_data:
        raise _invalid(f"{kind.name} has PLEN {length}, not {end}", PLEN)
    if bool(flags & FLAG_DATA_DIGEST) is not data_digest:
        raise _invalid(f"{kind.name}: DDGSTF differs from what was negotiated", FLAGS)
    if data_offset < end or data_offset % alignment:
        raise _invalid(
            f"{kind.name} has PDO {data_offset}, not a multiple of {alignment} from {end}", PDO
        )
    data_bytes = length - data_offset - (DIGEST_BYTES if data_digest else 0)
    if data_bytes <= 0:
        raise _invalid(f"{kind.name}: PLEN {length} leaves no data after PDO", PLEN)
    if data_bytes > max_data_bytes[kind]:
        raise _too_long(kind, data_bytes, max_data_bytes[kind])
    return Prefix(kind, flags, end, data_offset, data_bytes, data_digest, header_digest)


def _too_long(kind: PduType, data_bytes: int, most: int) -> RemoteProtocolError:
    message = f"{kind.name} carries {data_bytes} bytes of data, over {most}"
    if kind is PduType.H2C_DATA:
        # Of what bounds the data of a PDU, only MAXH2CDATA has a status of its own (Transport 3.5).
        return RemoteProtocolError(message, FatalError.TRANSFER_LIMIT_EXCEEDED)
    return _invalid(message, PLEN)


def _parse_plain_prefix(kind: PduType, flags: int, layout: Layout, length: int) -> Prefix:
    size = layout.header_bytes
    longest = TERM_REQ_MAX_BYTES if layout.has_data else size
    if not size <= length <= longest:
        raise _invalid(f"{kind.name} has PLEN {length}, not {size} to {longest}", PLEN)
    return Prefix(kind, flags, size, size, length - size, False, False)


def decode(prefix: Prefix, header: bytes, data: bytes, corrupt: bool) -> Pdu:
    """The PDU from its header (digest excluded or not) and its data."""
    kind = prefix.kind
    if kind is PduType.CAPSULE_CMD:
        return CapsuleCmd(Command.decode(header[8:72]), data, corrupt)
    if kind is PduType.CAPSULE_RESP:
        return CapsuleResp(Completion.decode(header[8:24]))
    if kind is PduType.R2T:
        return R2T._make(_TRANSFER.unpack_from(header, 8))
    if kind in (PduType.H2C_DATA, PduType.C2H_DATA):
        return _decode_data(prefix, header, data, corrupt)
    if kind in (PduType.IC_REQ, PduType.IC_RESP):
        return _decode_initialize(kind, header)
    fatal_error, field = _TERMINATE.unpack_from(header, 8)
    return TermReq(fatal_error, field, data)


def _decode_data(prefix: Prefix, header: bytes, data: bytes, corrupt: bool) -> H2CData | C2HData:
    cid, tag, offset, length = _TRANSFER.unpack_from(header, 8)
    if length != len(data) or not length:
        raise _invalid(
            f"{prefix.kind.name} has DATAL {length} and carries {len(data)} bytes",
            TRANSFER_LENGTH,
        )
    last = bool(prefix.flags & FLAG_LAST)
    if prefix.kind is PduType.H2C_DATA:
        return H2CData(cid, tag, offset, data, last, corrupt)
    success = bool(prefix.flags & FLAG_SUCCESS)
    return C2HData(cid, offset, data, last, success, corrupt)


def _decode_initialize(kind: PduType, header: bytes) -> ICReq | ICResp:
    pdu_format, alignment, digests, limit = _INITIALIZE.unpack_from(header, 8)
    if pdu_format:
        raise RemoteProtocolError(
            f"{kind.name} asks for PDU format {pdu_format}; only 0 is defined",
            FatalError.UNSUPPORTED_PARAMETER,
            field_offset=PFV,
        )
    if alignment > 31:
        raise _invalid(f"{kind.name} has data alignment {alignment}, over 31", ALIGNMENT)
    common = (bool(digests & 1), bool(digests & 2), 4 * (alignment + 1))
    if kind is PduType.IC_REQ:
        return ICReq(*common, max_r2t=limit + 1)
    if limit < 4096 or limit % 4:
        raise _invalid(f"IC_RESP has MAXH2CDATA {limit}: under 4096 or not dwords", LIMIT)
    return ICResp(*common, max_h2c_data=limit)


def quote(raw: bytes) -> bytes:
    """As much of a PDU in error as a TermReq may quote."""
    return raw[: TERM_REQ_MAX_BYTES - 24]


def header_digest_received(header: bytes) -> int:
    """The HDGST at the end of a header, as FEI of a header digest error."""
    value: int = _DWORD.unpack(header[-DIGEST_BYTES:])[0]
    return value
