# SPDX-License-Identifier: Apache-2.0
"""The kernel's NVMe over Fabrics host: connect and delete controllers, and read them back.

A connect is one write of an option string to /dev/nvme-fabrics, as nvme-cli does it (Linux
`drivers/nvme/host/fabrics.c`, `nvmf_parse_options`); what exists is read from
/sys/class/nvme. Both block, so the daemon calls them in threads. Tests pass other roots.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.entries import InvalidEntry, validated_ip_address
from lightos.discovery.host_identity import HostIdentity, host_id_for
from lightos.discovery.reconcile import KernelController
from lightos.discovery.sysfs import attribute

FABRICS_DEVICE = Path("/dev/nvme-fabrics")
SYSFS_ROOT = Path("/sys")
HOST_NQN_PATH = Path("/etc/nvme/hostnqn")
_CONTROLLER_NAME = re.compile(r"nvme[0-9]+")
_REPLY_BYTES = 4096


class KernelError(Exception):
    """The kernel refused something; the message says what, on which path, and what to do."""


class FabricsUnavailable(KernelError):
    """No connect can work on this host as it is: no module, or no right to use it."""


class Unsupported(KernelError):
    """This kernel has no such option, and connecting without it is not what was asked for."""


class AlreadyConnected(KernelError):
    """A controller on this path exists (EALREADY): somebody else was faster."""


@dataclass(frozen=True)
class ConnectOptions:
    """What the kernel is asked for beyond the path. None leaves the kernel's default.

    `ctrl_loss_timeout_seconds` -1 means that the kernel never gives a lost controller up.
    The DH-HMAC-CHAP secrets (`DHHC-1:...`) are left out of the repr. With `tls` the kernel looks
    for the pre-shared key in its `.nvme` keyring, or where the serial numbers say.
    """

    ctrl_loss_timeout_seconds: int | None = None
    reconnect_delay_seconds: int | None = None
    keep_alive_timeout_seconds: int | None = None
    io_queue_count: int | None = None
    dhchap_secret: str | None = None
    dhchap_controller_secret: str | None = None
    tls: bool = False
    tls_keyring: int | None = None
    tls_key: int | None = None

    def __repr__(self) -> str:
        shown = (
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value is not None and value is not False and "secret" not in name
        )
        return f"ConnectOptions({', '.join(shown)})"


def option_string(path: ControllerPath, host_id: UUID, options: ConnectOptions) -> str:
    """The option string of one connect. A None option is left out."""
    pairs: tuple[tuple[str, object], ...] = (
        ("transport", "tcp"),
        ("traddr", path.endpoint.address),
        ("trsvcid", path.endpoint.port),
        ("nqn", path.cluster.subsystem_nqn),
        ("hostnqn", path.cluster.host_nqn),
        ("hostid", host_id),
        ("ctrl_loss_tmo", options.ctrl_loss_timeout_seconds),
        ("reconnect_delay", options.reconnect_delay_seconds),
        ("keep_alive_tmo", options.keep_alive_timeout_seconds),
        ("nr_io_queues", options.io_queue_count),
        *_protection(options).items(),
    )
    return ",".join(
        name if value is True else f"{name}={value}" for name, value in pairs if value is not None
    )


def _protection(options: ConnectOptions) -> dict[str, object]:
    """Options that a connect may not do without when the kernel does not know them."""
    given = {
        "dhchap_secret": options.dhchap_secret,
        "dhchap_ctrl_secret": options.dhchap_controller_secret,
        "tls": options.tls or None,
        "keyring": options.tls_keyring,
        "tls_key": options.tls_key,
    }
    return {name: value for name, value in given.items() if value is not None}


def supported_options(device: Path = FABRICS_DEVICE) -> frozenset[str] | None:
    """Names of the options that this kernel knows; None before Linux 5.17, which does not tell."""
    try:
        text = device.read_text()
    except OSError:
        return None
    return frozenset(option.partition("=")[0].strip() for option in text.split(",")) or None


def check_available(device: Path = FABRICS_DEVICE) -> None:
    """Raise `FabricsUnavailable` unless a connect could work."""
    if not device.exists():
        raise FabricsUnavailable(
            f"{device} does not exist: the kernel module for NVMe/TCP is not loaded, "
            "run `modprobe nvme-tcp`"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise FabricsUnavailable(f"{device} may only be used by root: run the daemon as root")


def connect(
    path: ControllerPath,
    host_id: UUID,
    options: ConnectOptions,
    device: Path = FABRICS_DEVICE,
) -> str:
    """Create a controller and return its name, e.g. `nvme3`. Blocks until it is live.

    Raises:
        AlreadyConnected: a controller on this path exists.
        Unsupported: the kernel has not the TLS or the authentication that the options ask for.
        FabricsUnavailable: this host cannot connect at all.
        KernelError: this connect failed.
    """
    what = f"connect to {path.cluster.subsystem_nqn} at {path.endpoint}"
    _check_protection(what, options, device)
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        check_available(device)
        raise
    try:
        os.write(fd, option_string(path, host_id, options).encode())
        reply = os.read(fd, _REPLY_BYTES).decode(errors="replace")
    except OSError as error:
        if error.errno == errno.EALREADY:
            raise AlreadyConnected(f"{what}: a controller exists already") from None
        # The message must not quote the option string: it may hold secrets.
        raise KernelError(f"{what}: {_explain(error)}") from None
    finally:
        os.close(fd)
    match = re.search(r"\binstance=([0-9]+)", reply)
    if match is None:
        raise KernelError(f"{what}: the kernel answered {reply.strip()!r} without an instance")
    return f"nvme{match[1]}"


def _check_protection(what: str, options: ConnectOptions, device: Path) -> None:
    asked = _protection(options).keys()
    known = supported_options(device) if asked else None
    if known is not None and (missing := asked - known):
        kind = "DH-HMAC-CHAP" if "dhchap_secret" in missing else "TLS for NVMe/TCP"
        raise Unsupported(f"{what}: not tried, for this kernel has no {kind}")


_EXPLANATIONS = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ETIMEDOUT: "no answer; check the network and firewalls on the way",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.EINVAL: (
        "the kernel refused the options: `dmesg` says which; a host id that another host NQN "
        "uses, or a missing module (run `modprobe nvme-tcp`), are the usual ones"
    ),
    errno.EACCES: "the target refused this host, or a DH-HMAC-CHAP secret is wrong",
    errno.EIO: "the target refused; is this host NQN in the ACL of a volume?",
}


def _explain(error: OSError) -> str:
    code = error.errno or 0
    # A target that answers Connect with an NVMe status makes write() fail with that status.
    text = os.strerror(code) if code in errno.errorcode else f"NVMe status {code:#x}"
    hint = _EXPLANATIONS.get(code)
    return f"{text} ({hint})" if hint else text


def disconnect(controller: KernelController, sysfs_root: Path = SYSFS_ROOT) -> None:
    """Delete a controller. Blocks until its queues are gone; one that is gone already is fine.

    Raises:
        KernelError: the kernel refused.
    """
    if not is_controller(controller.name):
        raise ValueError(f"{controller.name!r} is no controller name")
    folder = sysfs_root / "class" / "nvme" / controller.name
    # The kernel reuses names: never delete what took this one over since it was read.
    if (now := _read_controller(folder)) is None or now.path != controller.path:
        return
    try:
        # Not to be created: it goes first when another deletes the controller.
        descriptor = os.open(folder / "delete_controller", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError(
            f"disconnect of {controller.name} ({controller.path.endpoint}): {error.strerror}"
        ) from None


def is_controller(name: str) -> bool:
    """Whether the kernel names a controller so."""
    return _CONTROLLER_NAME.fullmatch(name) is not None


def read_controllers(sysfs_root: Path = SYSFS_ROOT) -> list[KernelController]:
    """Every NVMe/TCP controller of the kernel, discovery controllers included."""
    return [c for folder in _controller_folders(sysfs_root) if (c := _read_controller(folder))]


def read_identities(sysfs_root: Path = SYSFS_ROOT) -> frozenset[HostIdentity]:
    """Host NQN and host id pairs in use, over every fabrics transport."""
    return frozenset(
        HostIdentity(host_nqn, host_id)
        for folder in _controller_folders(sysfs_root)
        if (host_nqn := _read(folder / "hostnqn")) and (host_id := _uuid(_read(folder / "hostid")))
    )


def read_host_nqn(host_nqn_path: Path = HOST_NQN_PATH) -> str | None:
    """The machine's own host NQN, unchecked; None if it has none."""
    return _read(host_nqn_path) or None


