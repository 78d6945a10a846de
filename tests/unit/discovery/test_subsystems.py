# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from lightos.discovery.subsystems import Namespace, read_subsystems
from tests.unit.discovery.test_kernel import CLUSTER, LIVE, add_controller

UUID = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01"


def add_namespace(subsystem: Path, name: str) -> None:
    folder = subsystem / name
    folder.mkdir()
    for attribute, value in {"size": "131072", "nsid": "7", "uuid": UUID}.items():
        (folder / attribute).write_text(f"{value}\n")


def test_a_subsystem_has_its_paths_and_what_is_reached_by_them(tmp_path: Path) -> None:
    other = {"address": "traddr=fd00::1,trsvcid=4420", "state": "connecting"}
    controllers = [
        add_controller(tmp_path, "nvme2", LIVE),
        add_controller(tmp_path, "nvme10", LIVE | other),
    ]
    subsystem = tmp_path / "class" / "nvme-subsystem" / "nvme-subsys2"
    subsystem.mkdir(parents=True)
    (subsystem / "subsysnqn").write_text(f"{CLUSTER.subsystem_nqn}\n")
    for controller in controllers:
        (subsystem / controller.name).symlink_to(controller)
    add_namespace(subsystem, "nvme2n1")
    path = controllers[0] / "nvme2c2n1"
    path.mkdir()
    (path / "ana_state").write_text("optimized\n")
    local_disk = subsystem.with_name("nvme-subsys0")
    local_disk.mkdir()
    (local_disk / "subsysnqn").write_text("nqn.2014.08.org.nvmexpress:local")

    (found,) = read_subsystems(tmp_path)
    assert (found.name, found.nqn) == ("nvme-subsys2", CLUSTER.subsystem_nqn)
    assert [(c.name, c.state) for c in found.controllers] == [
        ("nvme2", "live"),
        ("nvme10", "connecting"),
    ]
    states = (("nvme2", "optimized"), ("nvme10", ""))
    assert found.namespaces == (Namespace("nvme2n1", 7, UUID, 64 << 20, states),)


def test_a_kernel_without_nvme_has_no_subsystems(tmp_path: Path) -> None:
    assert read_subsystems(tmp_path) == []
