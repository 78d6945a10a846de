# SPDX-License-Identifier: Apache-2.0
"""os-brick in a guest with settings that `testbed.brick` does not have; called by `host.call`."""

from __future__ import annotations

from typing import Any

from os_brick.initiator import connector
from oslo_config import cfg


def connect_within(connection: dict[str, Any], scan_attempts: int) -> dict[str, Any]:
    """Attach, with as many scan attempts as a service may configure."""
    made = connector.InitiatorConnector.factory("LIGHTOS", "", device_scan_attempts=scan_attempts)
    return dict(made.connect_volume(connection))


def as_service(project: str, operation: str, *args: Any) -> Any:
    """A connector's operation in a service of this project, as its configuration file says."""
    before = getattr(cfg.CONF, "project", None)
    cfg.CONF.project = project
    try:
        return getattr(connector.InitiatorConnector.factory("LIGHTOS", ""), operation)(*args)
    finally:
        cfg.CONF.project = before
