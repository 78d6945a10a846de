# SPDX-License-Identifier: Apache-2.0
"""Mounted devices and ones that a process has open are in tests/kernel; they take a kernel."""

from __future__ import annotations

import os
from pathlib import Path

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
