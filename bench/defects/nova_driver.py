# SPDX-License-Identifier: Apache-2.0
"""Nova's volume driver for LightOS in a process without Cinder, whose options are in Nova's way.

Prints one JSON object: the attributes of the disk's `driver` element, the error of a detach when
os-brick finds no device, and what was logged of attach and detach, each line with whether it has
the instance. os-brick answers as it would, without a kernel that has nvme-tcp.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from nova import objects
from nova.virt.libvirt.volume import lightos
from os_brick import exception
from oslo_config import cfg

UUID = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"
DEVICE = "/dev/nvme0n1"
DISK = {"bus": "virtio", "dev": "vdb", "type": "disk"}


class Host:
    """What the driver asks of the hypervisor connection: no secret is stored."""

    def find_secret(self, *_names: str) -> None:
        return None


class Connector:
    """os-brick, whose device is gone when it is to be detached."""

    def connect_volume(self, _properties: Any) -> dict[str, str]:
        return {"path": DEVICE, "type": "block"}

    def disconnect_volume(self, *_: Any, **__: Any) -> None:
        raise exception.VolumeDeviceNotFound(device=DEVICE)


class Lines(logging.Handler):
    """Every record of the driver: whether it says which instance it is about."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[bool] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(bool(getattr(record, "instance", None)))


def main() -> dict[str, Any]:
    objects.register_all()
    cfg.CONF.set_override("virt_type", "qemu", "libvirt")
    lines = Lines()
    logger = logging.getLogger(lightos.LibvirtLightOSVolumeDriver.__module__)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(lines)
    driver = lightos.LibvirtLightOSVolumeDriver(Host())
    driver.connector = Connector()
    instance = objects.Instance(uuid="0d1d3a1e-5f0d-4f55-bd0c-0a1b9cd1a001")
    info: dict[str, Any] = {"serial": UUID, "data": {"uuid": UUID, "access_mode": "rw"}}
    driver.connect_volume(info, instance)
    element = driver.get_config(info, DISK).format_dom().find("driver")
    error = ""
    try:
        driver.disconnect_volume(info, instance)
    except exception.BrickException as raised:
        error = str(raised)
    return {"disk": dict(element.attrib), "detach_error": error, "lines": lines.seen}


if __name__ == "__main__":
    print(json.dumps(main()))
