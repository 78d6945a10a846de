# SPDX-License-Identifier: Apache-2.0
"""Every row of the support matrix has a proof or a reason, and the tests that it names exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEMPEST = ("tempest.", "cinder_tempest_plugin.")


def rows() -> list[dict[str, Any]]:
    parts = yaml.safe_load((ROOT / "docs" / "support_matrix.yaml").read_text())
    return [row for part in parts for row in part["rows"]]


def named() -> set[str]:
    return {test for row in rows() for test in row.get("tests", ())}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["what"])
def test_what_is_supported_is_proved_and_what_is_not_has_a_reason(row: dict[str, Any]) -> None:
    assert set(row) <= {"what", "supported", "note", "tests"}
    assert row.get("tests") if row["supported"] else row.get("note")


def test_no_row_is_there_twice() -> None:
    asked = [row["what"] for row in rows()]
    assert len(asked) == len(set(asked))


def test_the_tests_named_are_collected() -> None:
    """pytest ends with an error for a name that it does not find."""
    ids = sorted(test for test in named() if not test.startswith(TEMPEST))
    collect = [sys.executable, "-W", "ignore", "-m", "pytest", "--collect-only", "-qq", *ids]
    collected = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout + collected.stderr


def test_the_tests_of_tempest_have_passed() -> None:
    kept = (ROOT / "bench" / "results").glob("tempest*.json")
    passed = {test for file in kept for test in json.loads(file.read_text())["passed"]}
    assert {test for test in named() if test.startswith(TEMPEST)} <= passed
