# SPDX-License-Identifier: Apache-2.0
"""The whole daemon against a lab's discovery services. What the kernel has is a tree of files
here, and its fabrics device is missing; connects to a real kernel are in tests/kernel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import socket
from collections.abc import AsyncIterator, Callable
from itertools import islice
from pathlib import Path

import pytest

from lightos.discovery import kernel
from lightos.discovery.config import Config
from lightos.discovery.daemon import DiscoveryClient, notify_systemd
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.entries import DiscoveryEntry, format_file
from lightos.discovery.follower import pauses
from lightos.discovery.ledger import Ledger
from tests.unit.discovery.conftest import ServedCluster, serving
from tests.unit.target.cluster import HOST_NQN, SUBSYSTEM_NQN

CLUSTER = Cluster(HOST_NQN, SUBSYSTEM_NQN)


class Host:
    """The folders of one host, and its daemon."""

    def __init__(self, root: Path) -> None:
        self.files = root / "discovery.d"
        self.files.mkdir()
        self.sysfs = root / "sys"
        internal = root / "internal"
        internal.mkdir()
        self.ledger_path = internal / "controllers.json"
        self.config = Config(
            discovery_dir=self.files,
            internal_dir=internal,
            host_id_path=root / "hostid",
            reconnect_interval_seconds=0.5,
            disconnect_delay_seconds=0.05,
        )
        self.client: DiscoveryClient

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[DiscoveryClient]:
        self.client = DiscoveryClient(
            self.config, fabrics_device=self.files / "no-such-device", sysfs_root=self.sysfs
        )
        ready = asyncio.Event()
        task = asyncio.create_task(self.client.run(ready.set))
        await ready.wait()
        try:
            yield self.client
        finally:
            self.client.stop()
            await task

    def want(self, cluster: ServedCluster, *services: int, name: str = "a.conf") -> None:
        endpoints = [cluster.service(number) for number in services]
        entries = [DiscoveryEntry(e.address, e.port, HOST_NQN, SUBSYSTEM_NQN) for e in endpoints]
        (self.files / name).write_text(format_file(entries))

    def add_controller(self, name: str, path: ControllerPath) -> Path:
        """A controller as sysfs shows one."""
        folder = self.sysfs / "class" / "nvme" / name
        folder.mkdir(parents=True)
        where = f"traddr={path.endpoint.address},trsvcid={path.endpoint.port}"
        for attribute, value in {
            "transport": "tcp",
            "state": "live",
            "address": where,
            "subsysnqn": path.cluster.subsystem_nqn,
            "hostnqn": path.cluster.host_nqn,
            "delete_controller": "",
        }.items():
            (folder / attribute).write_text(value)
        return folder


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def io_paths(cluster: ServedCluster, *numbers: int) -> set[ControllerPath]:
    return {
        ControllerPath(CLUSTER, Endpoint(f"127.0.0.{10 + n}", cluster.view.nvme_port))
        for n in numbers
    }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_file_makes_every_node_wanted_and_its_removal_none(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster, host.running() as client:
            assert client.status.clusters == ()
            host.want(cluster, 2)
            await until(lambda: client.status.clusters and client.status.clusters[0].active)
            (status,) = client.status.clusters
            assert status.active == cluster.service(2)
            assert set(status.endpoints) == {cluster.service(n) for n in (1, 2, 3)}
            assert status.wanted == io_paths(cluster, 1, 2, 3)
            (host.files / "a.conf").unlink()
            await until(lambda: not client.status.clusters)

    asyncio.run(scenario())


def test_a_host_without_the_module_says_so_and_does_not_spin(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster, host.running() as client:
            host.want(cluster, 1)
            await until(lambda: client.status.problem)
            assert "modprobe nvme-tcp" in client.status.problem
            assert client.status.health()["status"] == "failed"
            failures = client.status.connect_failures
            await asyncio.sleep(0.6)
            assert client.status.connect_failures - failures <= 3 * 5

    asyncio.run(scenario())


def test_controllers_that_exist_are_adopted_whoever_made_them(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            folders = [
                host.add_controller(f"nvme{number}", path)
                for number, path in enumerate(sorted(io_paths(cluster, 1, 2, 3)))
            ]
            async with host.running() as client:
                host.want(cluster, 3)
                await until(lambda: client.status.health()["status"] == "ok")
                assert client.status.connected_paths == io_paths(cluster, 1, 2, 3)
                (host.files / "a.conf").unlink()
                await until(lambda: not client.status.clusters)
                await asyncio.sleep(0.2)
            assert client.status.connect_failures == 0
            assert client.status.disconnects == 0
            assert {(folder / "delete_controller").read_text() for folder in folders} == {""}

    asyncio.run(scenario())


def test_own_controllers_go_with_the_last_file_even_after_a_restart(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            ours, theirs = sorted(io_paths(cluster, 1, 2))
            Ledger(host.ledger_path).add(ours)
            folder, other = host.add_controller("nvme0", ours), host.add_controller("nvme1", theirs)
            host.want(cluster, 1, name="a.conf")
            host.want(cluster, 1, 2, name="b.conf")
            async with host.running() as client:
                (host.files / "a.conf").unlink()
                await until(lambda: client.status.entry_count == 2)
                await asyncio.sleep(0.2)
                assert (folder / "delete_controller").read_text() == ""
                (host.files / "b.conf").unlink()
                await until(lambda: (folder / "delete_controller").read_text())
                assert (other / "delete_controller").read_text() == ""

    asyncio.run(scenario())


def test_nothing_goes_before_the_folder_could_be_read(host: Host) -> None:
    ours = ControllerPath(CLUSTER, Endpoint("127.0.0.11", 4420))
    Ledger(host.ledger_path).add(ours)
    deletion = host.add_controller("nvme0", ours) / "delete_controller"
    host.files.rmdir()
    written_before: list[str] = []

    def make_folder() -> None:
        written_before.append(deletion.read_text())
        host.files.mkdir()

    async def scenario() -> None:
        asyncio.get_running_loop().call_later(0.5, make_folder)
        async with host.running():
            await until(deletion.read_text)

    asyncio.run(scenario())
    assert written_before == [""]


def test_nothing_goes_while_a_file_was_bad_from_the_start(host: Host) -> None:
    ours = ControllerPath(CLUSTER, Endpoint("127.0.0.11", 4420))
    Ledger(host.ledger_path).add(ours)
    deletion = host.add_controller("nvme0", ours) / "delete_controller"
    (host.files / "a.conf").write_text(f"-t tcp -a 127.0.0.11 -q {HOST_NQN} -n\n")

    async def scenario() -> None:
        async with host.running() as client:
            await until(lambda: client.status.bad_line_count == 1)
            await asyncio.sleep(0.3)
            assert deletion.read_text() == ""
            (host.files / "a.conf").unlink()
            await until(deletion.read_text)

    asyncio.run(scenario())


def test_a_file_that_comes_at_the_moment_of_the_disconnect_prevents_it(host: Host) -> None:
    path = ControllerPath(CLUSTER, Endpoint("192.168.75.11", 4420))
    folder = host.add_controller("nvme0", path)
    client = DiscoveryClient(host.config, sysfs_root=host.sysfs)
    (controller,) = kernel.read_controllers(host.sysfs)
    entry = DiscoveryEntry("192.168.75.11", 8009, HOST_NQN, SUBSYSTEM_NQN)
    (host.files / "a.conf").write_text(format_file([entry]))
    assert not client._disconnect_unless_used(controller)
    assert (folder / "delete_controller").read_text() == ""
    (host.files / "a.conf").unlink()
    assert client._disconnect_unless_used(controller)
    assert (folder / "delete_controller").read_text() == "1"


def test_stopping_the_daemon_disconnects_nothing(host: Host, store_folder: Path) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster:
            (ours,) = io_paths(cluster, 1)
            Ledger(host.ledger_path).add(ours)
            folder = host.add_controller("nvme0", ours)
            host.want(cluster, 1)
            async with host.running() as client:
                await until(lambda: client.status.clusters)
            assert (folder / "delete_controller").read_text() == ""
            assert Ledger(host.ledger_path).paths == {ours}

    asyncio.run(scenario())


def test_another_service_takes_over_when_one_stops_and_nodes_come_and_go(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder, nodes=2) as cluster, host.running() as client:
            host.want(cluster, 1)
            await until(lambda: client.status.clusters and client.status.clusters[0].active)
            await cluster.start(3)
            await until(lambda: client.status.clusters[0].wanted == io_paths(cluster, 1, 2, 3))
            await cluster.stop(1)
            await until(lambda: client.status.clusters[0].wanted == io_paths(cluster, 2, 3))
            assert client.status.clusters[0].active in (cluster.service(2), cluster.service(3))

    asyncio.run(scenario())


def test_the_last_log_stays_in_force_while_no_service_answers(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder, nodes=2) as cluster, host.running() as client:
            host.want(cluster, 1)
            await until(lambda: client.status.clusters and client.status.clusters[0].active)
            both = client.status.clusters[0].wanted
            await cluster.lose_every_node()
            await until(lambda: client.status.clusters[0].active is None)
            await until(lambda: "127.0.0.11" in client.status.clusters[0].last_error)
            assert client.status.clusters[0].wanted == both
            await cluster.start(2)
            await until(lambda: client.status.clusters[0].wanted == io_paths(cluster, 2))

    asyncio.run(scenario())


def test_a_cluster_whose_nodes_were_all_replaced_is_found_by_those_it_had_last(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder, nodes=1) as cluster:
            async with host.running() as client:
                host.want(cluster, 1)
                await until(lambda: client.status.clusters and client.status.clusters[0].active)
                await cluster.start(2)
                await until(lambda: client.status.clusters[0].wanted == io_paths(cluster, 1, 2))
                await cluster.stop(1)
                await until(lambda: client.status.clusters[0].active == cluster.service(2))
            # The machine is started again, with the file of the day of the attach.
            async with host.running() as client:
                await until(lambda: client.status.clusters and client.status.clusters[0].active)
                assert client.status.clusters[0].wanted == io_paths(cluster, 2)
                # A file that names one that is gone, too, takes nothing away.
                host.want(cluster, 3)
                await until(lambda: cluster.service(3) in client.status.clusters[0].endpoints)
                await until(lambda: client.status.clusters[0].active == cluster.service(2))

    asyncio.run(scenario())


def test_bad_lines_are_counted_and_a_folder_that_goes_keeps_its_word(
    host: Host, store_folder: Path
) -> None:
    async def scenario() -> None:
        async with serving(store_folder) as cluster, host.running() as client:
            host.want(cluster, 1)
            (host.files / "bad.conf").write_text("-a nonsense\n")
            await until(lambda: client.status.bad_line_count == 1 and client.status.clusters)
            os.rename(host.files, host.files.with_name("away"))
            await asyncio.sleep(0.1)
            assert client.status.entry_count == 1
            host.files.mkdir()
            await until(lambda: client.status.entry_count == 0)
            assert client.status.bad_line_count == 0

    asyncio.run(scenario())


def test_a_service_that_hangs_up_each_time_is_not_asked_without_end(host: Host) -> None:
    async def scenario() -> None:
        calls = 0

        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, host.running():
            port = server.sockets[0].getsockname()[1]
            entry = DiscoveryEntry("127.0.0.1", port, HOST_NQN, SUBSYSTEM_NQN)
            (host.files / "a.conf").write_text(format_file([entry]))
            await until(lambda: calls)
            await asyncio.sleep(1)
        assert calls <= 10

    asyncio.run(scenario())


def test_hundreds_of_thousands_of_bad_lines_are_told_in_a_few(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with host.running() as client:
            for word in ("x", "y"):
                (host.files / "a.conf").write_text(f"{word}\n" * 300_000)
                await until(lambda: f"'{word}'" in caplog.text)  # noqa: B023
            assert client.status.bad_line_count == 1001

    asyncio.run(scenario())
    assert len(caplog.records) < 100
    assert "a.conf:300000: 299000 more lines" not in caplog.text
    assert "981 more bad lines" in caplog.text


class CountingSelector(selectors.DefaultSelector):
    """Counts how often an event loop looks for something to do."""

    looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.looks += 1
        return super().select(timeout)


def test_many_files_at_once_are_taken_together_and_waited_for_without_work(
    store_folder: Path, host: Host
) -> None:
    selector = CountingSelector()

    async def run() -> None:
        async with serving(store_folder) as cluster, host.running() as client:
            host.want(cluster, 1)
            await until(lambda: client.status.clusters and client.status.clusters[0].wanted)
            await asyncio.sleep(0.3)
            before = selector.looks
            for number in range(50):
                host.want(cluster, 1, name=f"volume-{number}.conf")
                await asyncio.sleep(0)
            await until(lambda: client.status.entry_count == 51)
            # `until` looks a hundred times a second itself.
            assert selector.looks - before < 300

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(run())


def test_services_that_offer_nothing_are_asked_once_each_and_the_last_is_kept(
    host: Host, store_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lightos.discovery.follower")

    async def scenario() -> None:
        async with serving(store_folder) as cluster, host.running() as client:
            service = cluster.service(2)
            unknown = DiscoveryEntry(
                service.address, service.port, HOST_NQN, f"{SUBSYSTEM_NQN}-unknown"
            )
            (host.files / "a.conf").write_text(format_file([unknown]))
            await until(lambda: len(offers()) == 3)
            await asyncio.sleep(1)
            (status,) = client.status.clusters
            assert status.active in {cluster.service(n) for n in (1, 3)}
            assert len(offers()) == 3

    def offers() -> list[str]:
        return [r.message for r in caplog.records if "offers 0 of 6 log entries" in r.message]

    asyncio.run(scenario())


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_the_daemon_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notify_systemd()
        assert listener.recv(100) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify_systemd()


def test_pauses_double_up_to_the_longest_and_no_two_hosts_keep_step() -> None:
    longest = 4.0
    here, there = (list(islice(pauses(longest), 8)) for _ in range(2))
    for number, seconds in enumerate(here):
        full = min(longest, 0.25 * 2**number)
        assert full / 2 <= seconds <= full
    assert here != there
