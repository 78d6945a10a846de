# SPDX-License-Identifier: Apache-2.0
"""PDUs through the codec, both ends: events or the codec's own errors, and bounded buffers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from lightos.nvme_tcp import HostQueue, LocalProtocolError, RemoteProtocolError
from lightos.nvme_tcp.connection import Connection
from lightos.nvme_tcp.pdu import MAX_ALIGNMENT_BYTES, TERM_REQ_MAX_BYTES
from lightos.nvme_tcp.state import State
from tests.fuzz.exchanges import (
    SETTINGS,
    Answerer,
    Exchange,
    admin_jobs,
    connect_job,
    discovery_jobs,
    io_jobs,
    record,
)
from tests.fuzz.finding import Harm, Input
from tests.fuzz.mutator import broken, generator, pieces, shuffled

SHUFFLED_SHARE = 0.3
HEADER_BYTES = 72 + 4 + MAX_ALIGNMENT_BYTES
"""Longest header with its digest and padding."""


@functools.cache
def exchanges() -> tuple[Exchange, ...]:
    """Every kind of conversation with every combination of digests and alignment."""
    return tuple(
        record(jobs, settings)
        for settings in SETTINGS
        for jobs in (
            admin_jobs(connect_job(0)),
            discovery_jobs(),
            io_jobs(connect_job(1, controller_id=1)),
        )
    )


@functools.cache
def _donors(kind: str) -> tuple[bytes, ...]:
    return tuple(
        pdu
        for exchange in exchanges()
        for pdu in (exchange.to_controller if kind == "controller" else exchange.to_host)
    )


def make(seed: int, number: int) -> Input:
    """Input `number`: a conversation, for one of its ends, broken."""
    chance = generator(seed, "codec", number)
    variant = chance.randrange(len(exchanges()))
    kind = chance.choice(("controller", "host"))
    exchange = exchanges()[variant]
    stream = exchange.to_controller if kind == "controller" else exchange.to_host
    if chance.random() < SHUFFLED_SHARE:
        made = shuffled(chance, stream, head=2)
    else:
        made = broken(chance, stream, _donors(kind))
    return Input(kind, variant, tuple(pieces(chance, b"".join(made))))


def check_controller(variant: int, given: Sequence[bytes]) -> str:
    """Feed a controller; how it ended. Raises whatever a controller must not raise."""
    outcome = _controller_outcome(variant, given)
    stream = b"".join(given)
    # Of some, so that it does not double the time.
    if len(stream) % 8 == 0 and (whole := _controller_outcome(variant, [stream])) != outcome:
        raise Harm(f"in pieces it ends with {outcome!r}, as a whole with {whole!r}")
    return outcome


def _controller_outcome(variant: int, given: Sequence[bytes]) -> str:
    answerer = Answerer(exchanges()[variant].settings)
    try:
        for piece in (*given, b""):
            answerer.receive(piece)
            _check_buffer(answerer.connection)
    except RemoteProtocolError as error:
        _check_termination(answerer.connection, error)
        return error.fatal_error.name
    except LocalProtocolError:
        return "refused to answer"
    return "ended" if answerer.connection.state is State.CLOSED else "nothing wrong"


def check_host(variant: int, given: Sequence[bytes]) -> str:
    """Feed a host that has its commands outstanding as soon as it may."""
    exchange = exchanges()[variant]
    queue = HostQueue(exchange.settings)
    queue.initiate()
    jobs = list(exchange.jobs)
    try:
        for piece in (*_hello_apart(given), b""):
            queue.receive(piece)
            queue.data_to_send()
            _check_buffer(queue.connection)
            while queue.ready and jobs:
                queue.submit(*jobs.pop(0))
    except RemoteProtocolError as error:
        if not queue.data_to_send():
            raise Harm("no TermReq for what the controller did wrong") from error
        _check_buffer(queue.connection, limit=0)
        return error.fatal_error.name
    except LocalProtocolError as error:
        raise Harm(f"a host was made to break the protocol itself: {error}") from error
    return "ended"


def _hello_apart(given: Sequence[bytes]) -> list[bytes]:
    """A host sends no command before ICResp, so no answer comes in one piece with that."""
    first = b"".join(given)[:128]
    rest = len(first)
    made = [first]
    for piece in given:
        if len(piece) > rest:
            made.append(piece[rest:])
        rest = max(0, rest - len(piece))
    return made


def _check_buffer(connection: Connection, limit: int | None = None) -> None:
    if limit is None:
        limit = HEADER_BYTES + max(connection._max_received_data.values()) + 4
    if len(connection._buffer) > limit:
        raise Harm(f"{len(connection._buffer)} bytes are buffered, over {limit}")


def _check_termination(connection: Connection, error: RemoteProtocolError) -> None:
    owed = connection.terminate(error)
    if not 24 <= len(owed) <= TERM_REQ_MAX_BYTES:
        raise Harm(f"a TermReq of {len(owed)} bytes")
    connection.receive_data(bytes(4096))
    connection.next_event()
    _check_buffer(connection, limit=0)
