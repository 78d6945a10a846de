# SPDX-License-Identifier: Apache-2.0
"""Who broke the protocol: this program (Local), the peer (Remote), or one command (Failed)."""

from __future__ import annotations

from .constants import FatalError, Status


class ProtocolError(Exception):
    """Base of every error that the wire raises."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow now."""


class RemoteProtocolError(ProtocolError):
    """The peer sent bytes that end the connection (Transport 3.5, "Error Processing").

    `fatal_error` and `field_offset` are FES and FEI of the TermReq that is owed to the
    peer; `pdu_header` is the start of the PDU in error, which the TermReq quotes.
    """

    def __init__(
        self,
        message: str,
        fatal_error: FatalError,
        *,
        field_offset: int = 0,
        pdu_header: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.fatal_error = fatal_error
        self.field_offset = field_offset
        self.pdu_header = pdu_header


class MalformedStructure(ProtocolError):
    """A data structure inside a transfer (identify, log page) contradicts itself."""


class CommandFailed(ProtocolError):
    """One command completed with a status other than success; the connection is fine.

    A controller raises it to complete a command, a host raises it for the completion it
    got. `result` is completion dwords 0 and 1.
    """

    def __init__(
        self, status: int, *, result: int = 0, do_not_retry: bool = True, what: str = ""
    ) -> None:
        try:
            name = Status(status).name.replace("_", " ").lower()
        except ValueError:
            name = "unknown status"
        super().__init__(f"{what}{': ' if what else ''}{name} ({status:#05x})")
        self.status = status
        self.result = result
        self.do_not_retry = do_not_retry
