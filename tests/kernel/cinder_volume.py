# SPDX-License-Identifier: Apache-2.0
"""cinder-volume with our driver or cinder's own, as a process that a test asks.

    cinder = CinderVolume(folder, lab.info, incumbent=True)
    cinder.call("create_volume", size_gib=1)
    cinder.end()

A second one on the same folder is the same service after a restart. Start it on a thread that
has entered the lab's network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.driver_process import DriverProcess, serve


class CinderVolume(DriverProcess):
    """Operations are those of `testbed.cinder.volume_manager.VolumeManager`, results as JSON."""

    def __init__(self, folder: Path, lab: dict[str, Any], *, incumbent: bool) -> None:
        super().__init__(__name__, incumbent=incumbent)
        self.tell([str(folder), lab])

    def ready(self) -> None:
        """Wait for the end of its start. Raises DriverDied."""
        self.answer()

    def call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """An object comes back as its id. Raises DriverDied."""
        return self.ask([operation, args, kwargs])


@contextmanager
def operations() -> Iterator[Callable[[Any], Any]]:
    """The first question is what to start with."""
    from testbed.cinder.volume_manager import VolumeManager

    started: list[VolumeManager] = []

    def answer(question: Any) -> Any:
        if not started:
            folder, lab = question
            started.append(VolumeManager(Path(folder), lab))
            return started[0].start()
        operation, args, kwargs = question
        result = getattr(started[0], operation)(*args, **kwargs)
        return getattr(result, "id", result)

    yield answer


if __name__ == "__main__":
    serve(operations())
