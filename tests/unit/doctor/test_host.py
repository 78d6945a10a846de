# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor --host` on a good host and on broken ones: the kernel is a tree of files, the
discovery client's status page its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.entries import DiscoveryEntry, format_file
from lightos.discovery.ledger import Ledger
from lightos.discovery.status import ClusterStatus, Status, StatusServer
from lightos.doctor.checks import host as checks
from lightos.doctor.checks.host import HostFacts
from lightos.doctor.findings import Finding, Severity
from lightos.doctor.gather import host as gather
from testbed.sysfs_tree import SysfsTree

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
HOST_ID = "11111111-1111-4111-8111-111111111111"
OTHER_ID = "22222222-2222-4222-8222-222222222222"
SUBSYSTEM = "nqn.2016-01.com.lightbitslabs:uuid:9c2a"
VOLUME = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"
NODES = ("192.168.75.11", "192.168.75.12", "192.168.75.13")
CLUSTER = Cluster(HOST, SUBSYSTEM)
PATHS = frozenset(ControllerPath(CLUSTER, Endpoint(node, 4420)) for node in NODES)
SECRET = "DHHC-1:00:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0:"
MODULES = ("nvme_core", "nvme_fabrics", "nvme_tcp")


def connected(paths: frozenset[ControllerPath] = PATHS, **changes: Any) -> Status:
    cluster = ClusterStatus(CLUSTER, active=Endpoint(NODES[0], 8009), wanted=PATHS)
    return Status((replace(cluster, **changes),), connected_paths=paths)


@dataclass
class Host:
    """A host in order, with a volume attached over three paths. A test breaks something of it."""

    folder: Path
    kernel: SysfsTree
    status: Status = field(default_factory=connected)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> gather.Places:
        etc = self.folder / "etc"
        return gather.Places(self.kernel.sysfs, self.kernel.dev / "nvme-fabrics", etc / "hostnqn")

    @property
    def files(self) -> Path:
        return self.folder / "discovery.d"

    def write_file(self, name: str, *nodes: str, nqn: str = HOST, comment: str = "") -> None:
        entries = [DiscoveryEntry(node, 8009, nqn, SUBSYSTEM) for node in nodes]
        (self.files / name).write_text(format_file(entries, comment))

    def write_attribute(self, controller: str, name: str, value: str) -> None:
        (self.kernel.subsystem / controller / name).write_text(value)

    def look(self) -> HostFacts:
        return gather.host(None, self.environment, self.places)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path, SysfsTree(tmp_path))
    for folder in ("etc", "discovery.d", "internal"):
        (tmp_path / folder).mkdir()
    (tmp_path / "etc" / "hostnqn").write_text(f"{HOST}\n")
    (tmp_path / "etc" / "hostid").write_text(f"{HOST_ID}\n")
    for name in MODULES:
        host.kernel.add_module(name, **({"multipath": "Y"} if name == "nvme_core" else {}))
    (host.kernel.dev / "nvme-fabrics").write_text("transport=%s,traddr=%s\n")
    (host.kernel.subsystem / "subsysnqn").write_text(f"{SUBSYSTEM}\n")
    for number, node in enumerate(NODES):
        host.kernel.add_controller(
            f"nvme{number}",
            transport="tcp",
            address=f"traddr={node},trsvcid=4420",
            subsysnqn=SUBSYSTEM,
            hostnqn=HOST,
            hostid=HOST_ID,
            kato="5",
            ctrl_loss_tmo="600",
            reconnect_delay="2",
        )
    host.kernel.add_namespace("nvme0n1", VOLUME)
    for number, state in enumerate(("inaccessible", "optimized", "inaccessible")):
        host.kernel.set_ana_state(f"nvme{number}", "nvme0n1", state)
    host.write_file(f"{VOLUME}.conf", *NODES, comment="used by nova")
    host.write_file("cluster1", NODES[0])
    with StatusServer(Endpoint("127.0.0.1", 0), lambda: host.status) as server:
        host.environment = {
            "DC_CLIENTCONFIGDIR": str(host.files),
            "DC_INTERNALDIR": str(tmp_path / "internal"),
            "DC_NVMEHOSTIDPATH": str(tmp_path / "etc" / "hostid"),
            "DC_DEBUG_ENDPOINT": f"127.0.0.1:{server.port}",
        }
        yield host


