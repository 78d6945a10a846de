# SPDX-License-Identifier: Apache-2.0
"""The fault plan at work on calls of the management API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lightos.api.routes import Route
from lightos.api.wire import Model
from lightos.lab.changes import Change, ChangeQueue, Changes
from lightos.lab.cluster import Cluster
from lightos.lab.errors import ClusterError, NotFound, Unauthenticated
from lightos.lab.faults.plan import AddressFaults, FaultPlan, PlannedRule
from lightos.lab.faults.rules import (
    Call,
    Delay,
    End,
    LoseReply,
    PlanDocument,
    RefuseConcurrentSnapshots,
    ReplaceToken,
    Reset,
    Rule,
    StaleEtag,
    Status,
    Stay,
)
from lightos.lab.faults.states import DisturbedChanges, RuleInForce
from lightos.lab.records import SnapshotRecord, SnapshotState, VolumeRecord
from lightos.lab.replies import error_reply
from lightos.lab.silence import reset
from lightos.lab.tokens import Tokens


async def _nothing() -> None:
    pass


def _error(status: Status) -> Response:
    return error_reply(status.http_status, status.code, status.message)


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
            reset(transport)
        else:
            transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Faults:
    """Holds the plan and lets its rules happen.

    `planned` is all that a call costs while there is no rule. `addresses_changed` is awaited
    when the faults of some node address may be others than before.
    """

    def __init__(self, cluster: Cluster, changes: ChangeQueue, tokens: Tokens) -> None:
        self.planned = False
        self.addresses_changed: Callable[[], Awaitable[None]] = _nothing
        self._cluster = cluster
        self._changes = changes
        self._tokens = tokens
        self._plan = FaultPlan()
        self._in_force: dict[int, RuleInForce] = {}
        self._snapshots_in_hand = 0

    # The plan

    def to_json(self) -> dict[str, Any]:
        return self._plan.to_json()

    def at_address(self, address: str) -> AddressFaults:
        return self._plan.at_address(address)

    async def add(self, rule: Rule) -> PlannedRule:
        """Have one more rule. Raises Internal (disk) for a token that cannot be replaced."""
        if rule.at_once:
            await self._tokens.replace()
        planned = self._plan.add(rule)
        self.planned = True
        await self.addresses_changed()
        return planned

    async def load(self, document: PlanDocument) -> None:
        """Have this plan in place of the present one. Raises Internal as `add` does."""
        if any(rule.at_once for rule in document.rules):
            await self._tokens.replace()
        cleared, self._in_force = self._in_force, {}
        self._plan = FaultPlan(document)
        self.planned = bool(document.rules)
        await self._end(list(cleared.values()))
        await self.addresses_changed()

    async def clear(self) -> None:
        """Have no rule."""
        await self.load(PlanDocument())

    async def remove(self, number: int) -> Rule:
        """Clear one rule, and say which it was. Raises NotFound."""
        planned = self._plan.rules.pop(number, None)
        if planned is None:
            raise NotFound(
                f"there is no fault {number}; `GET /lab/v1/faults` lists those there are"
            )
        self.planned = bool(self._plan.rules)
        cleared = self._in_force.pop(number, None)
        await self._end([] if cleared is None else [cleared])
        await self.addresses_changed()
        return planned.rule

    async def _end(self, cleared: Sequence[RuleInForce]) -> None:
        """Let calls go on and objects settle, those included that a change in hand holds."""
        for rule in cleared:
            rule.cleared.set()

        def release() -> Change[VolumeRecord]:
            for rule in cleared:
                self._cluster.release(rule.held)
            return Change()

        if cleared:
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
        changes: Changes = self._changes
        if met is None:
            return await answer(changes)
        in_force = self._in_force.setdefault(met.number, RuleInForce())
        match met.rule.effect:
            case (Status() as refusal) | RefuseConcurrentSnapshots(refusal):
                return _error(refusal)
            case ReplaceToken():
                await self._tokens.replace()
                raise Unauthenticated("the token's signature is not of this cluster's key any more")
            case Reset():
                return Disconnection(reset=True)
            case LoseReply(other):
                with contextlib.suppress(ClusterError):  # a refusal is a reply, too
                    await answer(changes)
                return Disconnection(reset=False) if other is None else _error(other)
            case Delay(seconds):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(in_force.cleared.wait(), seconds)
            case StaleEtag() if found is not None:
                await changes.carry_out(self._cluster.touch, found.uuid)
            case (Stay() | End()) as effect:
                changes = DisturbedChanges(changes, self._cluster, effect, in_force)
        return await answer(changes)

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
