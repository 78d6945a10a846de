# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

import pytest

from lightos.openstack.os_brick.devices import (
    AmbiguousDevice,
    NamespaceDevice,
    find_devices,
    path_of,
)
from testbed.sysfs_tree import GIB, SysfsTree

VOLUME = UUID("9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01")
OTHER = UUID("9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a02")


def find_device(volume: UUID, sysfs_root: Path) -> NamespaceDevice | None:
    found = find_devices(volume, sysfs_root)
    assert len(found) <= 1
    return found[0] if found else None


def test_the_multipath_head_is_found_by_uuid_never_a_path(kernel: SysfsTree) -> None:
    for name in ("nvme0", "nvme1"):
        kernel.add_controller(name)
    kernel.add_namespace("nvme0n1", str(OTHER))
    folder = kernel.add_namespace("nvme0n12", str(VOLUME), 2 * GIB)
    found = find_device(VOLUME, kernel.sysfs)
    assert found == NamespaceDevice("nvme0n12", 2 * GIB, folder)
    assert found.controllers == [folder / "device" / name for name in ("nvme0", "nvme1")]
    assert found.path == "/dev/nvme0n12"


def test_no_device_no_kernel_module_and_vanishing_ones(kernel: SysfsTree, tmp_path: Path) -> None:
    assert find_device(VOLUME, kernel.sysfs) is None
    assert find_device(VOLUME, tmp_path / "nothing") is None
    folder = kernel.add_namespace("nvme0n1", str(VOLUME))
    (folder / "device").unlink()
    found = find_device(VOLUME, kernel.sysfs)
    assert found is not None
    assert found.controllers == []
    assert found.is_ending
    assert not found.has_usable_path
    (folder / "size").unlink()
    assert find_device(VOLUME, kernel.sysfs) is None


def test_a_name_that_another_namespace_takes_over_is_that_ones(kernel: SysfsTree) -> None:
    folder = kernel.add_namespace("nvme0n1", str(VOLUME))
    assert find_device(VOLUME, kernel.sysfs) is not None
    folder.rename(kernel.block / "gone")
    shutil.rmtree(kernel.block / "nvme0c0n1")
    kernel.add_namespace("nvme0n1", str(OTHER))
    assert find_device(VOLUME, kernel.sysfs) is None
    assert find_device(OTHER, kernel.sysfs) is not None


@pytest.mark.parametrize("name", ["nvme0n1", "nvme0n2", "nvme0n3", "nvme0c0n2", "../nvme0n2", ""])
def test_a_device_is_the_volumes_only_under_its_own_name(kernel: SysfsTree, name: str) -> None:
    kernel.add_namespace("nvme0n1", str(OTHER))
    kernel.add_namespace("nvme0n2", str(VOLUME))
    assert (path_of(name, VOLUME, kernel.sysfs) is not None) == (name == "nvme0n2")


@pytest.mark.parametrize(
    ("paths", "is_usable", "is_ending"),
    [
        ([], False, True),
        ([("connecting", None), ("live", None)], True, False),
        ([("connecting", None), ("deleting", None)], False, False),
        ([("deleting", None), ("dead", None)], False, True),
        ([("live", "inaccessible"), ("live", "optimized")], True, False),
        ([("live", "inaccessible"), ("live", "non-optimized")], True, False),
        ([("live", "inaccessible"), ("connecting", "optimized")], False, False),
        ([("live", "change"), ("live", "persistent-loss")], False, False),
    ],
)
def test_a_device_is_judged_by_its_own_paths(
    kernel: SysfsTree, paths: list[tuple[str, str | None]], is_usable: bool, is_ending: bool
) -> None:
    kernel.add_namespace("nvme0n1", str(VOLUME))
    for number, (controller_state, ana_state) in enumerate(paths):
        kernel.add_controller(f"nvme{number}", controller_state)
        if ana_state is not None:
            kernel.set_ana_state(f"nvme{number}", "nvme0n1", ana_state)
    kernel.add_controller("nvme9")
    kernel.remove_path("nvme9", "nvme0n1")
    found = find_device(VOLUME, kernel.sysfs)
    assert found is not None
    assert (found.has_usable_path, found.is_ending) == (is_usable, is_ending)


@pytest.mark.parametrize("state", ["live", "connecting", "deleting"])
def test_without_native_multipath_a_device_has_its_one_controller(
    kernel: SysfsTree, state: str
) -> None:
    controller = kernel.add_controller("nvme1", state)
    kernel.add_namespace("nvme1n1", str(VOLUME), parent=controller)
    found = find_device(VOLUME, kernel.sysfs)
    assert found is not None
    assert [each.resolve() for each in found.controllers] == [controller]
    assert (found.has_usable_path, found.is_ending) == (state == "live", state == "deleting")


def test_a_host_without_native_multipath_is_told_so(kernel: SysfsTree) -> None:
    for name in ("nvme0", "nvme1"):
        controller = kernel.add_controller(name)
        kernel.add_namespace(f"{name}n{name[-1]}", str(VOLUME), parent=controller)
    with pytest.raises(AmbiguousDevice, match=r"nvme_core\.multipath=Y"):
        find_devices(VOLUME, kernel.sysfs)
    kernel.set_state("nvme1", "deleting")
    assert [device.name for device in find_devices(VOLUME, kernel.sysfs)] == ["nvme0n0"]


def test_a_device_that_the_kernel_replaces_is_shown_until_it_is_known_to_end(
    kernel: SysfsTree,
) -> None:
    for name in ("nvme0n1", "nvme0n2"):
        kernel.add_namespace(name, str(VOLUME))
    kernel.add_controller("nvme0")
    kernel.add_controller("nvme1")
    assert len(find_devices(VOLUME, kernel.sysfs)) == 2
    kernel.remove_path("nvme0", "nvme0n1")
    kernel.set_state("nvme1", "deleting")
    assert [device.name for device in find_devices(VOLUME, kernel.sysfs)] == ["nvme0n2"]
    kernel.set_state("nvme0", "deleting")
    assert len(find_devices(VOLUME, kernel.sysfs)) == 2
