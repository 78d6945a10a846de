# SPDX-License-Identifier: Apache-2.0
"""Replies of the lab's HTTP server: JSON, and errors as a grpc-gateway v1.16 writes them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from lightos.api.errors import HTTP_STATUS
from lightos.api.models.failures import GatewayError
from lightos.api.wire import Model
from lightos.lab.errors import ClusterError


def json_reply(content: Any) -> Response:
    """200 with a JSON value."""
    return json_bytes(200, _encoded(content))


def json_bytes(status: int, content: bytes) -> Response:
    return Response(content, status, media_type="application/json")


def message_reply(message: Model) -> Response:
    """200 with a message of the API."""
    return json_reply(message.to_wire())


def refusal(error: ClusterError) -> Response:
    """The body `{error, code, message}` with the HTTP status of its gRPC code."""
    return error_reply(HTTP_STATUS[error.code], error.code, str(error))


def error_reply(status: int, code: int, text: str) -> Response:
    body = GatewayError(error=text, code=code, message=text)
    return json_bytes(status, _encoded(body.to_wire()))


def _encoded(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
