# SPDX-License-Identifier: Apache-2.0
"""One call of the API, from a request message to a reply message, whatever it takes.

Addresses that do not answer are left for the next one, a busy cluster is asked again with
growing pauses, and the call's deadline ends it all. A write whose reply was lost may have been
done: it is never sent again blindly, the object is looked at first.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lightos.api import errors
from lightos.api.credentials import TokenSource, is_expired, refusal_hint
from lightos.api.endpoints import Endpoints
from lightos.api.http import CertificateRefused, HttpReply, NotSent, ReplyLost, Transport
from lightos.api.observer import REPLY_LOST, UNREACHABLE, Observer
from lightos.api.routes import Route
from lightos.api.wire import Model, WireError
from lightos.waiting import Clock, Deadline, backoff

LOG = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Model)
Reply = TypeVar("Reply", bound=Model)

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

ROTATION_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""When to look for a new token after a refusal."""

_OUTCOME_UNKNOWN = (408, 502, 504)
"""Answers of a gateway that gave up on the server behind it, which may have acted."""


class Caller:
    """Sends requests to a cluster; safe to share between threads."""

    def __init__(
        self,
        endpoints: Endpoints,
        transport: Transport,
        tokens: TokenSource,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.observer = observer
        self.transport = transport
        self.tokens = tokens
        self.clock = clock
        self._endpoints = endpoints
        self._lock = threading.Lock()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The API addresses, those configured and those that the cluster told."""
        return self._endpoints.addresses

    def address_states(self) -> list[tuple[str, str]]:
        """Each API address and what is known of its health; takes no lock."""
        return self._endpoints.states(self.clock.monotonic())

    def note_told_addresses(self, told: Iterable[str]) -> None:
        """Take over the API addresses that the cluster says it has, beside those configured."""
        with self._lock:
            before = self._endpoints
            self._endpoints = before.with_told(told)
        if self._endpoints is not before:
            LOG.info("API addresses: %s", ", ".join(self._endpoints.addresses))

    def call(
        self,
        route: Route[Request, Reply],
        request: Request,
        target: str,
        deadline: Deadline,
        *,
        etag: str = "",
        settle: Callable[[], Reply | None] | None = None,
        patient: bool = True,
    ) -> Reply:
        """Send a request until it is answered for good, or the deadline passes.

        `target` names the object in messages. `settle` is for writes: it looks at the object
        when the outcome of a try is unknown, and returns the reply that the try must have had,
        or None when it had no effect and may be repeated. Not to be `patient` is to give up
        when no address accepts a connection. Raises LightOSError; at the deadline that of the
        last try.
        """
        return _Call(self, route, request, target, deadline, etag, settle, patient).run()

    def next_address(self) -> tuple[str, bool]:
        """Return the address to ask, and whether it rests (then all of them do)."""
        now = self.clock.monotonic()
        with self._lock:
            address = self._endpoints.best(now)
            return address, self._endpoints.is_resting(address, now)

    def note_success(self, address: str) -> None:
        """Stay with an address that answered."""
        with self._lock:
            self._endpoints = self._endpoints.after_success(address)

    def note_failure(self, address: str, cause: Exception) -> None:
        """Let an address rest that gave no answer."""
        LOG.warning("API address %s gave no answer: %s", address, cause)
        now = self.clock.monotonic()
        with self._lock:
            self._endpoints = self._endpoints.after_failure(address, now)

    def note_busy(self, address: str) -> None:
        """Ask the next address before one that could not serve."""
        with self._lock:
            self._endpoints = self._endpoints.after_busy(address)


@dataclass
class _Call(Generic[Request, Reply]):
    """One call and what it has been through so far."""

    caller: Caller
    route: Route[Request, Reply]
    request: Request
    target: str
    deadline: Deadline
    etag: str
    settle: Callable[[], Reply | None] | None
    patient: bool
    in_doubt: bool = False
    """Whether a write may have been done without our knowing."""
    failure: errors.LightOSError | None = None
    unreachable: dict[str, NotSent] = field(default_factory=dict)
    server_faults: int = 0
    outcome: str = ""
    """Of the last request; empty before the first."""
    used_tokens: set[str] = field(default_factory=set, repr=False)
    pauses: Iterator[float] = field(
        default_factory=lambda: backoff(FIRST_PAUSE_SECONDS, ceiling=LONGEST_PAUSE_SECONDS)
    )

    def run(self) -> Reply:
        """Try until there is a reply or a final error."""
        while True:
            reply = self._reply_of_doubtful_try()
            if reply is not None:
                return reply
            if self.deadline.expired:
                raise self.failure or self._error(
                    errors.TimedOut, "the deadline had passed before the request"
                )
            address, resting = self.caller.next_address()
            if resting and self.failure is not None:
                if not self.patient and len(self.unreachable) == len(self.caller.addresses):
                    raise self.failure
                self.deadline.sleep(next(self.pauses))
            answer = self._send(address)
            if answer is None:
                continue
            if 200 <= answer.status < 300:
                self.caller.note_success(address)
                return self._parse(answer)
            self.failure = errors.from_reply(
                self.route.operation,
                self.target,
                answer.status,
                answer.body,
                sent_if_match=bool(self.etag),
            )
            if isinstance(self.failure, errors.Unauthorized):
                self.failure = self._explained(self.failure)
            LOG.debug("%s answered: %s", address, self.failure)
            if self._is_final(self.failure, address):
                reply = self._reply_of_doubtful_try()
                if reply is not None:
                    return reply
                raise self.failure

    def _error(self, kind: type[errors.LightOSError], reason: str) -> errors.LightOSError:
        return kind(self.route.operation, self.target, reason)

    def _send(self, address: str) -> HttpReply | None:
        """Ask one address; None when no answer came, which is then noted."""
        token = self.caller.tokens.current()
        self.used_tokens.add(token)
        if self.outcome:
            self.caller.observer.asked_again(self.route.operation, self.outcome)
        began = self.caller.clock.monotonic()
        try:
            reply = self.caller.transport.send(
                address,
                self.route.method,
                self.route.address(self.request),
                token=token,
                deadline=self.deadline,
                query=self.route.query(self.request),
                body=self.route.body(self.request),
                if_match=self.etag,
            )
        except NotSent as cause:
            self._note_outcome(address, UNREACHABLE, began)
            self.caller.note_failure(address, cause)
            self.unreachable[address] = cause
            if not self.in_doubt:
                self.failure = self._unreachable_error()
            if isinstance(self.failure, errors.Untrusted):
                raise self.failure from None
        except ReplyLost as cause:
            self._note_outcome(address, REPLY_LOST, began)
            self.caller.note_failure(address, cause)
            self.in_doubt = self.in_doubt or self.route.is_write
            self.failure = self._error(errors.TimedOut, f"{address}: {cause}")
        else:
            self._note_outcome(address, str(reply.status), began)
            return reply
        return None

    def _note_outcome(self, address: str, outcome: str, began: float) -> None:
        seconds = self.caller.clock.monotonic() - began
        self.outcome = outcome
        self.caller.observer.request_ended(self.route.operation, address, outcome, seconds)

    def _unreachable_error(self) -> errors.LightOSError:
        """Say why each address failed; Untrusted when certificates are all that is wrong."""
        causes = self.unreachable
        untrusted = len(causes) == len(self.caller.addresses) and all(
            isinstance(cause, CertificateRefused) for cause in causes.values()
        )
        return self._error(
            errors.Untrusted if untrusted else errors.Unreachable,
            "; ".join(f"{address}: {cause}" for address, cause in causes.items()),
        )

    def _is_final(self, failure: errors.LightOSError, address: str) -> bool:
        """Say whether an error answer ends the call; if not, prepare the next try."""
        if isinstance(failure, errors.Busy):
            if self.route.is_write and failure.http_status in _OUTCOME_UNKNOWN:
                self.in_doubt = True
            self.caller.note_busy(address)
            self.deadline.sleep(next(self.pauses))
            return False
        if isinstance(failure, errors.ServerFault) and not self.route.is_write:
            self.server_faults += 1
            self.caller.note_busy(address)
            return self.server_faults >= len(self.caller.addresses)
        if isinstance(failure, errors.Unauthorized):
            return not self._token_was_replaced()
        return True

    def _token_was_replaced(self) -> bool:
        """Whether there is a token that this call has not tried.

        The cluster may refuse the old one a moment before the new one is in its file, so a
        token that should still be good is waited for.
        """
        tokens = self.caller.tokens
        may_come = tokens.may_change and not is_expired(tokens.current())
        pauses = iter(ROTATION_PAUSES_SECONDS if may_come else ())
        while tokens.reread() in self.used_tokens:
            pause = next(pauses, None)
            if pause is None or self.deadline.expired:
                return False
            self.deadline.sleep(pause)
        return True

    def _explained(self, refusal: errors.LightOSError) -> errors.Unauthorized:
        """A 401 that says which token was refused, and whether it has expired."""
        return errors.Unauthorized(
            refusal.operation,
            refusal.target,
            f"{refusal.reason}; {refusal_hint(self.caller.tokens)}",
            http_status=refusal.http_status,
            grpc_code=refusal.grpc_code,
        )

    def _reply_of_doubtful_try(self) -> Reply | None:
        """Return the reply that an earlier try must have had; None if there is none such."""
        if not self.in_doubt or self.settle is None:
            return None
        try:
            return self.settle()
        except (errors.Unreachable, errors.TimedOut, errors.Busy, errors.ServerFault) as cause:
            reason = f"a reply was lost, and then {cause.operation} failed: {cause.reason}"
            raise self._error(errors.TimedOut, reason) from cause

    def _parse(self, answer: HttpReply) -> Reply:
        """Read a reply; one that is not of this API is no evidence of success."""
        reply = self.route.reply
        is_empty = not answer.body.strip() and not reply.wire_fields()
        try:
            return reply.from_wire({} if is_empty else json.loads(answer.body))
        except (WireError, ValueError, RecursionError) as cause:
            raise errors.ServerFault(
                self.route.operation,
                self.target,
                f"the reply is not of this API ({cause})",
                http_status=answer.status,
            ) from None
