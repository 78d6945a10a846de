# SPDX-License-Identifier: Apache-2.0
"""Debian's nvme-cli sees a healthy subsystem with three paths."""

from collections import Counter

from testbed import nvme
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.volumes import MIB, Volumes


def test_discover_lists_the_controller_of_every_node(
    host: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(host.host_nqn)
    for address in lab.network.node_addresses:
        log = nvme.nvme_json(host, "discover", "-t", "tcp", "-a", address, "-s", "8009")
        io_controllers = [r for r in log["records"] if r["subtype"] == "nvme subsystem"]
        assert {r["traddr"] for r in io_controllers} == set(lab.network.node_addresses)
        assert {r["trsvcid"] for r in io_controllers} == {str(lab.info["nvme_port"])}
        assert {r["subnqn"] for r in io_controllers} == {lab.subsystem_nqn}


def test_a_volume_has_three_live_paths_and_one_is_optimized(
    connected: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn)
    device = nvme.wait_for_device(connected, volume.uuid)
    wait_until(lambda: len(nvme.paths(connected, device)) == 3, "three paths")
    paths = _listed_paths(connected, device)
    assert {path["State"] for path in paths} == {"live"}
    assert Counter(path["ANAState"] for path in paths) == {"optimized": 1, "inaccessible": 2}
    by_address = {path["Address"].split(",")[0]: path["ANAState"] for path in paths}
    assert by_address.keys() == {f"traddr={a}" for a in lab.network.node_addresses}
    primary = lab.node_address(volume.primary_node_uuid)
    assert by_address[f"traddr={primary}"] == "optimized"


def test_list_and_ana_log_agree_with_the_cluster(
    connected: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn, size_mib=96)
    device = nvme.wait_for_device(connected, volume.uuid)

    listed = {d["DevicePath"]: d for d in nvme.nvme_json(connected, "list")["Devices"]}
    assert listed[device]["PhysicalSize"] == 96 * MIB
    assert listed[device]["NameSpace"] == volume.nsid
    assert listed[device]["SectorSize"] == volume.sector_size_bytes

    states = Counter(
        group["state"]
        for path in _listed_paths(connected, device)
        for group in nvme.nvme_json(connected, "ana-log", f"/dev/{path['Name']}")["ANA DESC LIST "]
        if volume.nsid in [entry["nsid"] for entry in group["NSIDS"]]
    )
    assert states == {"optimized": 1, "inaccessible": 2}


def test_the_namespace_describes_itself_by_the_volumes_uuid(
    connected: KernelHost, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn)
    device = nvme.wait_for_device(connected, volume.uuid)
    described = nvme.nvme_json(connected, "ns-descs", device)
    assert volume.uuid in str(described).lower()


def test_a_volume_of_another_host_is_invisible(connected: KernelHost, volumes: Volumes) -> None:
    foreign = volumes.create("nqn.2014-08.org.nvmexpress:uuid:another-host")
    own = volumes.create(connected.host_nqn)
    nvme.wait_for_device(connected, own.uuid)
    assert nvme.find_device(connected, foreign.uuid) is None


def _listed_paths(host: KernelHost, device: str) -> list[dict[str, str]]:
    """`nvme list-subsys DEVICE`: a list of hosts in nvme-cli 2, one host in 1."""
    listed = nvme.nvme_json(host, "list-subsys", device)
    one_host = listed[0] if isinstance(listed, list) else listed
    return list(one_host["Subsystems"][0]["Paths"])
