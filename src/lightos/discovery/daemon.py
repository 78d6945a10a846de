# SPDX-License-Identifier: Apache-2.0
"""The daemon: discovery files in, kernel controllers out.

One event loop. Anything that may change the picture (a file, a discovery log, a device of the
kernel, a timer) pokes `_reconcile`, which looks at everything afresh; what blocks in the
kernel runs in threads. Stopping ends the discovery sessions and leaves the kernel's
controllers alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from lightos.discovery import autodetect, kernel
from lightos.discovery.config import Config
from lightos.discovery.controller import SessionSettings
from lightos.discovery.desired import Cluster, ControllerPath, Demand, demands
from lightos.discovery.entries import DiscoveryEntry, LineError
from lightos.discovery.follower import ClusterFollower, pauses
from lightos.discovery.known_services import KnownServices
from lightos.discovery.ledger import Ledger
from lightos.discovery.logs import about
from lightos.discovery.reconcile import KernelController, reconcile
from lightos.discovery.status import Status, StatusServer
from lightos.discovery.uevents import Uevents
from lightos.discovery.usage import use_of
from lightos.discovery.watch import DiscoveryFolder, FolderLost, read_folder

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_SECONDS = 10.0
"""The kernel's controllers are looked at this often even if no uevent came."""
_FOLDER_RETRY_SECONDS = 1.0
_BURST_SECONDS = 0.1
"""A change of the folder counts at once; those that follow it for so long count together."""
_CONCURRENT_KERNEL_CALLS = 16
_CONCURRENT_CONNECTS_PER_CLUSTER = 8
"""So that a cluster whose nodes are all silent, or that lists thousands, holds up no other."""
_BAD_LINES_TOLD = 20
"""Of those that are new at a time."""


class StartError(Exception):
    """The daemon cannot start; the message says why and what to do."""


@dataclass
class _Following:
    """A follower, its task, and when this cluster's failed connects are tried again."""

    follower: ClusterFollower
    task: asyncio.Task[None]
    waits: Iterator[float]
    not_before: float = 0.0
    connects: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_CONCURRENT_CONNECTS_PER_CLUSTER)
    )


