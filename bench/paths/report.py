# SPDX-License-Identifier: Apache-2.0
"""What each fault came to: measured, as a table, and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.paths.bed import Bed
from bench.paths.faults import PathFault
from bench.paths.fio import Figures, Fio

RESULTS = Path(__file__).parents[1] / "results" / "paths.json"
HEAD = (
    "fault",
    "lasted",
    "longest I/O stall",
    "failed rounds",
    "MiB verified",
    "commands refused",
)


@dataclass(frozen=True)
class Outcome:
    """One fault, the I/O during it until all paths were back, and a round of I/O after it."""

    fault: str
    loses_io: bool
    fault_seconds: float
    """From its begin until all paths were right again."""
    during: Figures
    after: Figures
    path_refusals: int
    """I/O commands that a node refused because it was not, or not any more, the primary."""


def measure(bed: Bed, fault: PathFault) -> Outcome:
    """Let a fault happen to a volume in use. Raises TimeoutError if the paths do not come back."""
    before = bed.traffic()
    fio = Fio(bed.host, bed.device)
    try:
        bed.wait(lambda: bed.traffic()["writtenBytes"] > before["writtenBytes"], "fio writes")
        began = time.monotonic()
        fault.happen(bed)
        bed.wait_for_paths()
        fault_seconds = time.monotonic() - began
    finally:
        during = fio.end()
    return Outcome(
        fault=fault.name,
        loses_io=fault.loses_io,
        fault_seconds=fault_seconds,
        during=during,
        after=Fio(bed.host, bed.device).end(),
        path_refusals=bed.traffic()["pathRefusals"] - before["pathRefusals"],
    )


def document(outcomes: Sequence[Outcome], release: str) -> dict[str, Any]:
    """What is kept of a run with a guest of this kernel release."""
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, guest {release}",
        "faults": [asdict(outcome) for outcome in outcomes],
    }


def rows(document: dict[str, Any]) -> list[list[str]]:
    """Of a document, under `HEAD`."""
    return [
        [
            each["fault"],
            f"{each['fault_seconds']:.1f} s",
            f"{each['during']['longest_stall_seconds']:.1f} s",
            str(each["during"]["failed_rounds"] + each["after"]["failed_rounds"]),
            f"{(each['during']['verified_bytes'] + each['after']['verified_bytes']) / 2**20:.1f}",
            str(each["path_refusals"]),
        ]
        for each in document["faults"]
    ]


def table(outcomes: Sequence[Outcome]) -> Table:
    shown = Table(*HEAD, title="A volume in use while its paths fail")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in rows(document(outcomes, "")):
        shown.add_row(*row)
    return shown


def write(outcomes: Sequence[Outcome], release: str) -> None:
    RESULTS.write_text(json.dumps(document(outcomes, release), indent=2) + "\n")
