# SPDX-License-Identifier: Apache-2.0
"""How a tempest run is counted: no selected test is forgotten, no skip goes unexplained."""

from __future__ import annotations

import pytest

from testbed.tempest.results import FAILED, PASSED, SKIPPED, Outcome, Record, outcomes, skips
from testbed.tempest.selection import unexcused

FIRST = "tempest.api.volume.test_a.ATest.test_first[id-1,smoke]"
SECOND = "tempest.api.volume.test_a.ATest.test_second[id-2]"
CLASS = "tempest.api.volume.test_a.ATest"


def status_of(selected: list[str], records: list[Record]) -> dict[str, str]:
    return {found.test.rpartition(".")[2]: found.status for found in outcomes(selected, records)}


def test_each_test_has_its_own_end() -> None:
    records = [Record(FIRST, PASSED, 2.0), Record(SECOND, FAILED, 1.0, "it broke")]
    first, second = outcomes([FIRST, SECOND], records)
    assert first == Outcome(f"{CLASS}.test_first", PASSED, 2.0)
    assert second == Outcome(f"{CLASS}.test_second", FAILED, 1.0, "it broke")
    assert first.group == "api.volume.test_a"


@pytest.mark.parametrize("status", [SKIPPED, FAILED])
def test_tests_share_the_end_of_their_class_s_set_up(status: str) -> None:
    records = [Record(f"setUpClass ({CLASS})", status, 3.0, "why")]
    assert status_of([FIRST, SECOND], records) == {"test_first": status, "test_second": status}


def test_a_test_that_did_not_run_has_failed() -> None:
    assert status_of([FIRST, SECOND], [Record(FIRST, PASSED, 1.0)])["test_second"] == FAILED


def test_a_tear_down_that_fails_is_one_more_failure() -> None:
    records = [Record(FIRST, PASSED, 1.0), Record(f"tearDownClass ({CLASS})", FAILED, 1.0, "left")]
    assert [found.status for found in outcomes([FIRST], records)] == [PASSED, FAILED]


def test_skips_are_grouped_by_reason_and_must_be_excused() -> None:
    found = [
        Outcome("a.B.one", SKIPPED, reason="Volume replication feature disabled"),
        Outcome("a.B.two", SKIPPED, reason="Cinder backup feature disabled"),
        Outcome("a.B.three", SKIPPED, reason="Cinder backup feature disabled"),
        Outcome("a.B.four", PASSED),
    ]
    assert skips(found)["Cinder backup feature disabled"] == ["a.B.two", "a.B.three"]
    assert [each.test for each in unexcused(found)] == ["a.B.two", "a.B.three"]
