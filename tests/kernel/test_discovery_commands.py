# SPDX-License-Identifier: Apache-2.0
"""The commands of `lightos discovery-client` on a real kernel, beside nvme-cli's."""

from __future__ import annotations

import json
from typing import Any

from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.guest import Guest
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.controllers import controllers, controllers_settings, wait_for_controllers
from tests.kernel.volumes import MIB, Volumes


def run(host: Guest, *arguments: str, **environment: str) -> dict[str, Any]:
    words = ("discovery-client", *arguments)
    return dict(host.call("tests.kernel.guest_cli.run", *words, **environment))


def rows(host: Guest, *arguments: str) -> Any:
    done = run(host, *arguments, "--json")
    assert done["status"] == 0, done
    return json.loads(done["stdout"])


def test_discover_says_what_nvme_cli_says(host: KernelHost, lab: Lab) -> None:
    address = lab.network.node_addresses[1]
    log = nvme.nvme_json(host, "discover", "-t", "tcp", "-a", address, "-s", "8009")
    theirs = {(each["traddr"], each["trsvcid"], each["subnqn"]) for each in log["records"]}
    found = rows(host, "discover", "-a", address)
    assert {(each["traddr"], str(each["trsvcid"]), each["subsysnqn"]) for each in found} == theirs
    table = run(host, "discover", "-a", address)["stdout"]
    assert all(node in table for node in lab.network.node_addresses)


def test_connect_all_connects_once_and_what_it_made_is_not_the_daemons(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn, size_mib=96)
    nodes = lab.network.node_addresses
    connect = ("connect-all", "-a", nodes[0], "-n", lab.subsystem_nqn, "-k20", "-m1", "-l36")
    made = rows(host, *connect)
    assert {row["outcome"] for row in made} == {"connected"}
    theirs = wait_for_controllers(host, lab, nodes)
    assert {row["traddr"]: row["controller"] for row in made} == theirs
    settings = controllers_settings(host, lab.subsystem_nqn)
    assert settings == {("20", "36", "2", "2")}, "keep alive, loss, reconnect, queues"
    for row in rows(host, *connect):
        assert (row["outcome"], row["controller"]) == ("already connected", theirs[row["traddr"]])

    device = nvme.wait_for_device(host, volume.uuid)
    (subsystem,) = rows(host, "list-subsys")
    assert subsystem["subsysnqn"] == lab.subsystem_nqn
    (namespace,) = subsystem["namespaces"]
    assert (namespace["device"], namespace["uuid"]) == (device, volume.uuid)
    assert (namespace["nsid"], namespace["size_bytes"]) == (volume.nsid, 96 * MIB)
    primary = theirs[lab.node_address(volume.primary_node_uuid)]
    states = dict.fromkeys(theirs.values(), "inaccessible") | {primary: "optimized"}
    assert namespace["ana_states"] == states
    assert volume.uuid in run(host, "list-subsys")["stdout"]

    daemon.publish("volume.conf", lab.subsystem_nqn, *nodes)
    wait_until(lambda: f"{lab.subsystem_nqn}: {nodes[0]}:8009 offers" in daemon.log, "adopted")
    listed = rows(host, "list")
    assert {row["controller"]: row["made_here"] for row in listed} == dict.fromkeys(
        theirs.values(), False
    )
    assert {(row["hostnqn"], row["hostid"]) for row in listed} == {(host.host_nqn, host.host_id)}
    daemon.remove("volume.conf")
    wait_until(lambda: "no file wants" in daemon.log, "the removal was seen")
    assert controllers(host, lab.subsystem_nqn) == theirs


def test_add_hostnqn_is_all_that_the_daemon_needs(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volumes.create(host.host_nqn)
    nodes = lab.network.node_addresses
    added = run(host, "add-hostnqn", "--name", "c1", "-a", nodes[2], "-n", lab.subsystem_nqn)
    assert added["status"] == 0, added
    wait_for_controllers(host, lab, nodes)
    assert {row["made_here"] for row in rows(host, "list")} == {True}
    assert "the daemon" in run(host, "list")["stdout"]
    assert run(host, "remove-hostnqn", "--name", "c1")["status"] == 0
    wait_for_controllers(host, lab, ())


def test_protection_is_not_left_out_where_the_kernel_has_none_and_no_secret_is_shown(
    host: KernelHost, lab: Lab
) -> None:
    known = host.read_file("/dev/nvme-fabrics").decode().split(",")
    secret = host.run(["nvme", "gen-dhchap-key", "-n", host.host_nqn]).stdout.strip()
    connect = ("connect-all", "-a", lab.network.node_addresses[0])
    refused = run(host, *connect, DC_TLS="true", DC_DHCHAPSECRET=secret)
    assert refused["status"] == 1, "neither the lab nor this host has a key"
    assert ("this kernel has no TLS for NVMe/TCP" in refused["stdout"]) == ("tls" not in known)
    assert controllers(host, lab.subsystem_nqn) == {}

    # The lab does not ask for authentication, so a kernel that takes the secret connects.
    done = run(host, *connect, DC_DHCHAPSECRET=secret)
    nvme.disconnect(host, lab.subsystem_nqn)
    takes_secrets = any(option.startswith("dhchap_secret=") for option in known)
    assert (done["status"] == 0) == takes_secrets, done
    said = f"{refused}{done}{host.run(['dmesg']).stdout}"
    assert "connect" in said
    assert secret.split(":")[2] not in said
