# SPDX-License-Identifier: Apache-2.0
"""Changes of the cluster, one at a time: checked on the event loop, made in a worker thread.

Disks are slow, so what waits for one (blocks, metadata) runs in the worker; the cluster's
state in memory changes on the event loop only, once the change is on stable storage. Between
the check and that moment no other change gets in.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from lightos.lab.database import Database
from lightos.lab.errors import Internal
from lightos.lab.records import Record

LOG = logging.getLogger(__name__)

P = ParamSpec("P")
R_co = TypeVar("R_co", bound=Record, covariant=True)


def nothing() -> None:
    """No disk work."""


@dataclass(frozen=True, kw_only=True)
class Change(Generic[R_co]):
    """Records to write and to drop, and the work on blocks that goes with it.

    `before` makes blocks before metadata names them, and `undo` removes them when the metadata
    cannot be written. `after` changes or removes blocks once metadata says so; when it fails,
    the records of `replaced` are written back. `when_taken` runs on the event loop as the change
    becomes true in memory.
    """

    put: Sequence[R_co] = ()
    drop: Sequence[Record] = ()
    replaced: Sequence[Record] = ()
    before: Callable[[], None] = nothing
    undo: Callable[[], None] = nothing
    after: Callable[[], None] = nothing
    when_taken: Callable[[], None] = nothing

    def make(self, database: Database, also_drop: Sequence[Record] = ()) -> None:
        """Do the disk work. Raises Internal, with nothing changed, when the disk fails.

        `also_drop` goes with the records of the change, to save a commit of its own.
        """
        self.before()
        try:
            database.commit(self.put, [*self.drop, *also_drop])
        except Internal:
            self.undo()
            raise
        try:
            self.after()
        except Internal:
            database.commit(self.replaced)
            raise


class Changes(Protocol):
    """Whoever carries out changes: the queue below, or something in front of it."""

    async def carry_out(
        self, operation: Callable[P, Change[R_co]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Change[R_co]: ...


class Changing(Protocol):
    """What changes: the cluster, as far as its queue needs it."""

    def make(self, change: Change[Any]) -> None:
        """Do a change's disk work, on any thread. Raises Internal with nothing changed."""

    def take(self, change: Change[Any]) -> None:
        """Make true in memory what is durable now."""

    def finish_due(self) -> Change[Any]:
        """Everything whose present state ends by now."""

    def postpone(self, change: Change[Any]) -> None:
        """Try again later what `finish_due` gave and the disk refused."""

    def seconds_to_next_due(self) -> float | None:
        """After how many seconds `finish_due` is wanted; None while nothing is under way."""


class ChangeQueue:
    """Carries out changes in the order they come, and those that fall due by themselves."""

    def __init__(self, cluster: Changing) -> None:
        """Begin to watch the clock; needs a running event loop."""
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, "lab-changes")
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[Change[Any]]] = set()
        self._set_timer()

    async def carry_out(
        self, operation: Callable[P, Change[R_co]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Change[R_co]:
        """Check and make one change; it is durable and true when this returns.

        `operation` is a method of the cluster. Raises what that raises, or Internal when the
        disk fails. A cancelled caller does not cancel the change.
        """
        plan = functools.partial(operation, *args, **kwargs)
        task = self._loop.create_task(self._carry_out(plan))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Change[Any]]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, unless it is gone; then nobody wants it

    async def _carry_out(self, plan: Callable[[], Change[R_co]]) -> Change[R_co]:
        async with self._turn:
            if self._cluster.seconds_to_next_due() == 0:
                # Not at the end of a long queue; what comes of it is not this caller's.
                await asyncio.wait([self._begin(self._finish_due())])
            change = plan()
            await self._loop.run_in_executor(self._worker, self._cluster.make, change)
            self._cluster.take(change)
            self._set_timer()
            return change

    async def _finish_in_turn(self) -> None:
        async with self._turn:
            await self._finish_due()

    async def _finish_due(self) -> None:
        try:
            if self._cluster.seconds_to_next_due() != 0:
                return
            change = self._cluster.finish_due()
            try:
                await self._loop.run_in_executor(self._worker, self._cluster.make, change)
            except Internal as cause:
                LOG.error("state changes wait: %s", cause)
                self._cluster.postpone(change)
            else:
                self._cluster.take(change)
        finally:
            # A defect in one change must not stop the clock for all that come after it.
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = self._cluster.seconds_to_next_due()
        self._timer = None if delay is None else self._loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._begin(self._finish_in_turn())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Let the change in hand end, and begin no other by itself."""
        async with self._turn:
            if self._timer is not None:
                self._timer.cancel()
        await asyncio.gather(*self._tasks)
        if self._timer is not None:
            self._timer.cancel()
        self._worker.shutdown()
