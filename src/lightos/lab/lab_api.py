# SPDX-License-Identifier: Apache-2.0
"""`/lab/v1`: what the lab takes beyond the management API, from cluster administrators only.

    POST    /lab/v1/faults      add a rule            GET   the plan with its counts
    PUT     /lab/v1/faults      load a whole plan     DELETE   clear all, or `/faults/ID`

Errors have the form of the management API's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.responses import PlainTextResponse, Response

from lightos.lab.errors import InvalidArgument
from lightos.lab.faults.calls import Faults
from lightos.lab.faults.rules import BadRule, parse_plan, parse_rule
from lightos.lab.replies import json_reply

PREFIX = "/lab/v1/"

Handler = Callable[[str, bytes], Awaitable[Any]]
"""From what follows in the path, and the body, to the JSON of the reply."""


class LabApi:
    """The operations below `/lab/v1`."""

    def __init__(self, faults: Faults, node_addresses: Callable[[], Collection[str]]) -> None:
        self._faults = faults
        self._node_addresses = node_addresses
        self._handlers: dict[str, dict[str, Handler]] = {
            "faults": {
                "GET": self._list_faults,
                "POST": self._add_fault,
                "PUT": self._load_faults,
                "DELETE": self._clear_faults,
            },
            "faults/": {"DELETE": self._clear_fault},
        }

    async def respond(self, method: str, path: str, body: bytes) -> Response:
        """Answer an administrator. Raises ClusterError."""
        collection, slash, name = path.removeprefix(PREFIX).partition("/")
        handlers = self._handlers.get(collection + slash)
        if handlers is None:
            return PlainTextResponse("Not Found\n", 404)
        if method not in handlers:
            allow = {"Allow": ", ".join(sorted(handlers))}
            return PlainTextResponse("Method Not Allowed\n", 405, allow)
        return json_reply(await handlers[method](name, body))

    async def _list_faults(self, _name: str, _body: bytes) -> Any:
        return self._faults.to_json()

    async def _add_fault(self, _name: str, body: bytes) -> Any:
        try:
            rule = parse_rule(_document(body), self._node_addresses())
        except BadRule as cause:
            raise InvalidArgument(str(cause)) from None
        return (await self._faults.add(rule)).to_json()

    async def _load_faults(self, _name: str, body: bytes) -> Any:
        try:
            plan = parse_plan(_document(body), self._node_addresses())
        except BadRule as cause:
            raise InvalidArgument(str(cause)) from None
        await self._faults.load(plan)
        return self._faults.to_json()

    async def _clear_faults(self, _name: str, _body: bytes) -> Any:
        await self._faults.clear()
        return {}

    async def _clear_fault(self, name: str, _body: bytes) -> Any:
        if not name.isdecimal():
            raise InvalidArgument(f"{name[:64]!r} is not the id of a fault")
        await self._faults.remove(int(name))
        return {}


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as cause:
        raise InvalidArgument(f"the body is not JSON: {cause}") from None
