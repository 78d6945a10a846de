# SPDX-License-Identifier: Apache-2.0
"""How the commands of `lightos lab` see on the network that a node serves, or no longer does."""

from __future__ import annotations

import socket
from collections.abc import Callable

from lightos.lab.errors import LabError
from lightos.waiting import Deadline, DeadlineExpired, poll_until

NODE_PORTS = ("api_port", "discovery_port", "nvme_port")
"""What each node listens on, as a lab's description names it."""
POLL_SECONDS = 0.1
CONNECT_SECONDS = 2.0


def answers(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def wait_until(reached: Callable[[], bool], seconds: float, failure: str) -> None:
    """Return once `reached`; LabError with `failure` if that takes longer."""
    try:
        poll_until(
            lambda: True if reached() else None,
            deadline=Deadline(seconds),
            intervals=[POLL_SECONDS],
        )
    except DeadlineExpired:
        raise LabError(f"{failure} (waited {seconds:g} s)") from None
