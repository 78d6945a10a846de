# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.ledger import Ledger

CLUSTER = Cluster("nqn.2014-08.com.example:host", "nqn.2016-01.com.lightbitslabs:a")
ONE = ControllerPath(CLUSTER, Endpoint("10.0.0.1", 4420))
TWO = ControllerPath(CLUSTER, Endpoint("fd00::1", 4420))


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("6023630c-a79f-4b92-aa8e-bc80f68b5b61\n")
    return path


def test_paths_survive_a_restart_of_the_daemon(tmp_path: Path, boot_id: Path) -> None:
    ledger = Ledger(tmp_path / "controllers.json", boot_id)
    ledger.add(ONE)
    ledger.add(TWO)
    ledger.discard([ONE])
    assert Ledger(tmp_path / "controllers.json", boot_id).paths == {TWO}


def test_paths_do_not_survive_a_reboot(tmp_path: Path, boot_id: Path) -> None:
    Ledger(tmp_path / "controllers.json", boot_id).add(ONE)
    boot_id.write_text("another\n")
    assert Ledger(tmp_path / "controllers.json", boot_id).paths == frozenset()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_id": 1}', '{"controllers": [[1]]}'])
def test_a_damaged_ledger_owns_nothing(tmp_path: Path, boot_id: Path, content: str) -> None:
    (tmp_path / "controllers.json").write_text(content)
    ledger = Ledger(tmp_path / "controllers.json", boot_id)
    assert ledger.paths == frozenset()
    ledger.add(ONE)
    assert Ledger(tmp_path / "controllers.json", boot_id).paths == {ONE}


def test_a_ledger_that_cannot_be_written_keeps_what_it_has(tmp_path: Path, boot_id: Path) -> None:
    ledger = Ledger(tmp_path / "no" / "controllers.json", boot_id)
    with pytest.raises(FileNotFoundError):
        ledger.add(ONE)
    assert ledger.paths == frozenset()
