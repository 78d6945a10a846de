# SPDX-License-Identifier: Apache-2.0
"""Writes that a node has received and not carried out yet, as the fault plan asks.

They outlive their connection, as what lies in a node's own queues does: whether they may still
be done is decided when they are. One whose command has ended for its host meanwhile (aborted, or
its queue gone) is refused, because the host may have sent it again and written something newer.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine

from lightos.lab.controller.outcome import GatherSink, Later, Sink
from lightos.lab.traffic import Traffic
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.errors import CommandFailed

LOG = logging.getLogger(__name__)


class HeldWrites:
    """The held writes of one node."""

    def __init__(self, node_name: str, traffic: Traffic) -> None:
        self.holding = False
        self._node_name = node_name
        self._traffic = traffic
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Hold what comes in from now on."""
        self.holding = True
        self._released = asyncio.Event()

    def release(self) -> None:
        """Carry out what is held, and hold nothing more."""
        self.holding = False
        self._released.set()

    def drop(self) -> None:
        """Forget what is held, as a node does that dies."""
        self.holding = False
        for task in self._tasks:
            task.cancel()

    def take(self, command: Command, sink: Sink) -> Sink:
        """Hold a write that `sink` would carry out, once its data is here."""
        return GatherSink(command, command.data_length, functools.partial(self._keep, sink))

    def _keep(self, sink: Sink, data: bytes) -> Later:
        self._traffic.note_held_write()
        task = asyncio.get_running_loop().create_task(self._carry_out(sink, data, self._released))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return _outcome(task)

    async def _carry_out(self, sink: Sink, data: bytes, released: asyncio.Event) -> None:
        await released.wait()
        sink.write(data)
        outcome = sink.finish()
        if isinstance(outcome, Coroutine):
            await outcome

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(failed := task.exception(), CommandFailed):
            LOG.info("%s: a write that was held is refused: %s", self._node_name, failed)


async def _outcome(task: asyncio.Task[None]) -> None:
    """How it ends, for a connection that lasts so long; the end of that does not end it."""
    await asyncio.shield(task)
