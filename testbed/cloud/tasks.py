# SPDX-License-Identifier: Apache-2.0
"""Things to do, side by side where none waits for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """`run` may return what was seen; it starts when all tasks named in `after` have ended."""

    title: str
    run: Callable[[], str | None]
    after: tuple[str, ...] = ()


class Progress(Protocol):
    """Whoever wants to know; called on the thread that runs the tasks."""

    def begun(self, title: str) -> None: ...

    def done(self, title: str, seconds: float, evidence: str) -> None: ...

    def failed(self, title: str, seconds: float) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def begun(self, title: str) -> None:
        pass

    def done(self, title: str, seconds: float, evidence: str) -> None:
        pass

    def failed(self, title: str, seconds: float) -> None:
        pass


def run_all(tasks: Sequence[Task], progress: Progress, give_up: Callable[[], None]) -> None:
    """Run every task. The first that fails, or Ctrl-C, ends it all.

    `give_up` is called then, and must make those that still run end soon; the failure is raised
    once they have.
    """
    waiting = {task.title: task for task in tasks}
    unknown = {name for task in tasks for name in task.after} - set(waiting)
    if unknown:
        raise ValueError(f"tasks wait for {sorted(unknown)}, which is no task")
    running: dict[Future[str | None], tuple[str, float]] = {}
    ended: set[str] = set()
    with ThreadPoolExecutor(len(tasks), "task") as pool:
        try:
            while waiting or running:
                for task in [task for task in waiting.values() if ended.issuperset(task.after)]:
                    del waiting[task.title]
                    progress.begun(task.title)
                    running[pool.submit(task.run)] = (task.title, time.monotonic())
                if not running:
                    raise ValueError(f"tasks wait for each other: {sorted(waiting)}")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    title, started = running.pop(future)
                    seconds = time.monotonic() - started
                    if future.exception():
                        progress.failed(title, seconds)
                    progress.done(title, seconds, future.result() or "")
                    ended.add(title)
        except BaseException:
            give_up()
            raise
