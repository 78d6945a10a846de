# SPDX-License-Identifier: Apache-2.0
"""A network namespace of our own: a bridge, one address per lab node, a TAP per guest.

Everything that tests, demo and bench start lives inside, so nothing of the machine's own
network is touched and several runs, each with its own namespace, use the same addresses.

    with Network.for_this_process("test") as network:
        network.run(["ip", "-br", "address"])
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

NAME_PREFIX = "lightos-"
BRIDGE = "lightos0"
FILTER = "lightos"
PREFIX_LENGTH = 24
IPV6_PREFIX_LENGTH = 64
GATEWAY_ADDRESS = "192.168.75.1"
"""The bridge's own address: where Cinder and the tests themselves live."""
LAB_ADDRESSES = ("192.168.75.11", "192.168.75.12", "192.168.75.13")
HOST_ADDRESSES = ("192.168.75.101", "192.168.75.102")
COMPUTE_ADDRESSES = ("192.168.75.111", "192.168.75.112")

NETNS_FOLDER = Path("/run/netns")
RUN_FOLDER = Path("/run/lightos-testbed")
_EXIT_SECONDS = 5.0
_CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """The namespace, or something in it, could not be made; says which command and why."""


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NetworkError("the `ip` command is missing: install the package iproute2") from None
    except subprocess.CalledProcessError as error:
        hint = "" if os.geteuid() == 0 else " (network namespaces need root)"
        raise NetworkError(f"ip {' '.join(arguments)}: {error.stderr.strip()}{hint}") from None
    return done.stdout


def interface_address(address: str) -> list[str]:
    """Words for `ip address add`; an IPv6 address can be used at once, nobody else has it."""
    if ":" in address:
        return [f"{address}/{IPV6_PREFIX_LENGTH}", "nodad"]
    return [f"{address}/{PREFIX_LENGTH}"]


def _set_network_namespace(descriptor: int) -> None:
    """setns(2); Python has it as `os.setns` only from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise NetworkError(f"cannot enter the namespace: {os.strerror(ctypes.get_errno())}")


@dataclass(frozen=True)
class Network:
    """The namespace `name`; `create` and `destroy` can be repeated at any time."""

    name: str
    node_addresses: tuple[str, ...] = LAB_ADDRESSES

    def __post_init__(self) -> None:
        if not re.fullmatch(re.escape(NAME_PREFIX) + r"[a-z0-9-]{1,40}", self.name):
            raise ValueError(f"network name {self.name!r} must look like {NAME_PREFIX}demo")

    @classmethod
    def for_this_process(cls, purpose: str) -> Self:
        """A namespace that carries our pid, after removal of those whose process is gone."""
        for entry in NETNS_FOLDER.glob(f"{NAME_PREFIX}{purpose}-*"):
            owner = entry.name.rpartition("-")[2]
            if owner.isdecimal() and not Path("/proc", owner).exists():
                cls(entry.name).destroy()
        return cls(f"{NAME_PREFIX}{purpose}-{os.getpid()}")

    @property
    def exists(self) -> bool:
        return (NETNS_FOLDER / self.name).exists()

    @property
    def run_folder(self) -> Path:
        """Sockets, pid files and logs of what runs in this namespace."""
        return RUN_FOLDER / self.name

    def create(self) -> None:
        """Make the namespace anew; a leftover of the same name is destroyed first."""
        self.destroy()
        self.run_folder.mkdir(parents=True, mode=0o700)
        _ip("netns", "add", self.name)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        for address in (GATEWAY_ADDRESS, *self.node_addresses):
            self.add_address(address)
        self._ip("link", "set", BRIDGE, "up")

    def destroy(self) -> None:
        """End every process inside, then remove the namespace and its run folder."""
        if self.exists:
            self._end_processes()
            _ip("netns", "delete", self.name)
        for folder, folders, files in os.walk(self.run_folder, topdown=False):
            for name in files:
                Path(folder, name).unlink(missing_ok=True)
            for name in folders:
                Path(folder, name).rmdir()
        with contextlib.suppress(FileNotFoundError):
            self.run_folder.rmdir()

    def __enter__(self) -> Self:
        self.create()
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def add_address(self, address: str) -> None:
        """Give the bridge an address, e.g. bring a lab node's network back."""
        self._ip("address", "add", *interface_address(address), "dev", BRIDGE)

    def remove_address(self, address: str) -> None:
        """Take an address away: to hosts, that node is cut off without a goodbye."""
        self._ip("address", "delete", interface_address(address)[0], "dev", BRIDGE)

    def add_tap(self, tap: str) -> None:
        """A TAP device on the bridge, for one guest; an existing one is replaced."""
        self.remove_tap(tap)
        self._ip("tuntap", "add", tap, "mode", "tap")
        self._ip("link", "set", tap, "master", BRIDGE, "up")

    def remove_tap(self, tap: str) -> None:
        if f" {tap}:" in self._ip("-o", "link", "show"):
            self._ip("link", "delete", tap)

    def set_tap(self, tap: str, *, up: bool) -> None:
        """Pull or plug a guest's cable, at the bridge.

        The TAP itself stays up: user-mode Linux gives up a device that has failed once.
        """
        self._ip("link", "set", tap, *(["master", BRIDGE] if up else ["nomaster"]))

    @contextlib.contextmanager
    def filtered(self, *rules: str) -> Iterator[None]:
        """Rules of nftables for packets that come to our own addresses, or leave them.

        with network.filtered(f"ip saddr {host} ip daddr {node} drop"): ...
        """
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; {'; '.join(rules)}; }}\n"
            for hook in ("input", "output")
        )
        self.run(["nft", "-f", "-"], input=f"table inet {FILTER} {{\n{chains}}}\n")
        try:
            yield
        finally:
            self.run(["nft", "delete", "table", "inet", FILTER])

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it must be started to run inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self, argv: Sequence[str], *, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`subprocess.run` inside, text captured unless `options` say otherwise."""
        options = {"capture_output": True, "text": True, **options}
        return subprocess.run(self.command(argv), check=check, **options)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` inside. `ip netns exec` replaces itself, so the pid is argv's own."""
        return subprocess.Popen(self.command(argv), **options)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread, and what it starts, into the namespace for a while."""
        with open("/proc/thread-self/ns/net") as ours, (NETNS_FOLDER / self.name).open() as theirs:
            _set_network_namespace(theirs.fileno())
            try:
                yield
            finally:
                _set_network_namespace(ours.fileno())

    def pids(self) -> tuple[int, ...]:
        return tuple(int(pid) for pid in _ip("netns", "pids", self.name).split())

    def _end_processes(self) -> None:
        give_up_at = time.monotonic() + _EXIT_SECONDS
        ask = signal.SIGTERM
        while pids := [pid for pid in self.pids() if pid != os.getpid()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, ask)
            if time.monotonic() > give_up_at:
                if ask is signal.SIGKILL:
                    raise NetworkError(f"processes {pids} in namespace {self.name} do not end")
                ask, give_up_at = signal.SIGKILL, time.monotonic() + _EXIT_SECONDS
            time.sleep(0.1)

    def _ip(self, *arguments: str) -> str:
        return _ip("-n", self.name, *arguments)
