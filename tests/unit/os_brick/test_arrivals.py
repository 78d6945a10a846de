# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from lightos.openstack.os_brick.arrivals import Arrivals, arrivals
from lightos.waiting import Deadline
from testbed.polling import wait_until
from testbed.sysfs_tree import SysfsTree

AT_ONCE = 50
TIMEOUT_SECONDS = 60.0


def watchers() -> int:
    return sum(thread.name == "lightos-arrivals" for thread in threading.enumerate())


def test_one_thread_looks_for_all_that_wait_and_ends_after_them(kernel: SysfsTree) -> None:
    wait_until(lambda: not watchers(), "the end of what earlier tests began")
    waits = Arrivals(kernel.sysfs)
    volumes = [uuid4() for _ in range(AT_ONCE)]
    ready = threading.Barrier(AT_ONCE + 1)

    def wait(volume: UUID) -> float:
        with waits.awaiting(volume) as clock:
            ready.wait()
            deadline = Deadline(TIMEOUT_SECONDS, clock)
            deadline.sleep(TIMEOUT_SECONDS)
            return deadline.remaining()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(wait, volume) for volume in volumes]
        ready.wait()
        assert watchers() == 1
        for number, volume in enumerate(volumes, 1):
            kernel.add_namespace(f"nvme0n{number}", str(volume))
        assert all(each.result() > 0 for each in waiting)
    wait_until(lambda: not watchers(), "the end of the thread")
    with waits.awaiting(volumes[0]) as clock:  # begins anew
        clock.sleep(TIMEOUT_SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_of_an_error_is_followed_by_another(
    kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Arrivals(kernel.sysfs)
    with monkeypatch.context() as broken, waits.awaiting(uuid4()):
        broken.setattr("lightos.openstack.os_brick.arrivals.namespaces", None)
        wait_until(lambda: not watchers(), "the end of the thread")
    volume = uuid4()
    kernel.add_namespace("nvme0n1", str(volume))
    with waits.awaiting(volume) as clock:
        deadline = Deadline(TIMEOUT_SECONDS, clock)
        deadline.sleep(TIMEOUT_SECONDS)
        assert not deadline.expired


def test_a_process_that_is_forked_meanwhile_looks_for_itself(kernel: SysfsTree) -> None:
    volume = uuid4()
    with arrivals(kernel.sysfs).awaiting(uuid4()):
        process = multiprocessing.get_context("fork").Process(
            target=_wait_for, args=(kernel.sysfs, volume)
        )
        process.start()
        kernel.add_namespace("nvme0n1", str(volume))
        process.join()
    assert process.exitcode == 0


def _wait_for(sysfs: Path, volume: UUID) -> None:
    with arrivals(sysfs).awaiting(volume) as clock:
        deadline = Deadline(TIMEOUT_SECONDS, clock)
        deadline.sleep(TIMEOUT_SECONDS)
        os._exit(int(deadline.expired))
