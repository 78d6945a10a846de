# SPDX-License-Identifier: Apache-2.0
"""Follows one cluster: keeps a session with one of its discovery services, and its latest log.

Services are tried in turn; only when all failed is there a pause, longer each time, with
jitter so that a thousand hosts do not come back in step. One that offers nothing of the
subsystem is left for one that was not asked yet, such as one that it refers to. Those that the
cluster had last come after all that the files lead to. The last log read stays in force while no
service answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator

from lightos.discovery.controller import SessionError, SessionSettings, open_session
from lightos.discovery.desired import (
    Cluster,
    ControllerPath,
    Demand,
    Endpoint,
    Record,
    discovery_endpoints,
    wanted_paths,
)
from lightos.discovery.known_services import KnownServices
from lightos.discovery.logs import about
from lightos.discovery.status import ClusterStatus
from lightos.waiting import backoff

LOG = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.25
_LEAST_SECONDS_BETWEEN_READS = 0.1
"""However many changes are announced."""
_REFRESH_SECONDS = 60.0
"""A log is read again this often even if nothing announced a change."""


def pauses(longest_seconds: float) -> Iterator[float]:
    """Seconds between tries: doubling up to `longest_seconds`, each cut by up to a half."""
    for seconds in backoff(_FIRST_PAUSE_SECONDS, ceiling=longest_seconds):
        yield seconds * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets


class ClusterFollower:
    """What is known of one cluster, and the task that keeps it current (`run`)."""

    def __init__(
        self,
        cluster: Cluster,
        demand: Demand,
        *,
        settings: Callable[[Cluster, Demand], SessionSettings],
        on_news: Callable[[], None],
        known_services: KnownServices,
        longest_pause_seconds: float,
    ) -> None:
        self.cluster = cluster
        self.demand = demand
        self.records: tuple[Record, ...] = ()
        """The log in force."""
        self.wanted: frozenset[ControllerPath] = frozenset()
        """I/O controllers of the log in force."""
        self._logs: dict[Endpoint, tuple[Record, ...]] = {}
        """What each service answered last, for its referrals."""
        self._in_vain: set[Endpoint] = set()
        """Services that had nothing to offer, or did not answer, since one had something."""
        self._settings = settings
        self._on_news = on_news
        self._known_services = known_services
        self._longest_pause_seconds = longest_pause_seconds
        self._wake = asyncio.Event()
        """The log may have changed, or the session ended."""
        self._retry = asyncio.Event()
        """Somebody wants the services to be asked now."""
        self._active: Endpoint | None = None
        self._errors: dict[Endpoint, str] = {}

    @property
    def status(self) -> ClusterStatus:
        return ClusterStatus(
            cluster=self.cluster,
            endpoints=self._endpoints(),
            active=self._active,
            record_count=len(self.records),
            wanted=self.wanted,
            last_error="; ".join(f"{where}: {error}" for where, error in self._errors.items()),
        )

    def update(self, demand: Demand) -> None:
        """Take a new demand, and read the log again if it may offer more to it.

        A log without controllers may: access may have been granted just now. One with some is
        kept current by its service's events, and the next volume's file brings nothing new.
        """
        changed = demand != self.demand
        self.demand = demand
        if changed or not self.wanted:
            self.refresh()

    def refresh(self) -> None:
        """Read the log again soon, or try again now if no service answered."""
        self._in_vain.clear()
        self._wake.set()
        self._retry.set()

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        waits = pauses(self._longest_pause_seconds)
        while True:
            answered = False
            self._retry.clear()
            for endpoint in self._endpoints():
                answered |= await self._try(endpoint)
            if answered:
                waits = pauses(self._longest_pause_seconds)
            # Also then: there are services that answer and hang up.
            await self._woken(self._retry, within_seconds=next(waits))

    def _endpoints(self) -> tuple[Endpoint, ...]:
        """Services in the order to try them; those that were asked in vain come last."""
        named = discovery_endpoints(self.demand, self._logs)
        known = self._known_services.of(self.cluster)
        endpoints = dict.fromkeys((*named, *known))
        return tuple(sorted(endpoints, key=lambda endpoint: endpoint in self._in_vain))

    async def _try(self, endpoint: Endpoint) -> bool:
        """Follow through one service until its session ends. True if it ever answered."""
        if endpoint not in self._endpoints():
            return False
        try:
            await self._follow(endpoint)
        except SessionError as error:
            self._note_failure(endpoint, str(error))
        answered = self._active is not None
        self._active = None
        self._on_news()
        return answered

    async def _follow(self, endpoint: Endpoint) -> None:
        settings = self._settings(self.cluster, self.demand)
        waits = pauses(self._longest_pause_seconds)
        loop = asyncio.get_running_loop()
        ask_others_at = loop.time() + _REFRESH_SECONDS
        async with open_session(endpoint, settings, self._wake) as session:
            while endpoint in self._endpoints():
                self._wake.clear()
                records = await session.read_log()
                self._note_success(endpoint, records)
                await asyncio.sleep(_LEAST_SECONDS_BETWEEN_READS)
                if not self.wanted:
                    if loop.time() > ask_others_at:
                        self._in_vain = {endpoint}
                    if not self._in_vain.issuperset(self._endpoints()):
                        return
                    # Access that is granted later need not change the log of a controller.
                    await self._woken(self._wake, within_seconds=next(waits))
                elif session.sends_events:
                    await self._woken(self._wake, within_seconds=_REFRESH_SECONDS)
                else:
                    await self._woken(self._wake, within_seconds=self._longest_pause_seconds)

    @staticmethod
    async def _woken(event: asyncio.Event, *, within_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await event.wait()
        event.clear()

    def _note_success(self, endpoint: Endpoint, records: tuple[Record, ...]) -> None:
        changed = records != self.records or self._active is None
        self._active = endpoint
        self._errors.clear()
        if records != self.records:
            self.records = records
            self.wanted = wanted_paths(self.cluster, records)
        self._logs[endpoint] = records
        if self.wanted:
            self._remember(discovery_endpoints(Demand((endpoint,)), {endpoint: records}))
            self._in_vain.clear()
        else:
            self._in_vain.add(endpoint)
        known = self._endpoints()
        self._logs = {service: log for service, log in self._logs.items() if service in known}
        if changed:
            LOG.info(
                "%s: %s offers %d of %d log entries",
                self.cluster.subsystem_nqn,
                endpoint,
                len(self.wanted),
                len(records),
                extra=about("log read", self.cluster, endpoint, controllers=len(self.wanted)),
            )
            self._on_news()

    def _remember(self, services: Iterable[Endpoint]) -> None:
        try:
            self._known_services.learn(self.cluster, services)
        except OSError as error:
            LOG.warning("%s: %s", error.filename, error.strerror)

    def _note_failure(self, endpoint: Endpoint, error: str) -> None:
        # The first failure is news; the same one again, every few seconds, is not.
        level = logging.DEBUG if self._errors.get(endpoint) == error else logging.WARNING
        LOG.log(
            level,
            "%s: discovery service %s: %s",
            self.cluster.subsystem_nqn,
            endpoint,
            error,
            extra=about("discovery service lost", self.cluster, endpoint),
        )
        self._errors[endpoint] = error
        self._in_vain.add(endpoint)
