# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from lightos.discovery.autodetect import detect
from lightos.discovery.config import Config
from lightos.discovery.entries import DiscoveryEntry, parse
from tests.unit.discovery.test_kernel import CLUSTER, HOST, LIVE, add_controller


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folder = tmp_path / "discovery.d"
    folder.mkdir()
    return Config(discovery_dir=folder, internal_dir=tmp_path / "internal", auto_detect_port=8010)


def test_what_is_connected_becomes_a_file_where_there_is_none(
    config: Config, tmp_path: Path
) -> None:
    assert not detect(config, tmp_path)
    add_controller(tmp_path, "nvme0", LIVE)
    add_controller(tmp_path, "nvme1", LIVE | {"address": "traddr=fd00::1,trsvcid=4420"})
    add_controller(tmp_path, "nvme2", LIVE | {"subsysnqn": "nqn.2014-08.com.example:other"})
    add_controller(tmp_path, "nvme3", LIVE | {"hostnqn": ""})
    (config.discovery_dir / "tmp.dc.half-written").touch()
    assert detect(config, tmp_path)
    path = config.discovery_dir / "detected-io-controllers"
    addresses = ("192.168.75.11", "fd00::1")
    assert parse(path.read_text(), path.name).entries == tuple(
        DiscoveryEntry(address, 8010, HOST, CLUSTER.subsystem_nqn) for address in addresses
    )


def test_files_that_are_there_are_all_that_counts(config: Config, tmp_path: Path) -> None:
    add_controller(tmp_path, "nvme0", LIVE)
    (config.discovery_dir / "a.conf").touch()
    assert not detect(config, tmp_path)
    assert [file.name for file in config.discovery_dir.iterdir()] == ["a.conf"]
