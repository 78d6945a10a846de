# SPDX-License-Identifier: Apache-2.0
"""Nova's volume driver in a guest, as nova-compute calls it; by `host.call`, JSON both ways."""

from __future__ import annotations

import functools
from typing import Any

import os_brick
import os_brick.privileged
from nova import objects
from nova.virt.libvirt.volume.lightos import LibvirtLightOSVolumeDriver
from oslo_concurrency import lockutils
from oslo_config import cfg


class LibvirtHost:
    """What the driver asks of the hypervisor connection: no secret is stored."""

    def find_secret(self, usage_type: str, usage_id: str) -> None:
        return None


@functools.cache
def _driver() -> LibvirtLightOSVolumeDriver:
    os_brick.privileged.default.set_client_mode(False)  # root already
    lockutils.set_defaults("/run/lock/nova")
    os_brick.setup(cfg.CONF)
    cfg.CONF.set_override("virt_type", "qemu", "libvirt")
    objects.register_all()
    return LibvirtLightOSVolumeDriver(LibvirtHost())


def _instance() -> objects.Instance:
    return objects.Instance(uuid="0d1d3a1e-5f0d-4f55-bd0c-0a1b9cd1a001")


def attach(connection_info: dict[str, Any]) -> dict[str, Any]:
    """Attach; the connection_info that Nova then stores, and the disk as XML."""
    _driver().connect_volume(connection_info, _instance())
    disk = _driver().get_config(connection_info, {"bus": "virtio", "dev": "vdb", "type": "disk"})
    return {"connection_info": connection_info, "xml": disk.to_xml()}


def extend(connection_info: dict[str, Any], requested_size: int) -> int:
    return int(_driver().extend_volume(connection_info, _instance(), requested_size))


def detach(connection_info: dict[str, Any], *, force: bool = False) -> None:
    _driver().disconnect_volume(connection_info, _instance(), force=force)
