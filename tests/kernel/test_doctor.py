# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor --host` on a real kernel, with our discovery client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from lightos.api.models.volumes import Volume
from testbed import nvme
from testbed.discovery_daemon import FOLDER, DiscoveryDaemon
from testbed.guest import OS_BRICK, Guest
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.controllers import controllers, wait_for_controllers
from tests.kernel.volumes import Volumes


def doctor(host: Guest, **environment: str) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings."""
    words = ("doctor", "--host", "--json")
    done = host.call("tests.kernel.guest_cli.run", *words, **environment)
    assert done["stderr"] == ""
    return done["status"], json.loads(done["stdout"])["findings"]


def bad(findings: list[dict[str, str]]) -> dict[str, str]:
    """Of what is not well: check -> severity, subject and words."""
    return {
        each["check"]: f"{each['severity']} {each['subject']}: {each['said']}"
        for each in findings
        if each["severity"] != "ok"
    }


@dataclass(frozen=True)
class Attached:
    """A volume that the discovery client connected, for the file `name`."""

    volume: Volume
    device: str
    name: str
    controllers: Mapping[str, str]
    """By address."""


@pytest.fixture
def attached(daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes) -> Iterator[Attached]:
    nodes = lab.network.node_addresses
    # What is still being imported there would tell its warnings amid the doctor's words.
    daemon.host.call("testbed.guest_agent.warm_up", OS_BRICK)
    volume = volumes.create(daemon.host.host_nqn)
    name = f"{volume.uuid}.conf"
    daemon.publish(name, lab.subsystem_nqn, *nodes)
    connected = wait_for_controllers(daemon.host, lab, nodes)
    device = nvme.wait_for_device(daemon.host, volume.uuid)
    wait_until(lambda: doctor(daemon.host)[0] == 0, "all is well")
    yield Attached(volume, device, name, connected)
    daemon.remove(*daemon.files())
    wait_for_controllers(daemon.host, lab, ())


def test_a_good_host(host: KernelHost, attached: Attached) -> None:
    status, findings = doctor(host)
    assert (status, bad(findings)) == (0, {})
    said = {each["check"]: f"{each['subject']}: {each['said']}" for each in findings}
    assert said["host-nqn"].endswith(host.host_nqn)
    assert said["host-id"].endswith(host.host_id)
    assert said["multipath"] == "nvme_core.multipath: native multipath is on"
    assert f"an optimized path to each of 1 volumes: {attached.device}" in said["ana"]
    assert "kato 5 s, ctrl_loss_tmo 600 s, reconnect_delay 2 s" in said["time-outs"]


def test_time_outs_that_are_not_those_configured_and_a_client_that_does_not_answer(
    host: KernelHost, attached: Attached
) -> None:
    status, findings = doctor(host, DC_KATO="20", DC_DEBUG_ENDPOINT="127.0.0.1:6061")
    assert status == 2
    found = bad(findings)
    assert found.keys() == {"time-outs", "discovery-client"}
    assert "kato 5 s" in found["time-outs"]
    assert "no discovery client answers" in found["discovery-client"]


def test_another_host_id_and_files_that_are_wrong(
    daemon: DiscoveryDaemon, lab: Lab, attached: Attached
) -> None:
    host = daemon.host
    other = "22222222-2222-4222-8222-222222222222"
    host.write_file("/etc/nvme/hostid", other.encode())
    host.write_file(f"{FOLDER}/bad", b"-t rdma\n")
    daemon.publish(f"{other}.conf", lab.subsystem_nqn, *lab.network.node_addresses)
    try:
        status, findings = doctor(host)
    finally:
        host.write_file("/etc/nvme/hostid", host.host_id.encode())
    assert status == 2
    found = bad(findings)
    assert found.keys() == {"host-pair", "discovery-files", "leftover"}
    assert f"{host.host_nqn} is paired with" in found["host-pair"]
    assert "/bad: line 1: " in found["discovery-files"]
    assert f"{other}.conf" in found["leftover"]


def test_a_node_that_is_away(host: KernelHost, lab: Lab, attached: Attached) -> None:
    primary = attached.volume.primary_node_uuid
    away = lab.node_address(primary)
    lab.stop_node(lab.node_name(primary))
    try:
        wait_until(lambda: away not in controllers(host, lab.subsystem_nqn), "the path is lost")
        wait_until(lambda: "ana" not in bad(doctor(host)[1]), "another path has access")
        status, findings = doctor(host)
    finally:
        lab.start_node(lab.node_name(primary))
    assert status == 1
    lost = f"2 of 3 controllers live; not {attached.controllers[away]} ({away}:4420"
    assert lost in bad(findings)["paths"]
    wait_for_controllers(host, lab, lab.network.node_addresses)


def test_controllers_that_no_file_asks_for(
    daemon: DiscoveryDaemon, lab: Lab, attached: Attached
) -> None:
    host = daemon.host
    user = host.popen(["sh", "-c", f"exec sleep 600 < {attached.device}"])
    try:
        daemon.remove(attached.name)
        wait_until(lambda: "leftover" in bad(doctor(host)[1]), "no file wants them")
        wait_until(lambda: "it stays connected" in daemon.log, "the client sees that it is in use")
        status, findings = doctor(host)
    finally:
        user.signal()
    assert status == 1
    assert f"which the client made; it has {attached.device}" in bad(findings)["leftover"]