class DiscoveryClient:
    """Everything the daemon knows. `run` does the work; `stop` ends it."""

    def __init__(
        self,
        config: Config,
        *,
        fabrics_device: Path = kernel.FABRICS_DEVICE,
        sysfs_root: Path = kernel.SYSFS_ROOT,
    ) -> None:
        self._config = config
        self._fabrics_device = fabrics_device
        self._sysfs_root = sysfs_root
        self._ledger = Ledger(config.ledger_path)
        self._known_services = KnownServices(config.known_services_path)
        self._entries: Mapping[str, tuple[DiscoveryEntry, ...]] = {}
        self._demands_known = False
        """Not until the folder and all its files could be read: nothing is unwanted till then."""
        self._bad_lines: tuple[LineError, ...] = ()
        self._following: dict[Cluster, _Following] = {}
        self._unwanted_since: dict[Cluster, float] = {}
        self._busy: set[ControllerPath] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._poke = asyncio.Event()
        self._stop = asyncio.Event()
        self._kernel_calls = asyncio.Semaphore(_CONCURRENT_KERNEL_CALLS)
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._last_failures: dict[ControllerPath, str] = {}
        self.status = Status()
        """Latest snapshot; safe to read from any thread."""

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()
        self._poke.set()

    def refresh(self) -> None:
        """Ask every cluster again, now."""
        for following in self._following.values():
            following.not_before = 0.0
            following.follower.refresh()
        self._poke.set()

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Follow the folder and the clusters until `stop`. `on_ready` is called once."""
        # A group, so that a defect in any task ends the daemon instead of half of it.
        async with asyncio.TaskGroup() as self._group:
            self._track(self._follow_folder(on_ready))
            try:
                with contextlib.ExitStack() as stack:
                    self._watch_devices(stack)
                    while not self._stop.is_set():
                        pause = self._reconcile()
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(pause):
                                await self._poke.wait()
                        self._poke.clear()
            finally:
                for task in self._tasks:
                    task.cancel()

    def _track(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- what wakes us

    def _watch_devices(self, stack: contextlib.ExitStack) -> None:
        try:
            uevents = stack.enter_context(Uevents(kernel.is_controller))
        except OSError as error:
            LOG.info("no device announcements (%s); looking every few seconds", error.strerror)
            return

        def announced() -> None:
            if uevents.drain():
                self._poke.set()

        loop = asyncio.get_running_loop()
        loop.add_reader(uevents.fileno(), announced)
        stack.callback(loop.remove_reader, uevents.fileno())

    async def _follow_folder(self, on_ready: Callable[[], None]) -> None:
        """Keep the demands current. A folder that is lost keeps saying what it said last."""
        path = self._config.discovery_dir
        ready = False
        while True:
            try:
                with DiscoveryFolder(path) as folder:
                    self._take(folder)
                    if not ready:
                        ready = True
                        on_ready()
                    while True:
                        await _readable(folder.fileno())
                        if folder.refresh():
                            self._take(folder)
                            await asyncio.sleep(_BURST_SECONDS)
            except FolderLost as error:
                LOG.error("%s; keeping what its files said until it is back", error)
            except OSError as error:
                LOG.debug("%s: %s", path, error.strerror)
            await asyncio.sleep(_FOLDER_RETRY_SECONDS)

    def _take(self, folder: DiscoveryFolder) -> None:
        """Start, update and stop followers after what the files say now."""
        known = frozenset(self._bad_lines)
        news = [error for error in folder.errors if error not in known]
        for error in news[:_BAD_LINES_TOLD]:
            where = about("bad line", file=error.source, line=error.line_number)
            LOG.error("%s/%s", self._config.discovery_dir, error, extra=where)
        if len(news) > _BAD_LINES_TOLD:
            more = len(news) - _BAD_LINES_TOLD
            LOG.error("%s: %d more bad lines", self._config.discovery_dir, more)
        if folder.errors != self._bad_lines and not folder.is_understood:
            LOG.warning(
                "%s: what files with errors asked for before is not known; nothing is "
                "disconnected until they are corrected or removed",
                self._config.discovery_dir,
            )
        self._bad_lines = folder.errors
        self._entries = folder.entries
        self._demands_known = folder.is_understood
        wanted = demands(self._entries)
        for cluster in self._following.keys() - wanted.keys():
            what = about("unwanted", cluster)
            LOG.info("no file wants %s any more", cluster.subsystem_nqn, extra=what)
            self._following.pop(cluster).task.cancel()
        for cluster, demand in wanted.items():
            if cluster in self._following:
                self._following[cluster].not_before = 0.0
                self._following[cluster].follower.update(demand)
            else:
                self._start_following(cluster, demand)
        self._poke.set()

    def _start_following(self, cluster: Cluster, demand: Demand) -> None:
        longest = self._config.reconnect_interval_seconds
        follower = ClusterFollower(
            cluster,
            demand,
            settings=self._session_settings,
            on_news=self._poke.set,
            known_services=self._known_services,
            longest_pause_seconds=longest,
        )
        task = self._track(follower.run())
        self._following[cluster] = _Following(follower, task, pauses(longest))

    def _session_settings(self, cluster: Cluster, demand: Demand) -> SessionSettings:
        return SessionSettings(cluster.host_nqn, self._host_id(cluster.host_nqn, demand.host_id))

    def _host_id(self, host_nqn: str, requested: UUID | None) -> UUID:
        return kernel.choose_host_id(
            host_nqn, requested, self._config.host_id_path, self._sysfs_root
        )

    # ---- what we do

    def _reconcile(self) -> float:
        """Compare and act. Returns how many seconds from now to look again at the latest."""
        now = asyncio.get_running_loop().time()
        actual = kernel.read_controllers(self._sysfs_root)
        wanted: set[ControllerPath] = set()
        pause = _LOOK_SECONDS
        for following in self._following.values():
            if following.not_before <= now:
                wanted |= following.follower.wanted
            else:
                pause = min(pause, following.not_before - now)
        actions = reconcile(
            wanted,
            actual,
            demanded=self._following.keys(),
            made_here=self._ledger.paths if self._demands_known else frozenset(),
        )
        for path in actions.connect:
            if path not in self._busy:
                self._begin(path, self._connect(path, self._following[path.cluster]))
        due = {c.path.cluster: now for c in actions.disconnect} | self._unwanted_since
        self._unwanted_since = {c.path.cluster: due[c.path.cluster] for c in actions.disconnect}
        for controller in actions.disconnect:
            left = due[controller.path.cluster] + self._config.disconnect_delay_seconds - now
            if left > 0:
                pause = min(pause, left)
            elif controller.path not in self._busy:
                self._begin(controller.path, self._disconnect(controller))
        self._forget_vanished(actual)
        self._publish_status(actual)
        return pause

    def _begin(self, path: ControllerPath, work: Coroutine[None, None, None]) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            self._busy.discard(path)
            self._poke.set()

        self._busy.add(path)
        self._track(work).add_done_callback(ended)

    async def _connect(self, path: ControllerPath, following: _Following) -> None:
        demand = following.follower.demand
        try:
            host_id = self._host_id(path.cluster.host_nqn, demand.host_id)
            options = self._config.connect_options(demand.ctrl_loss_timeout_seconds)
            async with following.connects, self._kernel_calls:
                if path not in self._wanted_of(following):
                    return
                self._ledger.add(path)
                name = await _in_thread(
                    lambda: kernel.connect(path, host_id, options, self._fabrics_device)
                )
        except kernel.AlreadyConnected:
            self._disown([path])
            self._postpone(following)
        except (kernel.KernelError, OSError) as error:
            self._connect_failed(following, path, error)
        else:
            self._counts["connects"] += 1
            self._problem = ""
            self._last_failures.pop(path, None)
            following.waits = pauses(self._config.reconnect_interval_seconds)
            LOG.info(
                "%s: connected %s as %s",
                path.cluster.subsystem_nqn,
                path.endpoint,
                name,
                extra=about("connected", path.cluster, path.endpoint, controller=name),
            )

    def _wanted_of(self, following: _Following) -> frozenset[ControllerPath]:
        """What is wanted of a cluster now: nothing, once no file asks for it."""
        follower = following.follower
        current = self._following.get(follower.cluster)
        return follower.wanted if current is following else frozenset()

    def _connect_failed(
        self, following: _Following, path: ControllerPath, error: Exception
    ) -> None:
        self._counts["connect_failures"] += 1
        if isinstance(error, kernel.FabricsUnavailable | kernel.Unsupported):
            self._problem = str(error)
        self._postpone(following)
        # The first failure is news; the same one again, every few seconds, is not.
        known = self._last_failures.get(path) == str(error)
        what = about("connect failed", path.cluster, path.endpoint)
        LOG.log(logging.DEBUG if known else logging.ERROR, "%s", error, extra=what)
        self._last_failures[path] = str(error)

    @staticmethod
    def _postpone(following: _Following) -> None:
        """Leave this cluster's connects alone for a while, once for all that fail together."""
        now = asyncio.get_running_loop().time()
        if following.not_before <= now:
            following.not_before = now + next(following.waits)

    async def _disconnect(self, controller: KernelController) -> None:
        path = controller.path
        where = f"{path.cluster.subsystem_nqn}: {path.endpoint}"

        def what(event: str) -> dict[str, object]:
            return about(event, path.cluster, path.endpoint, controller=controller.name)

        try:
            async with self._kernel_calls:
                if path.cluster in self._following or not self._demands_known:
                    return
                if not await _in_thread(lambda: self._disconnect_unless_used(controller)):
                    return
        except kernel.KernelError as error:
            # The first refusal is news; the same one again, every few seconds, is not.
            level = (
                logging.DEBUG if self._last_failures.get(path) == str(error) else logging.WARNING
            )
            LOG.log(level, "%s: %s", where, error, extra=what("not disconnected"))
            self._last_failures[path] = str(error)
            now = asyncio.get_running_loop().time()
            self._unwanted_since[path.cluster] = now + _LOOK_SECONDS
        else:
            self._counts["disconnects"] += 1
            LOG.info("%s: disconnected %s", where, controller.name, extra=what("disconnected"))

    def _disconnect_unless_used(self, controller: KernelController) -> bool:
        """False if a file asks for its cluster again. Raises KernelError for one in use."""
        used = use_of(controller.path.cluster.subsystem_nqn, self._sysfs_root)
        if used:
            raise kernel.KernelError(f"no file wants it, but it stays connected: {used}")
        # A volume that is attached again now has its device at once, and would lose it.
        with contextlib.suppress(OSError):
            files = read_folder(self._config.discovery_dir)
            if controller.path.cluster in demands({n: file.entries for n, file in files.items()}):
                return False
        kernel.disconnect(controller, self._sysfs_root)
        return True

    def _forget_vanished(self, actual: list[KernelController]) -> None:
        """Drop from the ledger what the kernel gave up itself and nobody is about to remake."""
        present = {controller.path for controller in actual}
        wanted = frozenset().union(*(f.follower.wanted for f in self._following.values()))
        self._disown(self._ledger.paths - present - wanted - self._busy)

    def _disown(self, paths: Collection[ControllerPath]) -> None:
        for path in paths:
            self._last_failures.pop(path, None)
        try:
            self._ledger.discard(paths)
        except OSError as error:
            LOG.warning("%s: %s", self._config.internal_dir, error.strerror)

    def _publish_status(self, actual: list[KernelController]) -> None:
        states = Counter(controller.state for controller in actual)
        self.status = Status(
            clusters=tuple(f.follower.status for _, f in sorted(self._following.items())),
            entry_count=sum(len(entries) for entries in self._entries.values()),
            bad_line_count=len(self._bad_lines),
            controllers_by_state=tuple(sorted(states.items())),
            connected_paths=frozenset(c.path for c in actual if not c.is_ending),
            connects=self._counts["connects"],
            connect_failures=self._counts["connect_failures"],
            disconnects=self._counts["disconnects"],
            problem=self._problem,
        )


