# SPDX-License-Identifier: Apache-2.0
"""A listening address, and Connect: which host gets which controller there."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from lightos.lab.controller.base import MAX_QUEUE_ENTRIES, Controller
from lightos.lab.controller.queue import Queue
from lightos.lab.silence import Silence
from lightos.nvme_tcp.commands import Command
from lightos.nvme_tcp.constants import (
    DYNAMIC_CONTROLLER_ID,
    NQN_MAX_BYTES,
    Status,
)
from lightos.nvme_tcp.errors import CommandFailed, MalformedStructure
from lightos.nvme_tcp.structures import ConnectData

CONTROLLER_IDS_PER_PORT = 4096
"""Ids from `first_controller_id` on that belong to one port; nodes never share any."""
MAX_CONTROLLERS = 512
MAX_CONNECTIONS = 4096

# Where a wrong Connect parameter is (IPO), in the command and in its data (IATTR).
_RECORD_FORMAT, _QUEUE_ID, _QUEUE_SIZE, _KEEP_ALIVE = 40, 42, 44, 48
_IN_DATA = 1 << 16
_CONTROLLER_ID, _SUBSYSTEM_NQN, _HOST_NQN = _IN_DATA | 16, _IN_DATA | 256, _IN_DATA | 512


class ControllerFactory(Protocol):
    """Makes the kind of controller that a port serves."""

    def __call__(
        self,
        *,
        controller_id: int,
        connect: ConnectData,
        host_address: str,
        keep_alive_ms: int,
        ended: Callable[[int], None],
    ) -> Controller: ...


class Port:
    """Controllers of one subsystem behind one TCP address."""

    def __init__(
        self,
        *,
        subsystem_nqn: str,
        first_controller_id: int,
        host_may_connect: Callable[[str, str], bool],
        make_controller: ControllerFactory,
        watch: Callable[[Controller, bool], None] = lambda _controller, _connected: None,
    ) -> None:
        """`watch` is told of each controller as it comes (True) and when it is gone (False)."""
        self.subsystem_nqn = subsystem_nqn
        self.controllers: dict[int, Controller] = {}
        self._first_controller_id = first_controller_id
        # A host may still hold an id of this node's former address, and refuses it a second time.
        self._next_controller = random.randrange(CONTROLLER_IDS_PER_PORT)  # noqa: S311
        self._host_may_connect = host_may_connect
        self._make_controller = make_controller
        self._watch = watch
        self._queues: set[Queue] = set()
        self._server: asyncio.Server | None = None
        self._silence = Silence()
        self.frozen = False

    async def listen(self, address: str, port: int) -> None:
        """Accept connections; OSError names the address and port that cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Queue(self), address, port, reuse_address=True, backlog=256
            )
        except OSError as error:
            reason = {
                errno.EADDRINUSE: "the port is in use: stop the other process or use another port",
                errno.EADDRNOTAVAIL: "no interface of this machine has that address",
                errno.EACCES: "not permitted: ports under 1024 need root",
            }.get(error.errno or 0, error.strerror or str(error))
            raise OSError(
                error.errno, f"cannot serve NVMe/TCP on {address} port {port}: {reason}"
            ) from error

    def swallow(self) -> None:
        """Neither accept nor hear nor say anything, as if the network had lost the address."""
        self._silence.begin(self._listeners())
        # Admin queues last: a controller that loses its own resets what connections it has left.
        for queue in sorted(self._queues, key=lambda queue: queue.queue_id, reverse=True):
            self._silence.add(queue.leave())

    def answer(self) -> None:
        """Undo `swallow`; the connections of before are reset."""
        self._silence.end(self._listeners())

    def freeze(self) -> None:
        """Stand still, as a process that is stopped: what comes in is acknowledged and waits."""
        self.frozen = True
        for controller in self.controllers.values():
            controller.freeze()
        for queue in self._queues:
            queue.freeze()

    def thaw(self) -> None:
        """Go on, with what came in meanwhile."""
        self.frozen = False
        for controller in self.controllers.values():
            controller.thaw()
        for queue in list(self._queues):
            queue.thaw()

    def _listeners(self) -> Sequence[socket.socket]:
        return () if self._server is None else self._server.sockets

    async def close(self) -> None:
        """Stop listening and drop every connection at once, as a node that dies does."""
        self._silence.end()
        if self._server is not None:
            self._server.close()
        for controller in list(self.controllers.values()):
            controller.close()
        for queue in list(self._queues):
            queue.abort()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def opened(self, queue: Queue) -> bool:
        """A connection came; False refuses it."""
        if self._server is None or len(self._queues) >= MAX_CONNECTIONS:
            return False
        self._queues.add(queue)
        return True

    def closed(self, queue: Queue) -> None:
        self._queues.discard(queue)

    def connect(self, queue: Queue, command: Command, data: bytes) -> Controller:
        """The controller that Connect gives the queue (Base, "Connect Command").

        Raises CommandFailed, with the wrong parameter's offset for the invalid ones.
        """
        record_format, queue_id = command.cdw10 & 0xFFFF, command.cdw10 >> 16
        if record_format:
            raise CommandFailed(Status.CONNECT_INCOMPATIBLE_FORMAT, result=_RECORD_FORMAT)
        queue_size = (command.cdw11 & 0xFFFF) + 1
        if not 2 <= queue_size <= MAX_QUEUE_ENTRIES:
            raise _invalid(_QUEUE_SIZE)
        try:
            wanted = ConnectData.decode(data)
        except MalformedStructure:
            raise _invalid(_HOST_NQN) from None
        if wanted.subsystem_nqn != self.subsystem_nqn:
            raise _invalid(_SUBSYSTEM_NQN)
        if not wanted.host_nqn.startswith("nqn.") or len(wanted.host_nqn) > NQN_MAX_BYTES:
            raise _invalid(_HOST_NQN)
        if not self._host_may_connect(wanted.host_nqn, queue.host_address):
            raise CommandFailed(Status.CONNECT_INVALID_HOST)
        if queue_id == 0:
            return self._connect_admin(queue, wanted, command.cdw12)
        return self._connect_io(queue, queue_id, wanted)

    def _connect_admin(self, queue: Queue, wanted: ConnectData, keep_alive_ms: int) -> Controller:
        if wanted.controller_id != DYNAMIC_CONTROLLER_ID:
            # Only the dynamic controller model is offered (FCATT bit 0 is zero).
            raise _invalid(_CONTROLLER_ID)
        controller_id = self._free_controller_id()
        controller = self._make_controller(
            controller_id=controller_id,
            connect=wanted,
            host_address=queue.host_address,
            keep_alive_ms=keep_alive_ms,
            ended=self._ended,
        )
        self.controllers[controller_id] = controller
        controller.queues[0] = queue
        self._watch(controller, True)
        return controller

    def _connect_io(self, queue: Queue, queue_id: int, wanted: ConnectData) -> Controller:
        controller = self.controllers.get(wanted.controller_id)
        if controller is None:
            raise _invalid(_CONTROLLER_ID)
        if (controller.host_nqn, controller.host_id) != (wanted.host_nqn, wanted.host_id):
            raise _invalid(_HOST_NQN)
        if not controller.ready:
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        if queue_id > controller.io_queue_limit or queue_id in controller.queues:
            raise _invalid(_QUEUE_ID)
        controller.queues[queue_id] = queue
        return controller

    def _free_controller_id(self) -> int:
        if len(self.controllers) >= MAX_CONTROLLERS:
            raise CommandFailed(Status.CONNECT_CONTROLLER_BUSY, do_not_retry=False)
        # Round robin, so that an id is not another host's again at once.
        while True:
            controller_id = self._first_controller_id + self._next_controller
            self._next_controller = (self._next_controller + 1) % CONTROLLER_IDS_PER_PORT
            if controller_id not in self.controllers:
                return controller_id

    def _ended(self, controller_id: int) -> None:
        if (controller := self.controllers.pop(controller_id, None)) is not None:
            self._watch(controller, False)


def _invalid(parameter: int) -> CommandFailed:
    return CommandFailed(Status.CONNECT_INVALID_PARAMETERS, result=parameter)
