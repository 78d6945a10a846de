# SPDX-License-Identifier: Apache-2.0
"""`/lab/v1`: what the lab takes beyond the management API, from cluster administrators only.

    /lab/v1/faults         GET the plan with its counts, POST a rule, PUT a whole plan, DELETE
    /lab/v1/faults/ID      DELETE one rule
    /lab/v1/nodes          GET, POST {"address": A}
    /lab/v1/nodes/NAME     PUT {"address": A}, DELETE
    /lab/v1/tokens/renew   POST
    /lab/v1/reset          POST
    /lab/v1/traffic        GET calls by operation, TLS connections, bytes read and written
    /lab/v1/metrics        GET the same and more, for Prometheus
    /lab/v1/overview       GET all that the web page shows

Errors have the form of the management API's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

from lightos.lab.errors import InvalidArgument
from lightos.lab.event_log import EventLog, News
from lightos.lab.faults.calls import Faults
from lightos.lab.faults.rules import BadRule, parse_plan, parse_rule
from lightos.lab.membership import Membership
from lightos.lab.metrics import LabFigures, exposition
from lightos.lab.page.overview import Overview
from lightos.lab.replies import json_reply
from lightos.lab.reset import Reset
from lightos.lab.tokens import Tokens
from lightos.lab.traffic import Traffic

PREFIX = "/lab/v1/"

Handler = Callable[[str, bytes], Awaitable[Any]]
"""From what follows in the path, and the body, to the JSON of the reply, or to the reply."""


class LabApi:
    """The operations below `/lab/v1`."""

    def __init__(
        self,
        faults: Faults,
        membership: Membership,
        tokens: Tokens,
        traffic: Traffic,
        *,
        overview: Overview,
        figures: Callable[[], LabFigures],
        events: EventLog,
        reset: Reset,
    ) -> None:
        self._faults = faults
        self._membership = membership
        self._tokens = tokens
        self._traffic = traffic
        self._overview = overview
        self._figures = figures
        self._events = events
        self._reset = reset
        self._handlers: dict[str, dict[str, Handler]] = {
            "faults": {
                "GET": self._list_faults,
                "POST": self._add_fault,
                "PUT": self._load_faults,
                "DELETE": self._clear_faults,
            },
            "faults/*": {"DELETE": self._clear_fault},
            "nodes": {"GET": self._list_nodes, "POST": self._add_node},
            "nodes/*": {"PUT": self._move_node, "DELETE": self._remove_node},
            "tokens/renew": {"POST": self._renew_tokens},
            "reset": {"POST": self._reset_all},
            "traffic": {"GET": self._tell_traffic},
            "metrics": {"GET": self._tell_metrics},
            "overview": {"GET": self._tell_overview},
        }

    async def respond(self, method: str, path: str, body: bytes) -> Response:
        """Answer an administrator. Raises ClusterError."""
        tail = path.removeprefix(PREFIX)
        collection, slash, name = tail.partition("/")
        one = f"{collection}/*" if slash and name else ""
        handlers = self._handlers.get(tail) or self._handlers.get(one)
        if handlers is None:
            return PlainTextResponse("Not Found\n", 404)
        if method not in handlers:
            allow = {"Allow": ", ".join(sorted(handlers))}
            return PlainTextResponse("Method Not Allowed\n", 405, allow)
        content = await handlers[method](name, body)
        return content if isinstance(content, Response) else json_reply(content)

    async def _list_faults(self, _name: str, _body: bytes) -> Any:
        return self._faults.to_json()

    async def _add_fault(self, _name: str, body: bytes) -> Any:
        try:
            rule = parse_rule(_document(body), self._membership.addresses())
        except BadRule as cause:
            raise InvalidArgument(str(cause)) from None
        added = (await self._faults.add(rule)).to_json()
        self._note_faults("FaultAdded", f"{_worded(rule.to_json())}: in force")
        return added

    async def _load_faults(self, _name: str, body: bytes) -> Any:
        try:
            plan = parse_plan(_document(body), self._membership.addresses())
        except BadRule as cause:
            raise InvalidArgument(str(cause)) from None
        await self._faults.load(plan)
        self._note_faults("FaultPlanLoaded", f"a plan is loaded; it has {len(plan.rules)} rules")
        return self._faults.to_json()

    async def _clear_faults(self, _name: str, _body: bytes) -> Any:
        await self._faults.clear()
        self._note_faults("FaultsCleared", "all are cleared")
        return {}

    async def _clear_fault(self, name: str, _body: bytes) -> Any:
        if not name.isdecimal():
            raise InvalidArgument(f"{name[:64]!r} is not the id of a fault")
        rule = await self._faults.remove(int(name))
        self._note_faults("FaultCleared", f"{_worded(rule.to_json())}: cleared")
        return {}

    def _note_faults(self, name: str, text: str) -> None:
        self._events.note("fault", News(name, text))

    async def _list_nodes(self, _name: str, _body: bytes) -> Any:
        return {"nodes": self._membership.to_json()}

    async def _add_node(self, _name: str, body: bytes) -> Any:
        return self._membership.describe(await self._membership.add(_address(body)))

    async def _move_node(self, name: str, body: bytes) -> Any:
        return self._membership.describe(await self._membership.move(name, _address(body)))

    async def _remove_node(self, name: str, _body: bytes) -> Any:
        await self._membership.remove(name)
        return {}

    async def _renew_tokens(self, _name: str, _body: bytes) -> Any:
        await self._tokens.renew()
        return {}

    async def _reset_all(self, _name: str, _body: bytes) -> Any:
        await self._reset.run()
        gone = "volumes, snapshots, projects, policies, credentials and faults are gone"
        self._events.note("cluster", News("ClusterReset", gone))
        return {}

    async def _tell_traffic(self, _name: str, _body: bytes) -> Any:
        return self._traffic.to_json()

    async def _tell_metrics(self, _name: str, _body: bytes) -> Response:
        return Response(exposition(self._figures), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _tell_overview(self, _name: str, _body: bytes) -> Any:
        return self._overview.to_json()


def _address(body: bytes) -> str:
    document = _document(body)
    fields = document if isinstance(document, dict) else {}
    if fields.keys() != {"address"} or not isinstance(fields["address"], str):
        raise InvalidArgument('the body must be {"address": ...}, the IP address of the node')
    return str(fields["address"])


def _worded(fields: dict[str, Any]) -> str:
    return ", ".join(name if value is True else f"{name} {value}" for name, value in fields.items())


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as cause:
        raise InvalidArgument(f"the body is not JSON: {cause}") from None
