# SPDX-License-Identifier: Apache-2.0
"""The fault plan at work on calls of the management API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lightos.api.routes import Route
from lightos.api.wire import Model
from lightos.lab.changes import Change, ChangeQueue, Changes
from lightos.lab.cluster import Cluster
from lightos.lab.errors import ClusterError, NotFound
from lightos.lab.faults.plan import FaultPlan, PlannedRule
from lightos.lab.faults.rules import (
    Call,
    Delay,
    End,
    LoseReply,
    PlanDocument,
    Reset,
    Rule,
    StaleEtag,
    Status,
    Stay,
)
from lightos.lab.faults.states import DisturbedChanges
from lightos.lab.records import SnapshotRecord, SnapshotState, VolumeRecord
from lightos.lab.replies import error_reply

_LINGER_NOT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST, not FIN (socket(7))."""

Answer = Callable[[Changes], Awaitable[Response]]
"""Does what a call asks, by the changes it is given."""


class Disconnection(Response):
    """No reply: the connection ends, in order or with a reset."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        transport: asyncio.Transport = scope["state"]["transport"]
        if self._reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class CallFaults:
    """Holds the plan and lets its rules happen.

    `planned` is all that a call costs while there is no rule.
    """

    def __init__(self, cluster: Cluster, changes: ChangeQueue) -> None:
        self.planned = False
        self._cluster = cluster
        self._changes = changes
        self._plan = FaultPlan()
        self._held: dict[int, set[UUID]] = {}
        self._snapshots_in_hand = 0

    # The plan

    def to_json(self) -> dict[str, Any]:
        return self._plan.to_json()

    def add(self, rule: Rule) -> PlannedRule:
        self.planned = True
        return self._plan.add(rule)

    async def load(self, document: PlanDocument) -> None:
        """Have this plan in place of the present one."""
        held, self._held = self._held, {}
        self._plan = FaultPlan(document)
        self.planned = bool(document.rules)
        await self._release(uuid for uuids in held.values() for uuid in uuids)

    async def clear(self) -> None:
        """Have no rule."""
        await self.load(PlanDocument())

    async def remove(self, number: int) -> None:
        """Clear one rule. Raises NotFound."""
        if self._plan.rules.pop(number, None) is None:
            raise NotFound(
                f"there is no fault {number}; `GET /lab/v1/faults` lists those there are"
            )
        self.planned = bool(self._plan.rules)
        await self._release(self._held.pop(number, ()))

    async def _release(self, uuids: Iterable[UUID]) -> None:
        released = list(uuids)

        def release() -> Change[VolumeRecord]:
            self._cluster.release(released)
            return Change()

        if released:
            await self._changes.carry_out(release)

    # Calls

    async def answer(
        self, route: Route[Any, Any], message: Model, request: Request, answer: Answer
    ) -> Response:
        """Answer a call as the plan has it. Raises ClusterError, as `answer` does."""
        if route.operation != "CreateSnapshot":
            return await self._answer(route, message, request, answer)
        self._snapshots_in_hand += 1
        try:
            return await self._answer(route, message, request, answer)
        finally:
            self._snapshots_in_hand -= 1

    async def _answer(
        self, route: Route[Any, Any], message: Model, request: Request, answer: Answer
    ) -> Response:
        found = self._object(message)
        met = self._plan.decide(self._call(route, message, request, found))
        if met is None:
            return await answer(self._changes)
        match met.rule.effect:
            case Status() as effect:
                text = effect.message or f"fault {met.number} of the lab's plan"
                return error_reply(effect.http_status, effect.code, text)
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Reset():
                return Disconnection(reset=True)
            case LoseReply():
                with contextlib.suppress(ClusterError):  # a refusal is a reply, too
                    await answer(self._changes)
                return Disconnection(reset=False)
            case StaleEtag():
                if found is not None:
                    await self._changes.carry_out(self._cluster.touch, found.uuid)
            case Stay() | End() as effect:
                touched = self._held.setdefault(met.number, set())
                return await answer(DisturbedChanges(self._changes, self._cluster, effect, touched))
        return await answer(self._changes)

    def _call(
        self,
        route: Route[Any, Any],
        message: Model,
        request: Request,
        found: VolumeRecord | SnapshotRecord | None,
    ) -> Call:
        names = {getattr(message, "uuid", ""), getattr(message, "name", "")}
        if found is not None:
            names |= {str(found.uuid), found.name}
        address, _port = request.scope["server"]
        return Call(
            operation=route.operation,
            method=route.method,
            address=address,
            names=frozenset(names - {""}),
            sends_if_match=route.if_match and "if-match" in request.headers,
            snapshots_under_way=route.operation == "CreateSnapshot" and self._snapshots_under_way(),
        )

    def _snapshots_under_way(self) -> bool:
        return self._snapshots_in_hand > 1 or any(
            snapshot.state is SnapshotState.CREATING
            for snapshot in self._cluster.snapshots.values()
        )

    def _object(self, message: Model) -> VolumeRecord | SnapshotRecord | None:
        """The volume or snapshot that a message is about, where it exists."""
        try:
            uuid = UUID(getattr(message, "uuid", ""))
        except ValueError:
            return None
        return self._cluster.volumes.get(uuid) or self._cluster.snapshots.get(uuid)
