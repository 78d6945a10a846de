# SPDX-License-Identifier: Apache-2.0
"""os-brick as a service calls it, inside a test guest: `host.call("testbed.brick.connect", ...)`.

Arguments and results are what os-brick takes and gives, as JSON.
"""

from __future__ import annotations

import functools
import socket
from typing import Any

import os_brick
from os_brick import initiator
from os_brick.initiator import connector as os_brick_connector
from oslo_concurrency import lockutils
from oslo_config import cfg

from testbed.guest_agent import warm_up

NO_ROOT_HELPER = ""
"""The agent is root already."""


@functools.cache
def _connector(
    scan_attempts: int = initiator.DEVICE_SCAN_ATTEMPTS_DEFAULT,
) -> os_brick_connector.InitiatorConnector:
    warm_up("os_brick.initiator.connector")
    lockutils.set_defaults("/run/lock/os-brick")
    os_brick.setup(cfg.CONF)
    return os_brick_connector.InitiatorConnector.factory(
        "LIGHTOS", NO_ROOT_HELPER, device_scan_attempts=scan_attempts
    )


def implementation() -> str:
    """The module that the name LIGHTOS gives a connector of."""
    return type(_connector()).__module__


def properties(address: str) -> dict[str, Any]:
    """What Nova tells Cinder of this host; `address` is its my_ip."""
    _connector()
    return os_brick_connector.get_connector_properties(
        NO_ROOT_HELPER, address, multipath=True, enforce_multipath=False, host=socket.gethostname()
    )


def own_properties() -> dict[str, Any]:
    """What the connector itself adds to `properties`."""
    return _connector().get_connector_properties(NO_ROOT_HELPER)


def connect(
    connection: dict[str, Any], scan_attempts: int = initiator.DEVICE_SCAN_ATTEMPTS_DEFAULT
) -> dict[str, Any]:
    """Attach; `connection` is the `data` of a connection_info. Gives `path` and more."""
    return _connector(scan_attempts).connect_volume(connection)


def disconnect(
    connection: dict[str, Any], device: dict[str, Any] | None = None, *, force: bool = False
) -> None:
    """Detach; `device` is what `connect` gave."""
    _connector().disconnect_volume(connection, device, force=force)


def extend(connection: dict[str, Any]) -> int:
    """Look again at the size of an attached volume; its size in bytes now."""
    return _connector().extend_volume(connection)
