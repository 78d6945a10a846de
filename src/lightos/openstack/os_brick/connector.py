# SPDX-License-Identifier: Apache-2.0
"""os-brick connector for LightOS volumes.

Attaching is a file: the discovery client of the host (ours or the vendor's) watches a folder,
connects the kernel to the cluster that a file names, and the namespace of the volume appears
as a block device. The connector writes that file, waits for the device, and on detach flushes
and removes the file; it never talks to the storage or to NVMe controllers itself.

What makes the namespace go is Cinder, which revokes the host's access after os-brick is done;
so detach does not wait for that.
"""

import contextlib
import functools
import os
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
from os_brick import exception, utils
from os_brick.initiator.connectors import base
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import netutils

from lightos.discovery import users
from lightos.discovery.entries import InvalidEntry, validated_nqn
from lightos.discovery.sysfs import is_namespace
from lightos.discovery.uevents import UeventClock
from lightos.openstack.os_brick import devices, discovery_client, options, privileged
from lightos.openstack.os_brick.arrivals import arrivals
from lightos.openstack.os_brick.connection import REQUESTED_SIZE, LightOSConnection, volume_uuid_of
from lightos.openstack.os_brick.host_addresses import data_addresses
from lightos.waiting import Deadline, DeadlineExpired, poll_until

LOG = logging.getLogger(__name__)

DEVICE_SCAN_ATTEMPTS_DEFAULT = 5
SECONDS_PER_SCAN_ATTEMPT = 12
"""Nothing is scanned; an attempt is worth this much waiting, so that the default is a minute."""

_ARRIVAL_INTERVALS_SECONDS = (5.0,)
_LOOK_INTERVALS_SECONDS = (0.05, 0.1, 0.2, 0.5)
"""Upper bounds: the kernel's announcement of a device ends each of them early."""
_LEAST_EXTEND_SECONDS = 30
_SETTLE_SECONDS = 2
"""How long a rescan may take to show a size that the caller did not tell."""
_FLUSH_SECONDS = 300
_FLUSH_INTERVALS_SECONDS = (0.2, 0.5)
"""After the first second, which the privileged half waits."""
_NO_PATH_SECONDS = 20
"""How long a flush by force waits for a path: as long as a primary node takes to be replaced."""
_REPLACE_SECONDS = 10
"""How long the kernel may show a device beside the one that takes its place; it is an instant."""

list_opts = options.list_opts


def _locked(volume_uuid, operation, *args):
    """Serialize operations on one volume, in all processes of the host; others go on."""
    external = bool(cfg.CONF.os_brick.lock_path or cfg.CONF.oslo_concurrency.lock_path)
    if not external:
        _warn_of_no_lock_path()
    return base.synchronized(f"lightos-{volume_uuid}", external=external)(operation)(*args)


@functools.cache
def _warn_of_no_lock_path():
    LOG.warning(
        "Neither [os_brick] nor [oslo_concurrency] has a lock_path: what this process and others "
        "of this host do with one LightOS volume is not kept apart. Set [os_brick] lock_path."
    )


class _Attached:
    """A device, as os-brick prepares it for the caller.

    When it cannot make the link for an encryptor, os-brick calls `disconnect_volume`, but with
    the device's path in place of the connection properties. Nothing can be detached by that, so
    it is met here, and the connector undoes what it did itself.
    """

    def __init__(self, device):
        self._device = device

    @utils.connect_volume_prepare_result
    def prepared(self, connection_properties):
        return {"type": "block", "path": self._device.path}

    def disconnect_volume(self, *_args, **_kwargs):
        LOG.debug("%s has no link for its encryptor", self._device.path)


