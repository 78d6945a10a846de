# SPDX-License-Identifier: Apache-2.0
"""What may follow what, as two literal tables. Only `connection` moves along them.

Rules of this file:

* `CONNECTION` says which PDUs may cross in each state of the connection, whoever sends
  them (`pdu.LAYOUTS` says who may), and the state afterwards.
* `COMMAND` does the same for one command from its capsule to its completion. A step that
  is missing from a row is a protocol error.
* Neither table has code. A new rule is a new row.
"""

from __future__ import annotations

import enum

from .pdu import R2T, C2HData, CapsuleCmd, CapsuleResp, H2CData, ICReq, ICResp, Pdu, TermReq


class State(enum.IntEnum):
    """A connection, as both ends see it."""

    NEW = 0
    INITIALIZING = 1
    """ICReq went out; nothing but ICResp may follow (Transport 3.4, "Initialization")."""
    READY = 2
    CLOSED = 3
    """A TermReq crossed, or the peer closed: whatever comes is dropped."""


CONNECTION: dict[State, dict[type[Pdu], State]] = {
    State.NEW: {ICReq: State.INITIALIZING, TermReq: State.CLOSED},
    State.INITIALIZING: {ICResp: State.READY, TermReq: State.CLOSED},
    State.READY: {
        CapsuleCmd: State.READY,
        CapsuleResp: State.READY,
        H2CData: State.READY,
        C2HData: State.READY,
        R2T: State.READY,
        TermReq: State.CLOSED,
    },
    State.CLOSED: {},
}


class CommandState(enum.IntEnum):
    """One command between its capsule and its completion."""

    ACCEPTED = 0
    """The controller has the command, and no transfer is under way."""
    SOLICITED = 1
    """At least one R2T is not answered in full."""
    RETURNING = 2
    """C2HData began and its last PDU is outstanding."""
    RETURNED = 3
    """All C2HData went; only the response is missing."""
    DONE = 4


class Step(enum.IntEnum):
    """What a PDU means for its command."""

    SOLICIT = 0
    DATA_OUT = 1
    DATA_OUT_END = 2
    """The last byte of the last R2T that was outstanding."""
    DATA_IN = 3
    DATA_IN_LAST = 4
    DATA_IN_SUCCESS = 5
    """The last data with SUCCESS set: no response follows (Transport, "C2HData PDU")."""
    RESPOND = 6


COMMAND: dict[CommandState, dict[Step, CommandState]] = {
    CommandState.ACCEPTED: {
        Step.SOLICIT: CommandState.SOLICITED,
        Step.DATA_IN: CommandState.RETURNING,
        Step.DATA_IN_LAST: CommandState.RETURNED,
        Step.DATA_IN_SUCCESS: CommandState.DONE,
        Step.RESPOND: CommandState.DONE,
    },
    CommandState.SOLICITED: {
        Step.SOLICIT: CommandState.SOLICITED,
        Step.DATA_OUT: CommandState.SOLICITED,
        Step.DATA_OUT_END: CommandState.ACCEPTED,
    },
    CommandState.RETURNING: {
        Step.DATA_IN: CommandState.RETURNING,
        Step.DATA_IN_LAST: CommandState.RETURNED,
        Step.DATA_IN_SUCCESS: CommandState.DONE,
    },
    CommandState.RETURNED: {Step.RESPOND: CommandState.DONE},
    CommandState.DONE: {},
}
