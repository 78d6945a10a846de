# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lightos.discovery.uevents import Uevents

FIRST_TOO_HIGH_FOR_SELECT = 1024


@pytest.fixture
def all_low_descriptors_taken() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < FIRST_TOO_HIGH_FOR_SELECT:
        taken.append(os.dup(taken[0]))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("all_low_descriptors_taken")
def test_a_service_with_many_descriptors_waits_too() -> None:
    with Uevents(bool) as uevents:
        assert uevents.fileno() > FIRST_TOO_HIGH_FOR_SELECT
        uevents.wait(0.01)


UNDER_EVENTLET = """
import eventlet
eventlet.monkey_patch()
from lightos.discovery.uevents import Uevents
with Uevents(bool) as uevents:
    other = eventlet.spawn(lambda: None)
    uevents.wait(0.1)
    print(other.dead)
"""


def test_under_eventlet_others_go_on_meanwhile() -> None:
    script = [sys.executable, "-W", "ignore", "-c", UNDER_EVENTLET]
    done = subprocess.run(script, check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
