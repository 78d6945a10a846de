# SPDX-License-Identifier: Apache-2.0
"""Mounted devices and ones that a process has open are in tests/kernel; they take a kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightos.discovery import usage
from lightos.discovery.usage import use_of

NQN = "nqn.2016-01.com.lightbitslabs:a"


def test_a_subsystem_without_devices_is_not_used(tmp_path: Path) -> None:
    assert use_of(NQN, tmp_path) == ""
    folder = tmp_path / "class" / "nvme-subsystem" / "nvme-subsys0"
    folder.mkdir(parents=True)
    assert use_of(NQN, tmp_path) == ""
    (folder / "subsysnqn").write_text(f"{NQN}\n")
    (folder / "nvme0").mkdir()
    (folder / "nvme0n1").mkdir()
    assert use_of(NQN, tmp_path, dev_root=tmp_path) == ""


def test_a_file_that_is_open_here_is_no_device(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "nvme-subsystem" / "nvme-subsys0"
    (folder / "nvme0n1").mkdir(parents=True)
    (folder / "subsysnqn").write_text(f"{NQN}\n")
    node = tmp_path / "nvme0n1"
    node.touch()
    descriptor = os.open(node, os.O_RDONLY)
    try:
        assert use_of(NQN, tmp_path, dev_root=tmp_path) == ""
    finally:
        os.close(descriptor)


def test_an_open_partition_is_use_of_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "class" / "nvme-subsystem" / "nvme-subsys0"
    (folder / "nvme0n1").mkdir(parents=True)
    (folder / "subsysnqn").write_text(f"{NQN}\n")
    partition = tmp_path / "class" / "block" / "nvme0n1" / "nvme0n1p1"
    partition.mkdir(parents=True)
    (partition / "dev").write_text("259:3\n")
    (tmp_path / "proc" / "42").mkdir(parents=True)
    opened = {os.makedev(259, 4)}
    monkeypatch.setattr(usage, "_open_block_devices", lambda _process: iter(opened))

    def used() -> str:
        return use_of(NQN, tmp_path, dev_root=Path("/no-such"), proc_root=tmp_path / "proc")

    assert used() == ""
    opened.add(os.makedev(259, 3))
    assert used() == "/no-such/nvme0n1p1 is open in process 42"
