# SPDX-License-Identifier: Apache-2.0
"""Reads what stestr kept of a run: a subunit v2 stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import subunit
import testtools

from testbed.tempest.results import FAILED, PASSED, SKIPPED, Record

_STATUS = {"success": PASSED, "skip": SKIPPED, "xfail": PASSED}
_LAST_LINES = 25


def read(stream: Path) -> list[Record]:
    """Every finished entry of a subunit v2 stream."""
    records: list[Record] = []

    def finished(test: dict[str, Any]) -> None:
        if test["status"] != "exists":
            records.append(_record(test))

    result = testtools.StreamToDict(finished)
    result.startTestRun()
    with stream.open("rb") as source:
        subunit.ByteStreamToStreamResult(source, non_subunit_name="output").run(result)
    result.stopTestRun()
    return records


def _record(test: dict[str, Any]) -> Record:
    began, ended = test["timestamps"]
    details = {name: content.as_text() for name, content in test["details"].items()}
    said = details.get("reason") or details.get("traceback") or details.get("traceback-1") or ""
    return Record(
        test["id"],
        _STATUS.get(test["status"], FAILED),
        (ended - began).total_seconds() if began and ended else 0.0,
        "\n".join(said.strip().splitlines()[-_LAST_LINES:]),
    )
