# SPDX-License-Identifier: Apache-2.0
"""What the benchmark does inside the host: os-brick's calls with their times, and looks at sysfs.

The looks are for a process that has neither connector, so both are judged by the same eyes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightos.discovery.kernel import is_controller
from lightos.discovery.sysfs import is_namespace
from lightos.discovery.uevents import UeventClock
from lightos.openstack.os_brick.devices import namespaces
from lightos.waiting import Deadline, DeadlineExpired, poll_until

SECONDS = 120.0
_LOOK_SECONDS = 0.1
_CONTROLLERS = Path("/sys/class/nvme")


def timed(function: str, *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Seconds that a function of `testbed.brick` takes, and what it gives."""
    from testbed import brick  # noqa: PLC0415 - os-brick is not for the process that only looks

    call: Callable[..., Any] = getattr(brick, function)
    began = time.monotonic()
    given = call(*args, **kwargs)
    return time.monotonic() - began, given


def timed_at_once(function: str, *arguments: Any) -> float:
    """Seconds from when a thread for each argument begins until the last one is done with it.

    Of `function` as in `timed`. Starting the threads is no part of it: services have theirs.
    """
    from testbed import brick  # noqa: PLC0415 - as above

    call: Callable[[Any], Any] = getattr(brick, function)
    began: list[float] = []
    ready = threading.Barrier(len(arguments), action=lambda: began.append(time.monotonic()))

    def at_once(argument: Any) -> float:
        ready.wait()
        call(argument)
        return time.monotonic()

    with ThreadPoolExecutor(len(arguments)) as threads:
        return max(threads.map(at_once, arguments)) - began[0]


def wait_until_gone(*volume_uuids: str) -> None:
    """Return when the kernel has no device of these volumes any more."""
    _wait(lambda: not _devices(volume_uuids), is_namespace)


def devices_left(within_seconds: float, *volume_uuids: str) -> int:
    """How many of these volumes still have a device after so long; 0 as soon as none has."""
    with contextlib.suppress(DeadlineExpired):
        _wait(lambda: not _devices(volume_uuids), is_namespace, within_seconds)
    return len(_devices(volume_uuids))


def _devices(volume_uuids: Collection[str]) -> set[str]:
    return {uuid for _, uuid in namespaces()} & set(volume_uuids)


def wait_until_live(address: str) -> None:
    """Return when a live controller leads to this address."""
    _wait(lambda: f"traddr={address}" in _live_addresses(), is_controller)


def wait_until_disconnected() -> None:
    """Return when the kernel has no NVMe controller."""
    _wait(lambda: not list(_CONTROLLERS.glob("nvme*")), is_controller)


def _live_addresses() -> set[str]:
    found = set()
    for folder in _CONTROLLERS.glob("nvme*"):
        if (folder / "state").read_text().strip() == "live":
            found |= set((folder / "address").read_text().strip().split(","))
    return found


def _wait(
    condition: Callable[[], bool], matters: Callable[[str], bool], seconds: float = SECONDS
) -> None:
    with UeventClock(matters) as clock:
        poll_until(
            lambda: condition() or None,
            deadline=Deadline(seconds, clock),
            intervals=[_LOOK_SECONDS],
        )