class LightOSConnector(base.BaseLinuxConnector):
    """Attaches and detaches LightOS volumes over NVMe/TCP."""

    sysfs_root = devices.SYSFS_ROOT
    dev_root = devices.DEV_ROOT

    def __init__(
        self,
        root_helper,
        driver=None,
        execute=None,
        device_scan_attempts=DEVICE_SCAN_ATTEMPTS_DEFAULT,
        message_queue=None,
        *args,
        **kwargs,
    ):
        """`message_queue` is accepted for callers of earlier connectors, and not used."""
        super().__init__(
            root_helper,
            driver,
            execute,
            *args,
            device_scan_attempts=device_scan_attempts,
            **kwargs,
        )

    @staticmethod
    def get_connector_properties(root_helper, *args, **kwargs):  # noqa: ARG004
        """What Cinder must know of this host.

        `nqn` is its host NQN, `host_ips` the addresses it reaches storage from, `found_dsc`
        "found" if a discovery client answers. Empty for a host without a host NQN.
        """
        host_nqn = utils.get_host_nqn()
        if not host_nqn:
            LOG.debug("This host has no host NQN, so it cannot attach LightOS volumes.")
            return {}
        return {
            "nqn": host_nqn,
            "found_dsc": "found" if _discovery_client_answers() else "",
            "host_ips": _host_addresses(),
        }

    @utils.trace
    def connect_volume(self, connection_properties):
        """Attach a volume; see LightOSConnection for what the properties hold.

        :returns: dict with `type` "block" and `path` of the device, or of a link to it that an
            encryptor may replace
        :raises: BrickException, VolumeDeviceNotFound, OSError if that link cannot be made
        """
        connection = LightOSConnection.from_properties(connection_properties)
        volume_uuid = connection.volume_uuid
        return _locked(volume_uuid, self._connect, connection, connection_properties)

    def _connect(self, connection, connection_properties):
        volume_uuid = connection.volume_uuid
        with contextlib.ExitStack() as undo:
            # Of a service that had the volume before there is an attachment that still works.
            if self._publish(connection):
                undo.callback(self._release, volume_uuid)
            # It is there already on a host that was connected when access was granted.
            device = self._usable_device(volume_uuid) or self._wait_for_device(volume_uuid)
            result = _Attached(device).prepared(connection_properties)
            undo.pop_all()
        LOG.info("LightOS volume %s is %s", volume_uuid, device.path)
        return result

    @utils.trace
    @utils.connect_volume_undo_prepare_result(unlink_after=True)
    def disconnect_volume(
        self, connection_properties, device_info=None, force=False, ignore_errors=False
    ):
        """Flush a volume's device, if there is one, and remove its discovery file.

        The file stays while another service of this host uses the volume.

        :param force: remove the file even if the device cannot be flushed
        :param ignore_errors: with `force`, do not raise in the end what went wrong
        """
        volume_uuid = volume_uuid_of(connection_properties)
        _locked(volume_uuid, self._disconnect, volume_uuid, force, ignore_errors)

    def _disconnect(self, volume_uuid, force, ignore_errors):
        errors = exception.ExceptionChainer()
        with errors.context(force, "Flush of LightOS volume %s failed", volume_uuid):
            self._flush(volume_uuid, force)
        with errors.context(force, "Discovery file of %s was not removed", volume_uuid):
            self._release(volume_uuid)
        if errors and not ignore_errors:
            raise errors
        LOG.info("LightOS volume %s is released", volume_uuid)

    @utils.trace
    @utils.connect_volume_undo_prepare_result
    def extend_volume(self, connection_properties):
        """Have the kernel see a volume's new size.

        :returns: the size of the device in bytes
        :raises: VolumeDeviceNotFound; BrickException if a size was asked for (by our Nova
            driver) and the device does not reach it
        """
        volume_uuid = volume_uuid_of(connection_properties)
        requested_bytes = connection_properties.get(REQUESTED_SIZE)
        return _locked(volume_uuid, self._extend, volume_uuid, requested_bytes)

    def _extend(self, volume_uuid, requested_bytes):
        before = self._find_device(volume_uuid)
        if before is None:
            raise exception.VolumeDeviceNotFound(device=f"/dev (LightOS volume {volume_uuid})")
        wait_seconds = max(_LEAST_EXTEND_SECONDS, self._scan_seconds)
        with UeventClock(is_namespace) as clock:
            privileged.rescan(str(volume_uuid))
            if requested_bytes is None:
                return self._settled_size(volume_uuid, before.size_bytes, clock)
            try:
                return poll_until(
                    lambda: self._size_from(volume_uuid, requested_bytes),
                    deadline=Deadline(wait_seconds, clock),
                    intervals=_LOOK_INTERVALS_SECONDS,
                )
            except DeadlineExpired:
                raise exception.BrickException(
                    f"{before.path} of LightOS volume {volume_uuid} did not grow to "
                    f"{requested_bytes} bytes within {wait_seconds:g} s"
                ) from None

    def get_volume_paths(self, connection_properties):
        """Path of the volume's device, in a list; an empty one while there is none.

        Properties without a UUID name the device, as `device_path`.
        """
        if "uuid" not in connection_properties and "device_path" in connection_properties:
            return [connection_properties["device_path"]]
        device = self._find_device(volume_uuid_of(connection_properties))
        return [device.path] if device else []

    def get_search_path(self):
        """Folder where devices appear."""
        return "/dev"

    # ---- steps

    @property
    def _scan_seconds(self):
        return self.device_scan_attempts * SECONDS_PER_SCAN_ATTEMPT

    def _publish(self, connection):
        """Whether this service begins to use the volume."""
        host_nqn = _host_nqn()
        try:
            return privileged.publish_discovery_file(
                str(connection.volume_uuid),
                connection.subsystem_nqn,
                host_nqn,
                connection.services,
                _this_service(),
            )
        except (OSError, InvalidEntry) as error:
            raise exception.BrickException(
                f"Cannot write the discovery file of LightOS volume {connection.volume_uuid} in "
                f"{_conf().lightos_discovery_client_dir_path}: {error}. "
                "Is a LightOS discovery client installed on this host?"
            ) from error

    @staticmethod
    def _release(volume_uuid):
        others = privileged.release_discovery_file(str(volume_uuid), _this_service())
        if others:
            LOG.info("LightOS volume %s is still used by %s", volume_uuid, ", ".join(others))

    def _find_devices(self, volume_uuid):
        try:
            return devices.find_devices(volume_uuid, self.sysfs_root)
        except devices.AmbiguousDevice as error:
            raise exception.BrickException(str(error)) from None

    def _find_device(self, volume_uuid):
        """The device, None for none; while the kernel replaces it, the one that stays."""

        def settled():
            found = self._find_devices(volume_uuid)
            return found if len(found) < 2 else None

        try:
            found = poll_until(
                settled,
                deadline=Deadline(_REPLACE_SECONDS),
                intervals=_LOOK_INTERVALS_SECONDS,
            )
        except DeadlineExpired:
            raise exception.BrickException(
                f"LightOS volume {volume_uuid} has several devices, and the kernel removes none of "
                f"them within {_REPLACE_SECONDS} s; see its log"
            ) from None
        return found[0] if found else None

    def _wait_for_device(self, volume_uuid):
        wait_seconds = self._scan_seconds
        try:
            with arrivals(self.sysfs_root).awaiting(volume_uuid) as clock:
                return poll_until(
                    lambda: self._usable_device(volume_uuid),
                    deadline=Deadline(wait_seconds, clock),
                    intervals=_ARRIVAL_INTERVALS_SECONDS,
                )
        except DeadlineExpired:
            raise exception.VolumeDeviceNotFound(
                device=f"/dev (LightOS volume {volume_uuid}, {wait_seconds:g} s; "
                f"{self._why_no_device(volume_uuid)})"
            ) from None

    def _why_no_device(self, volume_uuid):
        if found := self._find_devices(volume_uuid):
            shown = ", ".join(sorted(device.path for device in found))
            return f"the kernel shows {shown}, and lets none be used; see its log"
        if _discovery_client_answers():
            return (
                "the discovery client is running; see its log, and whether the volume's ACL "
                "names this host"
            )
        conf = _conf()
        return (
            "no discovery client answers at "
            f"{conf.lightos_discovery_client_address}:{conf.lightos_discovery_client_port}"
        )

    def _usable_device(self, volume_uuid):
        found = self._find_devices(volume_uuid)
        if len(found) != 1:  # of several, which one stays is not known yet
            return None
        (device,) = found
        if not device.size_bytes or not (self.dev_root / device.name).exists():
            return None
        if device.is_ending:  # of the last detach; the discovery client connects it anew
            return None
        return device if privileged.can_be_opened(str(volume_uuid), device.name) else None

    def _flush(self, volume_uuid, force):
        device = self._find_device(volume_uuid)
        if device is None:
            return
        request = str(uuid4())
        no_path = Deadline(_NO_PATH_SECONDS)

        def flushed():
            nonlocal no_path
            if privileged.flush(str(volume_uuid), device.name, request):
                return True
            if device.has_usable_path:
                no_path = Deadline(_NO_PATH_SECONDS)
            elif force and no_path.expired:
                # The flush waits for a path until the kernel gives up, many minutes.
                raise exception.BrickException(
                    f"{device.path} was not flushed: no path to the storage is up"
                )
            return None

        try:
            poll_until(
                flushed, deadline=Deadline(_FLUSH_SECONDS), intervals=_FLUSH_INTERVALS_SECONDS
            )
        except DeadlineExpired:
            raise exception.BrickException(
                f"{device.path} was not flushed: it takes no I/O within {_FLUSH_SECONDS} s"
            ) from None
        except OSError as error:
            if self._find_device(volume_uuid) is not None:
                raise exception.BrickException(
                    f"{device.path} was not flushed: {error.strerror or error}"
                ) from error
            LOG.debug("%s vanished while it was flushed", device.path)

    def _size_from(self, volume_uuid, least_bytes):
        device = self._find_device(volume_uuid)
        return device.size_bytes if device and device.size_bytes >= least_bytes else None

    def _settled_size(self, volume_uuid, before_bytes, clock):
        try:
            return poll_until(
                lambda: self._size_from(volume_uuid, before_bytes + 1),
                deadline=Deadline(_SETTLE_SECONDS, clock),
                intervals=_LOOK_INTERVALS_SECONDS,
            )
        except DeadlineExpired:
            # The event of the cluster had brought the new size before this was called.
            return before_bytes