def bad(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [
        (each.severity.name, each.check, f"{each.subject}: {each.said} | {each.fix}")
        for each in findings
        if each.severity is not Severity.OK
    ]


def test_a_host_in_order(host: Host) -> None:
    found = checks.findings(host.look())
    assert bad(found) == []
    said = {each.check: f"{each.subject}: {each.said}" for each in found}
    assert said["module"].startswith("nvme_core, nvme_fabrics, nvme_tcp")
    assert said["host-nqn"].endswith(HOST)
    assert said["host-id"].endswith(HOST_ID)
    assert "1 pair in use" in said["host-pair"]
    assert "all of 1 clusters connected" in said["discovery-client"]
    assert "2 files, all in order" in said["discovery-files"]
    assert said["paths"] == f"{SUBSYSTEM}: 3 controllers, all live"
    assert said["ana"] == f"{SUBSYSTEM}: an optimized path to each of 1 volumes: /dev/nvme0n1"
    in_force = "kato 5 s, ctrl_loss_tmo 600 s, reconnect_delay 2 s on nvme0, nvme1, nvme2"
    assert said["time-outs"] == f"{SUBSYSTEM}: {in_force}"
    assert "leftover" in said


def no_modules(host: Host) -> None:
    for name in MODULES:
        (host.kernel.sysfs / "module" / name).rename(host.folder / name)
    (host.kernel.dev / "nvme-fabrics").unlink()


def no_native_multipath(host: Host) -> None:
    (host.kernel.sysfs / "module" / "nvme_core" / "parameters" / "multipath").write_text("N\n")


def no_ana(host: Host) -> None:
    for number in range(3):
        host.kernel.set_ana_state(f"nvme{number}", "nvme0n1", "")


def no_access(host: Host) -> None:
    host.kernel.set_ana_state("nvme1", "nvme0n1", "inaccessible")


def two_ids(host: Host) -> None:
    (host.folder / "etc" / "hostid").write_text(f"{OTHER_ID}\n")


def lost_paths(host: Host, *numbers: int) -> None:
    for number in numbers:
        host.write_attribute(f"nvme{number}", "state", "connecting\n")


def no_subsystem(host: Host) -> None:
    for link in host.kernel.controllers.iterdir():
        link.unlink()


def abandoned(host: Host) -> None:
    (host.files / f"tmp.dc.{VOLUME}.conf").touch()


def gone_user(host: Host) -> None:
    host.write_file(f"{VOLUME}.conf", *NODES, comment=f"used by cinder:{os.getpid()}:1")


def unwanted(host: Host) -> None:
    for file in host.files.iterdir():
        file.unlink()
    ledger = Ledger(host.folder / "internal" / "controllers.json")
    for path in PATHS:
        ledger.add(path)


def write(name: str, content: str) -> Callable[[Host], None]:
    def broken(host: Host) -> None:
        (host.folder / name).write_text(content)

    return broken


def settings(**changes: str) -> Callable[[Host], None]:
    return lambda host: host.environment.update(changes)


def says(status: Status) -> Callable[[Host], None]:
    return lambda host: setattr(host, "status", status)


ONE_PATH = frozenset(sorted(PATHS)[:1])

BROKEN: dict[str, tuple[Callable[[Host], None], list[tuple[str, str, str]]]] = {
    "no modules": (no_modules, [("CRITICAL", "module", "modprobe nvme-tcp")]),
    "nvme_tcp not loaded": (
        lambda host: (host.kernel.sysfs / "module" / "nvme_tcp").rename(host.folder / "gone"),
        [("WARNING", "module", "nvme_tcp: not loaded | `modprobe nvme-tcp`")],
    ),
    "no native multipath": (
        no_native_multipath,
        [("CRITICAL", "multipath", "boot with nvme_core.multipath=Y")],
    ),
    "a kernel without multipath": (
        lambda host: (
            host.kernel.sysfs / "module" / "nvme_core" / "parameters" / "multipath"
        ).unlink(),
        [("CRITICAL", "multipath", "CONFIG_NVME_MULTIPATH")],
    ),
    "no TLS": (settings(DC_TLS="true"), [("CRITICAL", "kernel", "tls, which this kernel has not")]),
    "no DH-HMAC-CHAP": (
        settings(DC_DHCHAPSECRET=SECRET),
        [("CRITICAL", "kernel", "dhchap_secret, which this kernel has not")],
    ),
    "no host NQN": (
        lambda host: (host.folder / "etc" / "hostnqn").unlink(),
        [("CRITICAL", "host-nqn", "nvme gen-hostnqn")],
    ),
    "no good host NQN": (
        write("etc/hostnqn", "compute1\n"),
        [
            ("CRITICAL", "host-nqn", "'compute1' is not of the form"),
            ("CRITICAL", "host-pair", f"{HOST_ID} is paired with compute1 and {HOST}"),
            ("WARNING", "discovery-files", f"names host NQN {HOST}, not this host's"),
            ("WARNING", "discovery-files", f"names host NQN {HOST}, not this host's"),
        ],
    ),
    "no host id": (
        lambda host: (host.folder / "etc" / "hostid").unlink(),
        [("WARNING", "host-id", "write the UUID of the host NQN")],
    ),
    "no good host id": (
        write("etc/hostid", "4711\n"),
        [
            ("CRITICAL", "host-id", "'4711' is not a UUID"),
            ("CRITICAL", "host-pair", f"{HOST} is paired with {HOST_ID} and 4711"),
        ],
    ),
    "a placeholder": (
        write("etc/hostid", "03000200-0400-0500-0006-000700080009\n"),
        [("CRITICAL", "host-id", "a placeholder"), ("CRITICAL", "host-pair", "paired with")],
    ),
    "two host ids": (
        two_ids,
        [("CRITICAL", "host-pair", f"{HOST} is paired with {HOST_ID} and {OTHER_ID}")],
    ),
    "no discovery client": (
        settings(DC_DEBUG_ENDPOINT="127.0.0.1:1"),
        [("CRITICAL", "discovery-client", "systemctl enable --now lightos-discovery-client")],
    ),
    "no status page": (
        settings(DC_DEBUG_METRICS="false"),
        [("CRITICAL", "discovery-client", "debug.metrics is false")],
    ),
    "a client that can connect nothing": (
        says(Status(problem="/dev/nvme-fabrics does not exist")),
        [("CRITICAL", "discovery-client", "/dev/nvme-fabrics does not exist")],
    ),
    "a client with one of three controllers": (
        says(connected(ONE_PATH, last_error="192.168.75.13:8009: Connection refused")),
        [("WARNING", "discovery-client", "1 of 3 controllers connected")],
    ),
    "a client without a discovery service": (
        says(connected(frozenset(), active=None, wanted=frozenset(), last_error="no route")),
        [("CRITICAL", "discovery-client", "discovery service none; last error: no route")],
    ),
    "no folder": (
        lambda host: host.files.rename(host.folder / "elsewhere"),
        [("CRITICAL", "discovery-files", "No such file or directory | start the discovery")],
    ),
    "a bad line": (
        write("discovery.d/cluster2", f"-t tcp -a 192.168.75.11 -s 8009 -q {HOST}\n"),
        [("CRITICAL", "discovery-files", "cluster2: line 1: missing -n SUBSYSNQN")],
    ),
    "an empty file": (
        write("discovery.d/cluster2", "# nothing\n"),
        [("WARNING", "discovery-files", "cluster2: it names no discovery service")],
    ),
    "the file of another host": (
        lambda host: host.write_file("cluster2", NODES[0], nqn=f"{HOST[:-1]}2"),
        [("WARNING", "discovery-files", "not this host's")],
    ),
    "a lost path": (
        lambda host: lost_paths(host, 2),
        [
            (
                "WARNING",
                "paths",
                "2 of 3 controllers live; not nvme2 (192.168.75.13:4420, connecting)",
            )
        ],
    ),
    "no path": (
        lambda host: lost_paths(host, 0, 1, 2),
        [("CRITICAL", "paths", "0 of 3 controllers live")],
    ),
    "nothing connected": (
        no_subsystem,
        [
            ("CRITICAL", "paths", "no controller of it is connected"),
            ("WARNING", "leftover", f"{VOLUME}.conf: this host has the file of a volume"),
        ],
    ),
    "no ANA state": (no_ana, [("CRITICAL", "ana", "no ANA state on any path")]),
    "no path with access": (
        no_access,
        [("CRITICAL", "ana", "no path with access: nvme0 inaccessible, nvme1 inaccessible")],
    ),
    "a slow path only": (
        lambda host: host.kernel.set_ana_state("nvme1", "nvme0n1", "non-optimized"),
        [("WARNING", "ana", "no optimized path")],
    ),
    "another kato": (
        lambda host: host.write_attribute("nvme1", "kato", "30"),
        [("WARNING", "time-outs", "nvme1: kato 30 s")],
    ),
    "a loss time-out that is off": (
        lambda host: host.write_attribute("nvme1", "ctrl_loss_tmo", "off"),
        [("WARNING", "time-outs", "ctrl_loss_tmo never")],
    ),
    "an abandoned temporary file": (
        abandoned,
        [("WARNING", "leftover", f"tmp.dc.{VOLUME}.conf: a writer that died left it")],
    ),
    "a file whose user is gone": (
        gone_user,
        [("WARNING", "leftover", "the processes that attached it have ended (cinder:")],
    ),
    "a file without a device": (
        lambda host: host.write_file(f"{OTHER_ID}.conf", NODES[0]),
        [("WARNING", "leftover", f"{OTHER_ID}.conf: this host has the file of a volume")],
    ),
    "controllers without a file": (
        unwanted,
        [
            (
                "WARNING",
                "leftover",
                "nvme0, nvme1, nvme2, which the client made; it has /dev/nvme0n1",
            )
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_host(host: Host, name: str) -> None:
    breaks, expected = BROKEN[name]
    breaks(host)
    facts = host.look()
    found = bad(checks.findings(facts))
    for severity, check, words in expected:
        assert any((severity, check) == one[:2] and words in one[2] for one in found), (
            words,
            found,
        )
    assert len(found) == len(expected), found
    assert SECRET not in repr(facts) + json.dumps(found)


def test_a_copy_in_another_container_is_taken_as_going_on(host: Host) -> None:
    """No such process is here, and none need be."""
    comment = f"used by cinder:{os.getpid()}:1:1"
    host.write_file(f"{VOLUME}.conf", *NODES, comment=comment)
    assert bad(checks.findings(host.look())) == []


def test_a_bad_configuration_of_the_client_is_all_that_is_said_of_it(host: Host) -> None:
    host.environment |= {"DC_KATO": "soon"}
    found = checks.findings(host.look())
    (conf,) = [each for each in found if each.check == "discovery-conf"]
    assert conf.severity is Severity.CRITICAL
    assert "kato: 'soon' is not a whole number" in conf.said
    assert not {"discovery-client", "discovery-files", "leftover"} & {each.check for each in found}


def test_linux_before_nvme_tcp(host: Host) -> None:
    facts = host.look()
    facts = replace(facts, kernel=replace(facts.kernel, release="4.18.0-553.el8.x86_64"))
    ((severity, check, said),) = bad(checks.findings(facts))
    assert (severity, check) == ("CRITICAL", "kernel")
    assert "use Linux 5.0 or later" in said


def test_a_loss_time_out_is_a_multiple_of_the_pause_and_may_come_from_a_file(host: Host) -> None:
    host.environment |= {"DC_RECONNECTDELAY": "7"}
    entry = DiscoveryEntry(NODES[0], 8009, HOST, SUBSYSTEM, None, 40)
    (host.files / "cluster1").write_text(format_file([entry]))
    for number in range(3):
        host.write_attribute(f"nvme{number}", "reconnect_delay", "7")
        host.write_attribute(f"nvme{number}", "ctrl_loss_tmo", "42")
    assert bad(checks.findings(host.look())) == []


def test_the_vendors_daemon_tells_nothing_of_its_health(host: Host) -> None:
    facts = host.look()
    facts = replace(facts, client=replace(facts.client, health=None))
    found = checks.findings(facts)
    assert bad(found) == []
    assert any("a discovery client answers" in each.said for each in found)
