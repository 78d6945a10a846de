# SPDX-License-Identifier: Apache-2.0
"""What changes while cinder-volume runs: nodes, addresses, the token, hosts, and its own death."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openstack import exceptions

from testbed.cinder.client import Attachment, CinderClient
from testbed.cinder.errors import CinderFailed
from testbed.cinder.service import CinderService
from testbed.cluster import (
    Cluster,
    connector,
    free_port,
    loopback_addresses,
    running_lab,
    stopped_node,
)
from testbed.faults import Faults
from testbed.polling import wait_until
from tests.integration.conftest import StartCinder, assert_nothing_left, ready_client

HOST = connector("compute-1", number=1)
OTHER = connector("compute-2", number=2)
SEEN_SECONDS = 40
"""Statistics are refreshed every 5 s here; what follows them shows long before this."""


@pytest.fixture
def lab_dir(tmp_path: Path) -> Path:
    return tmp_path / "lab"


@pytest.fixture
def lab(lab_dir: Path) -> Iterator[dict[str, Any]]:
    """A cluster of its own for each test, which changes it."""
    with running_lab(lab_dir) as description:
        yield description


@pytest.fixture
def cluster(lab: dict[str, Any]) -> Cluster:
    return Cluster(lab)


@pytest.fixture
def faults(lab: dict[str, Any]) -> Faults:
    return Faults(lab)


def kill_during(
    service: CinderService, operation: Callable[[], object], condition: Callable[[], bool]
) -> None:
    """Kill Cinder in the midst of an operation, once a condition holds."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(operation)
        wait_until(condition, "the moment to kill Cinder", SEEN_SECONDS)
        service.kill()
        assert running.exception() is not None


def test_nodes_come_and_go_without_a_restart(
    lab: dict[str, Any],
    lab_dir: Path,
    cluster: Cluster,
    faults: Faults,
    start_cinder: StartCinder,
) -> None:
    """One address is configured; the driver goes on when that node is down."""
    first = lab["nodes"][0]
    service = start_cinder(lab, lightos={"lightos_api_address": first["address"]}).wait_ready()
    client = ready_client(service)
    volume = client.create_volume(1)
    new = f"{first['address'].rpartition('.')[0]}.9"
    faults.add_node(new)

    def hosts_are_told_of_it() -> bool:
        attachment = client.attach(volume.id, HOST)
        client.complete_attachment(attachment)
        client.detach(attachment)
        return new in attachment.connection_info["lightos_nodes"]

    wait_until(hosts_are_told_of_it, f"hosts are told of {new}", SEEN_SECONDS)
    with stopped_node(lab_dir, first["name"]):
        client.extend_volume(volume.id, 2)
        client.remove_everything()


def test_a_token_replaced_under_load_fails_nothing(
    lab: dict[str, Any],
    cluster: Cluster,
    faults: Faults,
    start_cinder: StartCinder,
) -> None:
    """The cluster takes another key: what was good is refused, and a new token is in the file."""
    service = start_cinder(
        lab, lightos={"lightos_jwt": None, "lightos_jwt_file": lab["jwt_file"]}, threading=True
    ).wait_ready()
    client = ready_client(service)
    volumes = [client.create_volume(1) for _ in range(3)]
    replaced = threading.Event()

    def work(volume: Any) -> None:
        rounds_after = 0
        own = CinderClient.of(service)
        while rounds_after < 2:
            rounds_after += replaced.is_set()
            attachment = own.attach(volume.id, HOST)
            own.complete_attachment(attachment)
            own.detach(attachment)

    with ThreadPoolExecutor(len(volumes)) as pool:
        working = [pool.submit(work, volume) for volume in volumes]
        faults.add(token="replace")
        replaced.set()
        for worker in working:
            worker.result()
    client.remove_everything()
    assert_nothing_left(Cluster(lab))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, CinderService]]:
    """A cluster and a Cinder for the tests that leave them as they were."""
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        folder = tmp_path_factory.mktemp("cinder")
        with CinderService(folder, lab, free_port(), incumbent=False, threading=True) as service:
            yield Cluster(lab), service


@pytest.fixture
def client(shared: tuple[Cluster, CinderService]) -> Iterator[CinderClient]:
    client = ready_client(shared[1])
    yield client
    client.remove_everything()
    assert_nothing_left(shared[0])


