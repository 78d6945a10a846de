# SPDX-License-Identifier: Apache-2.0
"""What a scenario of the connector works with: a compute host without storage.

It is this machine, in a mount and a network namespace of the worker's own: what /sys/block and
/dev show of NVMe devices is a tree of files that the scenario changes, /etc/nvme and the
discovery folder are file systems in memory, and interfaces are those that a scenario makes.
All of it goes with the process.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import os_brick
import os_brick.privileged
from os_brick.initiator import connector as os_brick_connector
from oslo_config import cfg

from testbed.polling import wait_until
from testbed.sysfs_tree import SysfsTree

PATIENCE_SECONDS = 4
"""More than what asks a daemon or looks for a device that is not there should take."""

HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:6d5d0b8e-0000-4000-8000-000000000001"
SUBSYSTEM_NQN = "nqn.2016-01.com.lightbitslabs:uuid:5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
NO_ROOT_HELPER = ""

_ROOT = Path("/mnt")
_DEVICES_OF_PROGRAMS = ("null", "zero", "random", "urandom")


class ComputeBed:
    """The host, and os-brick on it with whichever connector this process has."""

    def __init__(self) -> None:
        _mount("-t", "tmpfs", "none", _ROOT)
        self.tree = SysfsTree(_ROOT)
        self.controller = self.tree.add_controller("nvme0")
        self.folder = _ROOT / "discovery.d"
        self.temporary_folder = _ROOT / "tmp"
        self.host_nqn_file = Path("/etc/nvme/hostnqn")
        for folder in (self.folder, self.temporary_folder):
            folder.mkdir()
        for name in _DEVICES_OF_PROGRAMS:
            (self.tree.dev / name).touch()
            _mount("--bind", Path("/dev", name), self.tree.dev / name)
        for block in ("/sys/block", "/sys/class/block"):
            _mount("--bind", self.tree.block, block)
        _mount("--rbind", self.tree.dev, "/dev")
        for folder in (self.folder, self.host_nqn_file.parent):
            _mount("-t", "tmpfs", "none", folder)
        _ip("link", "set", "lo", "up")
        tempfile.tempdir = str(self.temporary_folder)
        os_brick.privileged.default.set_client_mode(False)  # root already
        cfg.CONF([], project="defects")
        os_brick.setup(cfg.CONF)
        self._interfaces: list[str] = []
        self.reset()

    def reset(self) -> None:
        """As a host that uses no volume, with what its operator has to set up."""
        for device in self.tree.block.iterdir():
            (self.tree.dev / device.name).unlink()
            shutil.rmtree(device)
        for path in filter(Path.is_dir, self.controller.iterdir()):
            shutil.rmtree(path)
        for folder in (self.folder, self.temporary_folder, self.controller):
            for file in folder.iterdir():
                file.unlink()
        (self.controller / "state").write_text("live")
        self.host_nqn_file.write_text(f"{HOST_NQN}\n")
        for name in self._interfaces:
            _ip("link", "delete", name)
        self._interfaces.clear()
        cfg.CONF.clear_override("lightos_discovery_client_port", "os_brick")
        self.configure(
            lightos_discovery_client_dir_path=str(self.folder),
            lightos_discovery_client_address="127.0.0.1",
            lock_path=str(_ROOT / "locks"),
        )

    @staticmethod
    def configure(**options: object) -> None:
        """Options of [os_brick]."""
        for name, value in options.items():
            cfg.CONF.set_override(name, value, "os_brick")

    # --- os-brick ------------------------------------------------------------------------------

    @staticmethod
    def connector(*, patient: bool = False, scan_attempts: int | None = None) -> Any:
        """A connector as Nova makes it; unless `patient`, one that hardly waits for devices."""
        if scan_attempts is None:
            scan_attempts = 5 if patient else 0
        made = os_brick_connector.InitiatorConnector.factory(
            "LIGHTOS", NO_ROOT_HELPER, device_scan_attempts=scan_attempts
        )
        if not patient:
            made.WAIT_DEVICE_TIMEOUT = 1  # seconds; what the incumbent has in place of attempts
        return made

    @staticmethod
    def connector_properties() -> dict[str, Any]:
        """What os-brick tells of this host, for attachments of any protocol."""
        return dict(
            os_brick_connector.get_connector_properties(
                NO_ROOT_HELPER, "127.0.0.1", multipath=True, enforce_multipath=False, host="host"
            )
        )

    @staticmethod
    def connection(volume_uuid: str, *addresses: str) -> dict[str, Any]:
        """`data` of the connection_info that Cinder sends."""
        return {
            "uuid": volume_uuid,
            "subsysnqn": SUBSYSTEM_NQN,
            "lightos_nodes": {
                address: {"target_portal": address, "target_port": 8009, "transport_type": "tcp"}
                for address in addresses or ("192.168.75.11",)
            },
        }

    # --- the host ------------------------------------------------------------------------------

    def file_of(self, volume_uuid: str) -> Path:
        return self.folder / f"{volume_uuid}.conf"

    def new_volume(self) -> str:
        """The UUID of a volume that the kernel has no device of."""
        return str(uuid4())

    def attached_volume(self) -> str:
        """The UUID of a volume that the kernel has a device of."""
        uuid = self.new_volume()
        self.add_device(uuid)
        return uuid

    def add_device(self, volume_uuid: str) -> Path:
        """The kernel finds a namespace; its folder in sysfs."""
        number = len(list(self.tree.block.iterdir())) + 1
        return self.tree.add_namespace(f"nvme0n{number}", volume_uuid)

    def strays(self) -> list[Path]:
        """Files that are neither discovery files nor were there before."""
        folders = (self.folder, self.temporary_folder)
        return [file for folder in folders for file in folder.iterdir() if file.suffix != ".conf"]

    def add_interface(self, name: str, *addresses: str) -> None:
        _ip("link", "add", name, "type", "bridge")
        self._interfaces.append(name)
        for address in addresses:
            _ip("address", "add", address, "dev", name)
        _ip("link", "set", name, "up")

    @contextmanager
    def silent_discovery_client(self) -> Iterator[socket.socket]:
        """One that takes connections and never answers; closing it hangs up."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.configure(lightos_discovery_client_port=listener.getsockname()[1])
            yield listener


def connections(listener: socket.socket) -> int:
    """How many came to it."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def returns(call: Future[Any], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a call returns, or raises, in that time."""
    return bool(wait([call], seconds).done)


@contextmanager
def started(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Future[Any]]:
    """A call beside the scenario, which has to see to it that it can return."""
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(operation, *args, **kwargs)


def once(condition: Callable[[], bool], then: Callable[[], Any], pause_seconds: float) -> None:
    """Do `then` a little after `condition` is true; nothing if it is not within the patience."""
    try:
        wait_until(condition, "", PATIENCE_SECONDS, pause=0.01)
    except TimeoutError:
        return
    time.sleep(pause_seconds)
    then()


def _mount(*words: object) -> None:
    _run(["mount", *map(str, words)])


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
