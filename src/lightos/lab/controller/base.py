# SPDX-License-Identifier: Apache-2.0
"""The controller that a host's queues belong to: what I/O and discovery have in common.

Commands are found in tables of methods; a kind of controller adds rows to them. All of it
runs on the event loop, so a command sees one state of the cluster from start to end.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, ClassVar, NamedTuple, Protocol

from lightos.lab.controller.events import MAX_REQUESTS, AsyncEvents
from lightos.lab.controller.outcome import HELD, Held, Outcome
from lightos.nvme_tcp.commands import Command, Completion
from lightos.nvme_tcp.constants import (
    ADMIN_IN_CAPSULE_BYTES,
    AEC_BIT,
    COMMAND_BYTES,
    AdminOpcode,
    AsyncEvent,
    Cns,
    ControllerType,
    FabricsType,
    Feature,
    LogPage,
    Property,
    Status,
)
from lightos.nvme_tcp.errors import CommandFailed
from lightos.nvme_tcp.structures import ConnectData, IdentifyController

logger = logging.getLogger(__name__)

MODEL = "LightOS lab"
FIRMWARE = metadata.version("lightos-openstack").partition(".dev")[0][:8]
VERSION = 0x00010400
"""NVM Express 1.4, the VS property."""
MAX_QUEUE_ENTRIES = 128
PAGE_BYTES = 4096
MAX_TRANSFER_SHIFT = 8
MAX_TRANSFER_BYTES = PAGE_BYTES << MAX_TRANSFER_SHIFT
KEEP_ALIVE_GRANULARITY_MS = 100

CAP = (MAX_QUEUE_ENTRIES - 1) | 1 << 16 | 15 << 24 | 1 << 37
"""MQES; contiguous queues; ready within 7.5 s; NVM command set; 4 KiB pages only."""
_CC_ENABLE = 1 << 0
_CC_UNSUPPORTED = 0b111 << 4 | 0b1111 << 7 | 0b111 << 11
"""CSS, MPS and AMS: only zero of each is offered."""
_CC_ENTRY_SIZES = 0xFF << 16
_CC_64_AND_16_BYTES = 6 << 16 | 4 << 20
"""IOSQES and IOCQES: the only entry sizes of the NVM command set."""
_CC_SHUTDOWN = 0b11 << 14
_CSTS_READY = 1 << 0
_CSTS_FATAL = 1 << 1
_CSTS_SHUTDOWN_COMPLETE = 0b10 << 2

_SELECT_CURRENT, _SELECT_DEFAULT, _SELECT_SAVED, _SELECT_CAPABILITIES = range(4)
_CAPABILITY_NAMESPACE_SPECIFIC = 1 << 1
_CAPABILITY_CHANGEABLE = 1 << 2


class CommandQueue(Protocol):
    """A queue as the controller sees it that it belongs to."""

    queue_id: int
    late_since: int | None
    """The `Controller.moment` when the commands that are run now came, if that is long ago."""

    def abort(self) -> None:
        """Drop the connection now, whatever is outstanding."""

    def close_after_responses(self) -> None:
        """Close once the output of the command being executed is written."""

    def complete_held(self, completion: Completion) -> None:
        """Complete a command whose handler returned HELD, unless it is gone."""

    def drop(self, cid: int) -> None:
        """Forget a held command that will never complete."""

    def fail(self, concerns: Callable[[Command], bool], failed: CommandFailed) -> None:
        """End the outstanding commands that `concerns` is true of."""

    def awaits(self, command: Command) -> bool:
        """Whether this very command, which ends later, has not ended for its host yet."""


Handler = Callable[[Any, CommandQueue, Command], Outcome]
LogHandler = Callable[[Any, Command], bytes]


class NamespaceFeature(NamedTuple):
    """A feature, 0 by default, that each namespace has for itself.

    `get(controller, nsid)` and `set(controller, nsid, value)` raise CommandFailed.
    """

    get: Callable[[Any, int], int]
    set: Callable[[Any, int, int], Outcome]


class Controller:
    """One association between a host and this node (Base, "Associations").

    It begins with Connect of the admin queue and ends when that connection does.
    """

    kind: ClassVar[ControllerType]
    async_events: ClassVar[tuple[AsyncEvent, ...]]
    idle_timeout_ms: ClassVar[int] = 0
    """How long a host without keep alive timeout may be silent; 0: for ever."""
    io_queue_limit = 0
    """I/O queues that the host may connect, as negotiated by Number of Queues."""
    changeable_features: ClassVar[Mapping[int, int]] = {}
    """Dword 11 by default of features that the host may set and only it cares about."""

    def __init__(
        self,
        *,
        controller_id: int,
        connect: ConnectData,
        host_address: str,
        keep_alive_ms: int,
        ended: Callable[[int], None],
    ) -> None:
        self.controller_id = controller_id
        self.host_nqn = connect.host_nqn
        self.host_id = connect.host_id
        self.host_address = host_address
        self.subsystem_nqn = connect.subsystem_nqn
        self.queues: dict[int, CommandQueue] = {}
        self.configuration = 0
        self.status = 0
        self.keep_alive_ms = 0
        self.events = AsyncEvents(self._complete_event)
        self._features = dict(self.changeable_features)
        self._ended = ended
        self._heard = False
        self._timer: asyncio.TimerHandle | None = None
        self._set_keep_alive(keep_alive_ms)

    def __str__(self) -> str:
        return f"controller {self.controller_id:#06x} of host {self.host_nqn}"

    # ---- life

    @property
    def ready(self) -> bool:
        """Whether it is enabled, and neither failed nor shut down."""
        return self.status == _CSTS_READY

    def queue_closed(self, queue: CommandQueue) -> None:
        """A connection ended; without its admin queue a controller is gone."""
        if self.queues.get(queue.queue_id) is not queue:
            return
        del self.queues[queue.queue_id]
        if queue.queue_id == 0:
            self.close()

    def close(self) -> None:
        """End every connection of the association."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue in list(self.queues.values()):
            queue.abort()
        self.queues.clear()
        self._ended(self.controller_id)

    def moment(self) -> int:
        """Rises with what a command that comes before may not outlive."""
        return 0

    def freeze(self) -> None:
        """Time stands still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def thaw(self) -> None:
        """Time goes on; how long the host was silent is not known."""
        self._restart_keep_alive()

    def _set_keep_alive(self, timeout_ms: int) -> None:
        step = KEEP_ALIVE_GRANULARITY_MS
        self.keep_alive_ms = -(-timeout_ms // step) * step
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._restart_keep_alive()

    def _restart_keep_alive(self) -> None:
        self._heard = False
        timeout_ms = self.keep_alive_ms or self.idle_timeout_ms
        if timeout_ms:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout_ms / 1000, self._keep_alive_expired)

    def _keep_alive_expired(self) -> None:
        # Traffic based keep alive: any command in the interval restarts it (CTRATT.TBKAS).
        if self._heard:
            self._restart_keep_alive()
            return
        logger.warning("%s was silent for its keep alive timeout; disconnecting", self)
        self.status |= _CSTS_FATAL
        self.close()

    # ---- commands

    def execute(self, queue: CommandQueue, command: Command) -> Outcome:
        """Run one command; raises CommandFailed for the status it is to complete with."""
        self._heard = True
        if command.opcode == AdminOpcode.FABRICS:
            handler = self.fabrics_commands.get(command.fabrics_type)
        elif not self.ready:
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        elif queue.queue_id:
            handler = self.io_commands.get(command.opcode)
        else:
            handler = self.admin_commands.get(command.opcode)
        if handler is None:
            raise CommandFailed(Status.INVALID_OPCODE)
        if command.transfer_bits and command.data_length > MAX_TRANSFER_BYTES:
            # Base, "Identify Controller Data Structure", MDTS.
            raise CommandFailed(Status.INVALID_FIELD)
        return handler(self, queue, command)

    # ---- fabrics commands (Base, "Fabrics Command Set")

    def _connect_again(self, _queue: CommandQueue, _command: Command) -> Outcome:
        raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)

    def _property_get(self, queue: CommandQueue, command: Command) -> int:
        _require_admin(queue)
        wide = command.cdw10 & 7 == 1
        match command.cdw11:
            case Property.CAP if wide:
                return CAP
            case Property.VS if not wide:
                return VERSION
            case Property.CC if not wide:
                return self.configuration
            case Property.CSTS if not wide:
                return self.status
        # `nvme show-regs` passes over a property that is not there only without DNR.
        raise CommandFailed(Status.INVALID_FIELD, do_not_retry=False)

    def _property_set(self, queue: CommandQueue, command: Command) -> int:
        _require_admin(queue)
        if command.cdw11 != Property.CC or command.cdw10 & 7:
            raise CommandFailed(Status.INVALID_FIELD)
        self._configure(command.cdw12)
        return 0

    def _disconnect(self, queue: CommandQueue, command: Command) -> int:
        """Deletes an I/O queue: its connection closes once the response is out."""
        if queue.queue_id == 0:
            raise CommandFailed(Status.INVALID_QUEUE_TYPE)
        if command.cdw10 & 0xFFFF:
            raise CommandFailed(Status.CONNECT_INCOMPATIBLE_FORMAT)
        queue.close_after_responses()
        return 0

    def _configure(self, value: int) -> None:
        """Controller Configuration was written (Base, "Controller Configuration")."""
        if value & _CC_ENABLE:
            self._check_configuration(value)
        was_enabled = self.configuration & _CC_ENABLE
        self.configuration = value
        if was_enabled and not value & _CC_ENABLE:
            self._reset()
        elif value & _CC_ENABLE and not was_enabled:
            self.status = _CSTS_READY
        if value & _CC_SHUTDOWN:
            self.status |= _CSTS_SHUTDOWN_COMPLETE
            logger.info("%s shut down", self)

    def _check_configuration(self, value: int) -> None:
        """Raise CommandFailed for what a host may not enable the controller with."""
        if value & _CC_UNSUPPORTED:
            raise CommandFailed(Status.INVALID_FIELD)
        # Entry sizes are those of I/O queues, which a discovery controller does not have.
        if self.io_queue_limit and value & _CC_ENTRY_SIZES != _CC_64_AND_16_BYTES:
            raise CommandFailed(Status.INVALID_FIELD)

    def _reset(self) -> None:
        """Controller Level Reset: I/O queues are deleted, features return to defaults."""
        self.status = 0
        for queue_id, queue in list(self.queues.items()):
            if queue_id:
                queue.abort()
        admin = self.queues.get(0)
        for cid in self.events.reset():
            if admin is not None:
                admin.drop(cid)
        self._features = dict(self.changeable_features)

    # ---- admin commands

    def _identify(self, _queue: CommandQueue, command: Command) -> bytes:
        handler = self.identify_pages.get(command.cdw10 & 0xFF)
        if handler is None:
            raise CommandFailed(Status.INVALID_FIELD)
        return handler(self, command)

    def _identify_controller(self, _command: Command) -> bytes:
        return self.identity().encode()

    def identity(self) -> IdentifyController:
        """Identify Controller, as far as every kind of controller says the same."""
        return IdentifyController(
            model_number=MODEL,
            firmware_revision=FIRMWARE,
            max_transfer_shift=MAX_TRANSFER_SHIFT,
            controller_id=self.controller_id,
            version=VERSION,
            async_events=sum(AEC_BIT[event] for event in self.async_events),
            controller_attributes=1 << 0 | 1 << 6,  # 128-bit host id; traffic based keep alive
            controller_type=self.kind,
            abort_limit=3,
            async_event_limit=MAX_REQUESTS - 1,
            firmware_updates=0b011,  # one slot, read-only
            log_page_attributes=0b110,  # commands supported log; offsets in Get Log Page
            keep_alive_granularity=KEEP_ALIVE_GRANULARITY_MS // 100,
            submission_entry_size=0x66,
            completion_entry_size=0x44,
            max_commands=MAX_QUEUE_ENTRIES,
            sgl_support=1 << 0 | 1 << 20 | 1 << 21,  # SGLs; in-capsule offset; transport SGL
            subsystem_nqn=self.subsystem_nqn,
            command_capsule_units=(COMMAND_BYTES + ADMIN_IN_CAPSULE_BYTES) // 16,
            response_capsule_units=1,
            max_sgl_descriptors=1,
            optional_fabrics_commands=1,  # Disconnect
        )

    def _get_log_page(self, _queue: CommandQueue, command: Command) -> bytes:
        page = command.cdw10 & 0xFF
        handler = self.log_pages.get(page)
        if handler is None:
            raise CommandFailed(Status.INVALID_LOG_PAGE)
        length = 4 * ((command.cdw11 & 0xFFFF) << 16 | command.cdw10 >> 16) + 4
        offset = command.cdw13 << 32 | command.cdw12
        if offset % 4:
            raise CommandFailed(Status.INVALID_FIELD)
        if length > command.data_length:
            # Before the handler: reading some logs clears what they hold.
            raise CommandFailed(Status.DATA_SGL_LENGTH_INVALID)
        log = handler(self, command)
        if offset > len(log):
            raise CommandFailed(Status.INVALID_FIELD)
        if not command.cdw10 & 1 << 15:
            self.log_page_read(page)
        return log[offset : offset + length].ljust(length, b"\0")

    def log_page_read(self, page: int) -> None:
        """A log page went to the host, which did not ask to retain its event."""
        self.events.log_page_read(page)

    def _supported_log_pages(self, _command: Command) -> bytes:
        return _bitmap(self.log_pages, 256)

    def _commands_supported(self, _command: Command) -> bytes:
        return (_bitmap(self.admin_commands, 256) + _bitmap(self.io_commands, 256)).ljust(
            4096, b"\0"
        )

    def _error_log(self, _command: Command) -> bytes:
        # Entries with error count 0 are invalid: nothing that a completion did not say.
        return bytes(64)

    def _firmware_log(self, _command: Command) -> bytes:
        return struct.pack("<B7x8s496x", 1, FIRMWARE.encode())

    def _get_features(self, _queue: CommandQueue, command: Command) -> int | bytes:
        number, select = command.cdw10 & 0xFF, command.cdw10 >> 8 & 7
        if select > _SELECT_CAPABILITIES:
            raise CommandFailed(Status.INVALID_FIELD)
        if number == Feature.HOST_IDENTIFIER:
            return self._get_host_identifier(command, select)
        if number in self.namespace_features:
            if select == _SELECT_CAPABILITIES:
                return _CAPABILITY_CHANGEABLE | _CAPABILITY_NAMESPACE_SPECIFIC
            value = self.namespace_features[number].get(self, command.nsid)
            return value if select == _SELECT_CURRENT else 0
        defaults = self._default_features()
        if number not in defaults:
            raise CommandFailed(Status.INVALID_FIELD)
        if select == _SELECT_CAPABILITIES:
            return _CAPABILITY_CHANGEABLE
        if select in (_SELECT_DEFAULT, _SELECT_SAVED):
            return defaults[number]
        return self._current_feature(number)

    def _get_host_identifier(self, command: Command, select: int) -> int | bytes:
        if select == _SELECT_CAPABILITIES:
            return 0
        if not command.cdw11 & 1:
            # Over fabrics the identifier is always the extended, 128-bit one.
            raise CommandFailed(Status.INVALID_FIELD)
        return self.host_id

    def _default_features(self) -> dict[int, int]:
        return {
            **self.changeable_features,
            Feature.ASYNC_EVENT_CONFIGURATION: 0,
            Feature.KEEP_ALIVE_TIMER: 0,
        }

    def _current_feature(self, number: int) -> int:
        match number:
            case Feature.ASYNC_EVENT_CONFIGURATION:
                return self.events.enabled
            case Feature.KEEP_ALIVE_TIMER:
                return self.keep_alive_ms
        return self._features[number]

    def _set_features(self, queue: CommandQueue, command: Command) -> Outcome:
        number, value = command.cdw10 & 0xFF, command.cdw11
        if command.cdw10 & 1 << 31:
            raise CommandFailed(Status.FEATURE_NOT_SAVEABLE)
        if number == Feature.HOST_IDENTIFIER:
            # Connect set it; Base, "Host Identifier (Feature Identifier 81h)".
            raise CommandFailed(Status.COMMAND_SEQUENCE_ERROR)
        if number in self.namespace_features:
            return self.namespace_features[number].set(self, command.nsid, value)
        if number not in self._default_features():
            raise CommandFailed(Status.INVALID_FIELD)
        return self.set_feature(queue, number, value)

    def set_feature(self, _queue: CommandQueue, number: int, value: int) -> int:
        """Apply one feature that the table of defaults knows; returns the result."""
        match number:
            case Feature.ASYNC_EVENT_CONFIGURATION:
                self.events.enabled = value
            case Feature.KEEP_ALIVE_TIMER:
                self._set_keep_alive(value)
            case _:
                self._features[number] = value
        return 0

    def _async_event_request(self, _queue: CommandQueue, command: Command) -> Held:
        self.events.request(command.cid)
        return HELD

    def _complete_event(self, cid: int, result: int) -> None:
        # Deferred: the request that an event completes may be the one being executed.
        admin = self.queues.get(0)
        if admin is not None:
            asyncio.get_running_loop().call_soon(admin.complete_held, Completion(cid, 0, result))

    def _abort(self, _queue: CommandQueue, command: Command) -> int:
        """Only event requests are aborted: other commands end soon, or when it is their turn."""
        queue_id, cid = command.cdw10 & 0xFFFF, command.cdw10 >> 16
        admin = self.queues.get(0)
        if queue_id or admin is None or not self.events.abort(cid):
            return 1
        admin.complete_held(Completion(cid, Status.ABORT_REQUESTED))
        return 0

    def _keep_alive(self, _queue: CommandQueue, _command: Command) -> int:
        return 0

    fabrics_commands: ClassVar[Mapping[int, Handler]] = {
        FabricsType.CONNECT: _connect_again,
        FabricsType.PROPERTY_GET: _property_get,
        FabricsType.PROPERTY_SET: _property_set,
        FabricsType.DISCONNECT: _disconnect,
    }
    admin_commands: ClassVar[Mapping[int, Handler]] = {
        AdminOpcode.GET_LOG_PAGE: _get_log_page,
        AdminOpcode.IDENTIFY: _identify,
        AdminOpcode.ABORT: _abort,
        AdminOpcode.SET_FEATURES: _set_features,
        AdminOpcode.GET_FEATURES: _get_features,
        AdminOpcode.ASYNC_EVENT_REQUEST: _async_event_request,
        AdminOpcode.KEEP_ALIVE: _keep_alive,
    }
    io_commands: ClassVar[Mapping[int, Handler]] = {}
    namespace_features: ClassVar[Mapping[int, NamespaceFeature]] = {}
    identify_pages: ClassVar[Mapping[int, LogHandler]] = {Cns.CONTROLLER: _identify_controller}
    log_pages: ClassVar[Mapping[int, LogHandler]] = {
        LogPage.SUPPORTED: _supported_log_pages,
        LogPage.ERROR_INFORMATION: _error_log,
        LogPage.FIRMWARE_SLOT: _firmware_log,
        LogPage.COMMANDS_SUPPORTED: _commands_supported,
    }


def _require_admin(queue: CommandQueue) -> None:
    if queue.queue_id:
        raise CommandFailed(Status.INVALID_FIELD)


def _bitmap(numbers: Iterable[int], size: int) -> bytes:
    """`size` dwords with bit 0 (supported) set in those that `numbers` names."""
    supported = set(numbers)
    return struct.pack(f"<{size}I", *(int(number in supported) for number in range(size)))
