# SPDX-License-Identifier: Apache-2.0
"""The connector's privileged half: it runs in os-brick's own privsep daemon.

It takes a volume's UUID and values that it checks itself, never a path: the folder comes from
the daemon's configuration and file names from the UUID. The context is `os_brick.privileged
.default`, which deployers already allow in sudoers and rootwrap. privsep admits only
functions of modules below `os_brick.privileged`, so these go by the name that the overlay
gives this module there.
"""

import contextlib
import errno
import fcntl
import functools
import os
import platform
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any
from uuid import UUID

import os_brick.privileged
from oslo_config import cfg

from lightos.discovery import publish, users
from lightos.discovery.entries import DiscoveryEntry, format_file
from lightos.openstack.os_brick import devices, options

NAME_BELOW_OS_BRICK = "os_brick.privileged.lightos_discovery"
_BLKFLSBUF = 0x20001261 if platform.machine().startswith("ppc") else 0x1261
"""Linux `include/uapi/linux/fs.h`; numbers without data differ on PowerPC."""
_FLUSH_WAIT_SECONDS = 1.0


def _entrypoint(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__module__ = NAME_BELOW_OS_BRICK
    return os_brick.privileged.default.entrypoint(function)


@_entrypoint
def publish_discovery_file(
    volume_uuid: str,
    subsystem_nqn: str,
    host_nqn: str,
    services: Sequence[Sequence[Any]],
    user: str,
) -> bool:
    """Write the discovery file of a volume, which `user` begins to use.

    `services` are (address, port) pairs. False if the user had the volume before.
    Raises InvalidEntry, OSError, ValueError.
    """
    uuid = UUID(volume_uuid)
    users.validated(user)
    entries = [DiscoveryEntry(address, port, host_nqn, subsystem_nqn) for address, port in services]
    content = format_file(entries, f"LightOS volume {uuid}, written by os-brick")
    before: frozenset[str] = frozenset()

    def join(earlier: str | None) -> str:
        nonlocal before
        before = frozenset(filter(users.is_there, users.users_of(earlier)))
        return users.with_users(content, before | {user})

    publish.update(_directory(), uuid, join)
    _remove_left_files(_directory())
    return user not in before


@functools.cache
def _remove_left_files(directory: str) -> None:
    """Remove the files whose users all ended with their process here; once in the daemon's life.

    A service that died and came back has a new daemon, and may never use the same volume again.
    """

    def unless_left(content: str | None) -> str | None:
        return None if all(map(users.has_ended_here, users.users_of(content))) else content

    with contextlib.suppress(OSError):  # what was asked for is done
        for volume_uuid in publish.volumes(directory):
            # A look first: `update` syncs files and locks them.
            if unless_left(publish.read(directory, volume_uuid)) is None:
                publish.update(directory, volume_uuid, unless_left)


@_entrypoint
def release_discovery_file(volume_uuid: str, user: str) -> tuple[str, ...]:
    """Remove the discovery file of a volume, unless others than `user` go on using it.

    Returns those others. Raises OSError, ValueError.
    """
    uuid = UUID(volume_uuid)
    users.validated(user)
    others: frozenset[str] = frozenset()

    def leave(earlier: str | None) -> str | None:
        nonlocal others
        others = users.left_without(users.users_of(earlier), user)
        return users.with_users(earlier, others) if earlier is not None and others else None

    with contextlib.suppress(FileNotFoundError):  # no folder
        publish.update(_directory(), uuid, leave)
    return tuple(sorted(others))


@_entrypoint
def can_be_opened(volume_uuid: str, name: str) -> bool:
    """Whether `name` is a volume's device, and one that can be opened.

    The kernel adds a disk to sysfs and /dev before it lets anybody open it, and one that it
    removes is shown there for a while (Linux `block/genhd.c`, device_add_disk, del_gendisk).
    """
    path = devices.path_of(name, UUID(volume_uuid))
    if path is None:
        return False
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENODEV, errno.ENOENT)
    return True


@_entrypoint
def flush(volume_uuid: str, name: str, request: str) -> bool:
    """Write a volume's buffers to storage and drop them; nothing if `name` is not its device.

    What `blockdev --flushbufs` does, without a process for it. False while it goes on; the same
    `request` then asks again, for this daemon has few threads for all its callers. What another
    request began comes first. Raises OSError.
    """
    path = devices.path_of(name, UUID(volume_uuid))
    if path is None:
        return True
    with _flushes_lock:
        latest = before = _flushes.get(path)
        if latest is None or (latest.request != request and latest.outcome.done()):
            latest = _flushes[path] = _Flush(path, request)
    if latest is not before:
        futures.wait([latest.outcome], _FLUSH_WAIT_SECONDS)
    if latest.request != request or not latest.outcome.done():
        return False
    latest.outcome.result()
    return True


class _Flush:
    """One that goes on in a thread of its own: nothing ends an I/O that waits for a path."""

    def __init__(self, path: str, request: str) -> None:
        self.request = request
        self.outcome: futures.Future[None] = futures.Future()
        threading.Thread(target=self._run, args=(path,), daemon=True).start()

    def _run(self, path: str) -> None:
        try:
            _flush_buffers(path)
        except OSError as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(None)


_flushes: dict[str, _Flush] = {}
"""The latest one of each device, by its path."""
_flushes_lock = threading.Lock()


def _flush_buffers(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
    finally:
        os.close(descriptor)


@_entrypoint
def rescan(volume_uuid: str) -> None:
    """Have the kernel read a volume's namespace again, over every path. Raises OSError."""
    for device in devices.find_devices(UUID(volume_uuid)):
        for controller in device.controllers:
            with contextlib.suppress(FileNotFoundError):
                (controller / "rescan_controller").write_text("1")


def _directory() -> str:
    return cfg.CONF[options.GROUP].lightos_discovery_client_dir_path