def test_a_second_machine_with_a_hosts_nqn_is_refused_to_the_user(
    shared: tuple[Cluster, CinderService], client: CinderClient
) -> None:
    first, second = client.create_volume(1), client.create_volume(1)
    attachment = client.attach(first.id, HOST)
    client.complete_attachment(attachment)
    clone = OTHER | {"nqn": HOST["nqn"]}
    with pytest.raises(
        exceptions.HttpException,
        match=r"Hosts compute-2 \(192\.168\.75\.102\) and compute-1 \(192\.168\.75\.101\) have the",
    ):
        client.attach(second.id, clone)
    assert shared[0].host_nqns(second.id) == set()
    client.detach(attachment)


def test_attachments_of_one_host_come_and_go_at_once(
    shared: tuple[Cluster, CinderService], client: CinderClient
) -> None:
    cluster, service = shared
    volume_type = client.create_type("at-once", {"multiattach": "<is> True"})
    volume = client.create_volume(1, volume_type=volume_type)
    cut_off = []

    def attach(own: CinderClient, host: dict[str, Any]) -> Attachment:
        while True:
            try:
                return own.attach(volume.id, host)
            except exceptions.BadRequestException as refused:
                if "status must be" not in str(refused):
                    raise
                # Another attachment changed the volume's status while Cinder looked at it.

    def instance(number: int) -> None:
        own = CinderClient.of(service)
        host = HOST | {"mountpoint": f"/dev/vd{number}"}
        for _ in range(4):
            attachment = attach(own, host)
            if cluster.host_nqns(volume.id) != {HOST["nqn"]}:
                cut_off.append(number)
            own._request("DELETE", f"/attachments/{attachment.id}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(instance, range(4)))
    assert cut_off == []
    wait_until(lambda: cluster.host_nqns(volume.id) == set(), "no access is left", SEEN_SECONDS)


def test_an_attach_cut_short_by_a_crash_leaves_no_access(
    lab: dict[str, Any],
    cluster: Cluster,
    faults: Faults,
    start_cinder: StartCinder,
) -> None:
    """Killed between the write of the access list and its confirmation."""
    service = start_cinder(lab).wait_ready()
    client = ready_client(service)
    volume = client.create_volume(1)
    client.complete_attachment(client.attach(volume.id, OTHER))
    other = client.create_volume(1)
    with faults.during(operation="GetVolume", delay_seconds=600, first=2, count=0):
        kill_during(
            service,
            lambda: client.attach(other.id, HOST),
            lambda: cluster.host_nqns(other.id) == {HOST["nqn"]},
        )
    assert cluster.host_nqns(other.id) == {HOST["nqn"]}

    client = ready_client(start_cinder(lab).wait_ready())
    wait_until(lambda: cluster.host_nqns(other.id) == set(), "no access is left", SEEN_SECONDS)
    assert cluster.host_nqns(volume.id) == {OTHER["nqn"]}
    client.remove_everything()


def test_a_create_cut_short_by_a_crash_leaves_nothing(
    lab: dict[str, Any],
    cluster: Cluster,
    faults: Faults,
    start_cinder: StartCinder,
) -> None:
    service = start_cinder(lab).wait_ready()
    client = ready_client(service)
    source = client.create_volume(1)
    with faults.during(operation="DeleteSnapshot", delay_seconds=600, count=0):
        kill_during(
            service,
            lambda: client.create_volume(1, source=source),
            lambda: len(cluster.volumes()) == 2 and len(cluster.snapshots()) == 1,
        )

    client = ready_client(start_cinder(lab).wait_ready())
    wait_until(lambda: cluster.snapshots() == [], "no snapshot is left", SEEN_SECONDS)
    wait_until(
        lambda: [v["name"] for v in cluster.volumes()] == [f"volume-{source.id}"],
        "no half-made volume is left",
        SEEN_SECONDS,
    )
    client.remove_everything()


def test_an_address_of_nobody_is_told_at_once(
    lab: dict[str, Any], start_cinder: StartCinder
) -> None:
    """With the default time-outs, a cluster that is not there is no reason to hang."""
    service = start_cinder(lab, lightos={"lightos_api_address": loopback_addresses(1)[0]})
    with pytest.raises(CinderFailed, match=r"lightos_api_address: .*Check the API addresses"):
        service.wait_ready(timeout_seconds=25)