def _conf():
    return cfg.CONF[options.GROUP]


def _host_nqn():
    try:
        return validated_nqn(utils.get_host_nqn(), "host NQN")
    except InvalidEntry as error:
        raise exception.BrickException(
            f"Host NQN of this host cannot be used: {error}. Check /etc/nvme/hostnqn."
        ) from None


def _this_service():
    return users.this_service(getattr(cfg.CONF, "project", None))


def _discovery_client_answers():
    conf = _conf()
    # Discovery clients make their folder; a host without it has none, and is not probed.
    return os.path.isdir(conf.lightos_discovery_client_dir_path) and discovery_client.answers(
        conf.lightos_discovery_client_address,
        conf.lightos_discovery_client_port,
        Deadline(discovery_client.PROBE_SECONDS),
    )


def _host_addresses():
    try:
        addresses = data_addresses(
            (
                (interface, address.address)
                for interface, addresses in psutil.net_if_addrs().items()
                for address in addresses
            ),
            _conf().lightos_data_networks,
        )
    except ValueError as error:
        # Not an exception: os-brick asks this for attachments of any protocol.
        LOG.error("[os_brick] lightos_data_networks: %s; no address is reported", error)
        return []
    return [a for a in addresses if ":" not in a or netutils.is_ipv6_enabled()]