async def _readable(descriptor: int) -> None:
    """Return when there is something to read.

    It is not watched afterwards: until somebody reads, the loop would be told so without pause.
    """
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, readable.set_result, None)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run `call` in a thread that does not keep the process alive.

    A connect to a node that just died blocks in the kernel for a minute or two; the loop's
    own executor would hold up the daemon's exit for as long.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[], None]) -> None:
        if not future.done():
            setter()

    def work() -> None:
        setter: Callable[[], None]
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - handed to the awaiting task
            failure = error
            setter = lambda: future.set_exception(failure)  # noqa: E731
        else:
            setter = lambda: future.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, setter)

    threading.Thread(target=work, daemon=True).start()
    return future


def serve(config: Config) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT. Raises `StartError`."""
    try:
        kernel.check_available()
        for folder in (config.discovery_dir, config.internal_dir):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if config.auto_detect:
            autodetect.detect(config)
    except kernel.FabricsUnavailable as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}") from None
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    client = DiscoveryClient(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, client.stop)
    loop.add_signal_handler(signal.SIGHUP, client.refresh)
    with contextlib.ExitStack() as stack:
        if config.status_enabled:
            try:
                server = StatusServer(config.status_endpoint, lambda: client.status)
            except OSError as error:
                raise StartError(
                    f"cannot listen on {config.status_endpoint}: {error.strerror}; is another "
                    "discovery client running? Else set debug.endpoint"
                ) from None
            stack.enter_context(server)
        await client.run(on_ready=notify_systemd)


def notify_systemd() -> None:
    """Readiness for `Type=notify` (sd_notify(3)); nothing outside systemd."""
    LOG.info("ready")
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.connect("\0" + address[1:] if address.startswith("@") else address)
        notifier.send(b"READY=1")