def read_configured_identity(
    host_nqn_path: Path = HOST_NQN_PATH, host_id_path: Path = Path("/etc/nvme/hostid")
) -> HostIdentity | None:
    """The machine's own pair, None unless both files hold one."""
    host_nqn, host_id = read_host_nqn(host_nqn_path), _uuid(_read(host_id_path))
    return HostIdentity(host_nqn, host_id) if host_nqn and host_id else None


def choose_host_id(
    host_nqn: str, requested: UUID | None, host_id_path: Path, sysfs_root: Path = SYSFS_ROOT
) -> UUID:
    """The host id to connect `host_nqn` with, as `host_identity.host_id_for` decides."""
    return host_id_for(
        host_nqn,
        connected=read_identities(sysfs_root),
        requested=requested,
        configured=read_configured_identity(host_id_path=host_id_path),
    )


def _controller_folders(sysfs_root: Path) -> Iterator[Path]:
    try:
        folders = sorted((sysfs_root / "class" / "nvme").iterdir())
    except FileNotFoundError:
        return
    yield from (folder for folder in folders if is_controller(folder.name))


def _read_controller(folder: Path) -> KernelController | None:
    """None for another transport, and for a controller that vanishes while it is read."""
    if _read(folder / "transport") != "tcp":
        return None
    address = dict(
        pair.split("=", 1) for pair in (_read(folder / "address") or "").split(",") if "=" in pair
    )
    subsystem_nqn = _read(folder / "subsysnqn")
    if not subsystem_nqn or "traddr" not in address:
        return None
    try:
        endpoint = Endpoint(
            validated_ip_address(address["traddr"]), int(address.get("trsvcid", "4420"))
        )
    except (InvalidEntry, ValueError):
        return None
    return KernelController(
        name=folder.name,
        path=ControllerPath(Cluster(_read(folder / "hostnqn") or "", subsystem_nqn), endpoint),
        state=_read(folder / "state") or "",
        host_id=_uuid(_read(folder / "hostid")),
    )


def _read(path: Path) -> str | None:
    return attribute(path)


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
