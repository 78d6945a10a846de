# SPDX-License-Identifier: Apache-2.0
"""Nova's libvirt volume driver for LightOS: os-brick attaches, libvirt gets a block device."""

import nova.conf
from nova import exception, utils
from nova.virt.libvirt.volume import volume as libvirt_volume
from os_brick import exception as brick_exception
from os_brick import initiator
from os_brick.initiator import connector
from oslo_log import log as logging

from lightos.waiting import Deadline, DeadlineExpired, poll_until

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF

REQUESTED_SIZE = "lightos_requested_size_bytes"
"""The connector waits until the device has at least this size."""
_GROWTH_SECONDS = 30
_GROWTH_INTERVALS_SECONDS = (0.5, 1.0)
"""How long, and how often, a connector that does not wait is asked for the size."""


class LibvirtLightOSVolumeDriver(libvirt_volume.LibvirtVolumeDriver):
    """Attaches LightOS volumes to libvirt guests."""

    VERSION = "3.0.0"

    def __init__(self, connection):
        super().__init__(connection)
        self.connector = connector.InitiatorConnector.factory(
            initiator.LIGHTOS,
            root_helper=utils.get_root_helper(),
            device_scan_attempts=CONF.libvirt.num_nvme_discover_tries,
        )

    def get_config(self, connection_info, disk_info):
        """The disk element. Native AIO suits a block device opened without the page cache.

        What an instance discards becomes free space in the cluster, whose volumes are thin.
        """
        conf = super().get_config(connection_info, disk_info)
        conf.driver_io = "native"
        conf.driver_discard = "unmap"
        return conf

    def connect_volume(self, connection_info, instance):
        """Attach to this host; the device's path becomes part of `connection_info`."""
        device_info = self.connector.connect_volume(connection_info["data"])
        LOG.debug("Attached LightOS volume: %s", device_info, instance=instance)
        connection_info["data"]["device_path"] = device_info["path"]

    def disconnect_volume(self, connection_info, instance, force=False):
        """Detach from this host. A device that is gone already is what is wanted."""
        try:
            self.connector.disconnect_volume(connection_info["data"], None, force=force)
        except brick_exception.VolumeDeviceNotFound as error:
            LOG.warning("LightOS volume is detached already: %s", error, instance=instance)
        super().disconnect_volume(connection_info, instance, force=force)

    def extend_volume(self, connection_info, instance, requested_size):
        """Wait until the device has `requested_size` bytes; returns its size.

        OpenStack's own connector tells the size of the moment, and is asked again.
        Raises VolumeExtendFailed, and what os-brick raises.
        """
        properties = {**connection_info["data"], REQUESTED_SIZE: requested_size}

        def grown():
            size = self.connector.extend_volume(properties)
            return size if size and size >= requested_size else None

        try:
            new_size = poll_until(
                grown, deadline=Deadline(_GROWTH_SECONDS), intervals=_GROWTH_INTERVALS_SECONDS
            )
        except DeadlineExpired:
            raise exception.VolumeExtendFailed(
                volume_id=connection_info.get("serial"),
                reason=f"its device did not grow to {requested_size} bytes within "
                f"{_GROWTH_SECONDS} s",
            ) from None
        LOG.debug("LightOS volume has %s bytes now", new_size, instance=instance)
        return new_size
