# SPDX-License-Identifier: Apache-2.0
"""The body of every error."""

from __future__ import annotations

from dataclasses import dataclass

from lightos.api.wire import INT32, JSON, STRING, Kind, Model, WireError, many, wired


def _read_detail(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise WireError("expected an object")
    return dict(value)


DETAIL = Kind(
    {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
    _read_detail,
    dict,
)


@dataclass(frozen=True, kw_only=True)
class GatewayError(Model, schema="GatewayError"):
    """Body of every error; `code` is the gRPC status number, not the HTTP status."""

    error: str = wired("error", STRING)
    code: int = wired("code", INT32)
    message: str = wired("message", STRING)
    details: tuple[dict[str, JSON], ...] = wired("details", many(DETAIL))
