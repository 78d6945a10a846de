# SPDX-License-Identifier: Apache-2.0
"""How a command may end, as its handler tells the queue that carries it.

A handler raises CommandFailed, or returns

* an int: the command succeeded, with this result in completion dwords 0 and 1;
* bytes: it succeeded, and these go to the host (as many as the host has room for);
* a Sink: it waits for the host's data, and ends as the sink's `finish` says;
* a coroutine: it succeeds once that returns;
* Throttled: its volume has a rate limit, and it is not its turn yet;
* HELD: somebody will complete it later (Asynchronous Event Request).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Protocol

from lightos.lab.throttle import Lane
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import Status
from lightos.nvme_tcp.errors import CommandFailed


class Held(enum.Enum):
    HELD = enum.auto()


HELD: Final = Held.HELD
Later = Coroutine[object, object, None]


class Sink(Protocol):
    """Takes the data of a command in order, piece by piece, as it arrives."""

    def write(self, data: bytes) -> None:
        """The next piece; CommandFailed refuses the command, the rest is then dropped."""

    def finish(self) -> int | Later:
        """All data was written."""


@dataclass(frozen=True)
class Throttled:
    """`run` has to wait its turn in `lane`; then it ends as `run` does."""

    lane: Lane
    length_bytes: int
    run: Callable[[], Outcome]


Outcome = int | bytes | Sink | Later | Held | Throttled


class GatherSink:
    """Gathers `length` bytes of a command that needs them whole; more is ignored.

    Raises CommandFailed if the command brings less.
    """

    def __init__(self, command: Command, length: int, then: Callable[[bytes], int | Later]) -> None:
        if command.data_length < length:
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        self._length = length
        self._then = then
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data[: self._length - len(self._data)]

    def finish(self) -> int | Later:
        return self._then(bytes(self._data))
