# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the management API, as a small tree of exceptions.

The cluster answers with a gRPC status number inside a gateway's JSON body and the HTTP status
that grpc-gateway v1 derives from it. `HTTP_STATUS` is that table, for a server; `from_reply`
turns a reply into an exception, for a client. No exception ever holds the bearer token.
"""

from __future__ import annotations

import enum
import json
from types import MappingProxyType
from typing import ClassVar

from lightos.api.models.failures import GatewayError
from lightos.api.wire import WireError


class GrpcCode(enum.IntEnum):
    """gRPC status codes (grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = MappingProxyType(
    {
        GrpcCode.OK: 200,
        GrpcCode.CANCELLED: 408,
        GrpcCode.UNKNOWN: 500,
        GrpcCode.INVALID_ARGUMENT: 400,
        GrpcCode.DEADLINE_EXCEEDED: 504,
        GrpcCode.NOT_FOUND: 404,
        GrpcCode.ALREADY_EXISTS: 409,
        GrpcCode.PERMISSION_DENIED: 403,
        GrpcCode.RESOURCE_EXHAUSTED: 429,
        GrpcCode.FAILED_PRECONDITION: 400,
        GrpcCode.ABORTED: 409,
        GrpcCode.OUT_OF_RANGE: 400,
        GrpcCode.UNIMPLEMENTED: 501,
        GrpcCode.INTERNAL: 500,
        GrpcCode.UNAVAILABLE: 503,
        GrpcCode.DATA_LOSS: 500,
        GrpcCode.UNAUTHENTICATED: 401,
    }
)
"""gRPC code to HTTP status, as grpc-gateway v1.16 has it."""


class LightOSError(Exception):
    """A call of the management API that did not do what was asked.

    `operation` is the API operation (`UpdateVolume`), `target` the object in words (`volume
    X of project Y`), `http_status` and `grpc_code` what the cluster answered (None: nothing),
    `reason` its own words.
    """

    advice: ClassVar[str] = ""

    def __init__(
        self,
        operation: str,
        target: str,
        reason: str,
        *,
        http_status: int | None = None,
        grpc_code: int | None = None,
    ) -> None:
        self.operation = operation
        self.target = target
        self.reason = reason
        self.http_status = http_status
        self.grpc_code = grpc_code
        status = f" (HTTP {http_status})" if http_status is not None else ""
        advice = f" {self.advice}" if self.advice else ""
        super().__init__(f"{operation} of {target} failed: {reason}{status}.{advice}")


class Unreachable(LightOSError):
    """No API address accepted a connection."""

    advice = "Check the API addresses, the port and the network."


class Untrusted(Unreachable):
    """An API address was reached, but its TLS certificate was not accepted."""

    advice = "Check the CA file, and that certificates name the configured API addresses."


class TimedOut(LightOSError):
    """The deadline passed without an answer, or before the object came to the wanted state.

    Whether the cluster did what was asked is not known.
    """

    advice = "The operation may still complete; look at the object before trying again."


class Unauthorized(LightOSError):
    """401: the token is missing, malformed, expired or not known to the cluster."""

    advice = "Renew the JWT."


class Forbidden(LightOSError):
    """403: the token's role does not allow this."""

    advice = "Use a JWT whose role covers this project and operation."


class NotFound(LightOSError):
    """404 in the API's own words: the object does not exist."""


class AlreadyExists(LightOSError):
    """409: the name is taken."""


class StaleEtag(LightOSError):
    """The object changed since it was read: 412, or 400 FailedPrecondition after If-Match."""

    advice = "Read the object again."


class Busy(LightOSError):
    """429, 503, 504 and other passing states: the same call may succeed later."""

    advice = "Try again later."


class Refused(LightOSError):
    """Any other 4xx, or 501: the same call will be refused again."""


class WrongState(Refused):
    """400 FailedPrecondition: the object is in a state that does not allow this."""


class ServerFault(LightOSError):
    """500 and other 5xx, or an answer that is not of this API."""

    advice = "Look at the cluster's own log."


_BY_CODE: dict[int, type[LightOSError]] = {
    GrpcCode.CANCELLED: Busy,
    GrpcCode.DEADLINE_EXCEEDED: Busy,
    GrpcCode.NOT_FOUND: NotFound,
    GrpcCode.ALREADY_EXISTS: AlreadyExists,
    GrpcCode.PERMISSION_DENIED: Forbidden,
    GrpcCode.RESOURCE_EXHAUSTED: Busy,
    GrpcCode.FAILED_PRECONDITION: WrongState,
    GrpcCode.ABORTED: Busy,
    GrpcCode.UNAVAILABLE: Busy,
    GrpcCode.UNAUTHENTICATED: Unauthorized,
}

_BY_STATUS: dict[int, type[LightOSError]] = {
    401: Unauthorized,
    403: Forbidden,
    408: Busy,
    409: Busy,
    412: StaleEtag,
    429: Busy,
    502: Busy,
    503: Busy,
    504: Busy,
}

_LONGEST_REASON = 500


def parse_body(body: bytes) -> GatewayError | None:
    """Read an error body; None when it is not one (a proxy's page, a gateway's text/plain).

    The proto documents a bare integer in place of the object; both count.
    """
    try:
        data = json.loads(body)
        if isinstance(data, int) and not isinstance(data, bool):
            return GatewayError(code=data)
        return GatewayError.from_wire(data)
    except (ValueError, WireError, RecursionError):
        return None


def from_reply(
    operation: str, target: str, http_status: int, body: bytes, *, sent_if_match: bool
) -> LightOSError:
    """Return the exception that a reply other than success stands for."""
    parsed = parse_body(body)
    kind = _kind(http_status, parsed, sent_if_match=sent_if_match)
    if parsed is not None:
        reason = parsed.message or parsed.error or "the cluster gave no reason"
    else:
        text = " ".join(body[:_LONGEST_REASON].decode("utf-8", "replace").split())
        reason = f"not an answer of the management API: {text or 'empty body'}"
    return kind(
        operation,
        target,
        reason[:_LONGEST_REASON].rstrip("."),
        http_status=http_status,
        grpc_code=parsed.code if parsed is not None else None,
    )


def _kind(
    http_status: int, parsed: GatewayError | None, *, sent_if_match: bool
) -> type[LightOSError]:
    code = parsed.code if parsed is not None else 0
    if code == GrpcCode.FAILED_PRECONDITION and sent_if_match:
        return StaleEtag
    if http_status == 404:
        # Only the API's own words prove that an object does not exist: a proxy's page or a
        # gateway without this route would answer 404 for an object that is well.
        return NotFound if parsed is not None and code in (0, GrpcCode.NOT_FOUND) else Refused
    if code in _BY_CODE and HTTP_STATUS[GrpcCode(code)] == http_status:
        return _BY_CODE[code]
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    if 400 <= http_status < 500 or http_status == 501:
        return Refused
    return ServerFault
