# SPDX-License-Identifier: Apache-2.0
"""Kernel tests need root, QEMU and the distribution's kernel package, and nothing of the machine
but its files: one namespace, one lab and one guest serve the whole session. Where the guest
cannot boot, every test fails; none is skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.console import Console

from bench.paths import report
from lightos.api.client import LightOSClient
from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.kernel_image import kernel_image
from testbed.lab import Lab
from testbed.network import HOST_ADDRESSES, Network
from tests.kernel.controllers import wait_for_controllers
from tests.kernel.volumes import Volumes

REPORT_COLUMNS = 120
"""Also where no terminal says how many it has."""
_OUTCOMES = pytest.StashKey[list[report.Outcome]]()


@pytest.fixture
def path_outcomes(pytestconfig: pytest.Config) -> list[report.Outcome]:
    """What faults of paths came to; a table of them ends the run."""
    return pytestconfig.stash.setdefault(_OUTCOMES, [])


def pytest_terminal_summary(config: pytest.Config) -> None:
    if outcomes := config.stash.get(_OUTCOMES, []):
        Console(width=REPORT_COLUMNS).print(report.table(outcomes))


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The session's namespace; this thread, so every socket of a test, is inside.

    The kernel is fetched before: no package archive can be reached from inside.
    """
    kernel_image()
    with Network.for_this_process("test") as made, made.entered():
        yield made


@pytest.fixture(scope="session")
def _powered_on(network: Network) -> Iterator[KernelHost]:
    """The guest boots while the lab starts."""
    host = KernelHost(network, "host1", HOST_ADDRESSES[0])
    host.launch()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def lab(
    network: Network, _powered_on: KernelHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A healthy lab cluster of three nodes."""
    with Lab(network, tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture(scope="session")
def host(_powered_on: KernelHost, lab: Lab) -> KernelHost:
    """A real Linux host with nvme-tcp, at the address 192.168.75.101."""
    _powered_on.wait_ready()
    _powered_on.run(["modprobe", "-a", "nvme-tcp", "ext4"])
    _powered_on.warm_up()
    return _powered_on


@pytest.fixture(scope="session")
def second_host(network: Network, host: KernelHost) -> Iterator[KernelHost]:
    """Another host, with an NQN and an address of its own; booted for who asks for it."""
    with KernelHost(network, "host2", HOST_ADDRESSES[1], memory_mib=512, cpus=1) as started:
        started.run(["modprobe", "nvme-tcp"])
        yield started


@pytest.fixture(scope="session")
def client(lab: Lab) -> Iterator[LightOSClient]:
    made = lab.client()
    yield made
    made.close()


@pytest.fixture
def volumes(client: LightOSClient) -> Iterator[Volumes]:
    """Makes volumes, and deletes them after the test."""
    made = Volumes(client)
    yield made
    made.delete_all()


@pytest.fixture
def connected(host: KernelHost, lab: Lab, volumes: Volumes) -> Iterator[KernelHost]:
    """`host` with a controller on every node of the lab, found by `nvme connect-all`."""
    nvme.connect_all(host, lab.network.node_addresses[0])
    yield host
    nvme.disconnect(host, lab.subsystem_nqn)


@pytest.fixture(scope="module")
def _running_daemon(host: KernelHost) -> Iterator[DiscoveryDaemon]:
    with DiscoveryDaemon(host) as daemon:
        yield daemon


@pytest.fixture
def daemon(_running_daemon: DiscoveryDaemon, lab: Lab) -> Iterator[DiscoveryDaemon]:
    """A discovery client that runs, on a host that is connected to nothing before and after."""
    yield _running_daemon
    _running_daemon.remove(*_running_daemon.files())
    nvme.disconnect(_running_daemon.host, lab.subsystem_nqn)
    wait_for_controllers(_running_daemon.host, lab, ())
    _running_daemon.check()
