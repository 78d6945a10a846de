# SPDX-License-Identifier: Apache-2.0
"""What `make paths` makes of fio's reports."""

from __future__ import annotations

import json
from typing import Any

from bench.paths.fio import Figures, figures, jobs_of


def job(written: int, read: int, slowest_ns: int, error: int = 0) -> dict[str, Any]:
    return {
        "error": error,
        "job_runtime": slowest_ns // 10**6,
        "write": {"io_bytes": written, "clat_ns": {"max": 0 if error else slowest_ns}},
        "read": {"io_bytes": read, "clat_ns": {"max": 5}},
    }


def test_the_slowest_of_all_is_the_stall_and_a_failed_round_verified_nothing() -> None:
    jobs = [job(8, 8, 1_500_000_000), job(8, 4, 2_500_000_000, error=5)]
    assert figures(jobs) == Figures(2, 1, 16, 8, 2.5)
    assert figures([]) == Figures(0, 0, 0, 0, 0.0)


def test_reports_follow_each_other_with_what_fio_says_between_them() -> None:
    one, two = (json.dumps({"jobs": [job(n, n, n)]}, indent=1) for n in (1, 2))
    output = f"{one}\nfio: a remark\n{two}\n{one[:20]}"
    assert [each["write"]["io_bytes"] for each in jobs_of(output)] == [1, 2]
