# SPDX-License-Identifier: Apache-2.0
"""The Debian package of the discovery client on a real kernel host, by its own dpkg and systemd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.__main__ import Release
from release.debian import PACKAGE
from testbed.discovery_daemon import FOLDER, DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.kernel_image import kernel_image
from testbed.lab import Lab
from testbed.network import Network
from testbed.systemd import Systemd
from tests.kernel.controllers import wait_for_controllers

pytestmark = pytest.mark.nightly

UNIT = f"{PACKAGE}.service"
CONFIGURATION = "/etc/discovery-client/discovery-client.yaml"
INSTALL_SECONDS = 600
"""Under emulation, beside other tests."""


@pytest.fixture(scope="module")
def newer(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package once more, as the next version."""
    folder = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "-R", release.debian, folder / "tree"], check=True)
    control = folder / "tree/DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    subprocess.run(["dpkg-deb", "-b", folder / "tree", folder / "newer.deb"], check=True)
    return folder / "newer.deb"


@pytest.fixture(scope="module")
def network(newer: Path) -> Iterator[Network]:
    """Entered once everything that needs a registry is there."""
    kernel_image()
    with Network.for_this_process("package") as made, made.entered():
        yield made


@pytest.fixture(scope="module")
def lab(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(network, tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture(scope="module")
def host(network: Network) -> Iterator[KernelHost]:
    with KernelHost(network, "host1") as started:
        # Containers have it to keep packages from starting services.
        started.run(["rm", "-f", "/usr/sbin/policy-rc.d", CONFIGURATION])
        started.run(["modprobe", "nvme-tcp"])
        yield started


@pytest.fixture(scope="module")
def systemd(host: KernelHost) -> Iterator[Systemd]:
    with Systemd(host, UNIT) as started:
        yield started


def test_installed_started_upgraded_removed_and_purged(
    release: Release, newer: Path, systemd: Systemd, host: KernelHost, lab: Lab
) -> None:
    def dpkg(*arguments: str | Path) -> str:
        command = systemd.command(["dpkg", *map(str, arguments)])
        return host.run(command, timeout_seconds=INSTALL_SECONDS).stdout

    def main_pid() -> int:
        return int(systemd.show("MainPID")["MainPID"])

    dpkg("--install", release.debian)
    systemd.wait_active()
    assert systemd.show("UnitFileState") == {"UnitFileState": "enabled"}
    health = host.run(systemd.command(["curl", "-s", "http://127.0.0.1:6060/healthz"])).stdout
    assert json.loads(health)["status"] == "ok"
    unit = host.read_file(f"/lib/systemd/system/{UNIT}").decode()
    assert unit == host.run(["/usr/bin/lightos", "discovery-client", "systemd-unit"]).stdout
    assert host.run(["systemd-analyze", "verify", f"/lib/systemd/system/{UNIT}"]).stderr == ""

    nodes = lab.network.node_addresses
    DiscoveryDaemon(host).publish("volume.conf", lab.subsystem_nqn, nodes[0])
    connected = wait_for_controllers(host, lab, nodes)
    settings = "logging: {level: debug}\n"
    host.write_file(CONFIGURATION, settings.encode())
    first = main_pid()
    dpkg("--install", newer)
    systemd.wait_active()
    assert main_pid() != first
    assert wait_for_controllers(host, lab, nodes) == connected
    assert host.read_file(CONFIGURATION).decode() == settings

    dpkg("--remove", PACKAGE)
    assert systemd.show("ActiveState", "LoadState")["ActiveState"] == "inactive"
    assert wait_for_controllers(host, lab, nodes) == connected
    assert host.shell("ls -d /usr/lib/lightos-* /usr/bin/lightos 2>/dev/null || true") == ""
    dpkg("--purge", PACKAGE)
    assert host.shell("find /etc/discovery-client -type f").split() == [f"{FOLDER}/volume.conf"]
