# SPDX-License-Identifier: Apache-2.0
"""Run kinds of tests and say how many of each ran.

`python -m tests.run unit kernel` runs `tests/unit` and `tests/kernel`; `--quick` leaves out what
is marked `nightly`, and `--nightly` runs nothing else. Two kinds run at a time: those of
`BESIDE`, one after the other, beside all the others. One kind prints as it goes, of several each
prints when it has ended. A kind that fails does not keep another from running, but the exit status
is 1.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parent
AS_ROOT = ("fuzz", "kernel", "cloud", "ha", "nova", "package")
"""Kinds that make a network namespace, and guests in it."""
BESIDE = ("kernel", "defects", "model", "fuzz")
"""Kinds that together take about as long as all others of `make test`."""
KINDS = ("unit", "contract", "integration", "defects", "model", "page", *AS_ROOT)


@dataclass(frozen=True)
class Outcome:
    """How one kind of tests ended; `exit_status` is pytest's."""

    kind: str
    exit_status: int
    ran: int
    failed: int
    skipped: int
    seconds: float


def outcome(kind: str, exit_status: int, report: Path) -> Outcome:
    """Read pytest's JUnit report; a report that was never written counts as nothing ran."""
    if not report.exists():
        return Outcome(kind, exit_status or 1, 0, 0, 0, 0.0)
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    total = failed = skipped = 0
    seconds = 0.0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
        seconds += float(suite.get("time", 0))
    return Outcome(kind, exit_status, total - skipped, failed, skipped, seconds)


def run(kind: str, *, live: bool, marked: str = "") -> Outcome:
    """Run one kind; its output appears as it comes if `live`, else all at once at its end.

    `marked`: which of its tests, in the words of pytest's `-m`; all of them by default.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        warnings = [f"-W{each}" for each in sys.warnoptions]
        command = [sys.executable, *warnings, "-m", "pytest", str(TESTS / kind), "-m", marked]
        command.append(f"--junit-xml={report}")
        done = subprocess.run(
            command,
            check=False,
            cwd=TESTS.parent,
            stdout=None if live else subprocess.PIPE,
            stderr=None if live else subprocess.STDOUT,
        )
        if done.stdout is not None:
            print(f"--- {kind} tests ---\n{done.stdout.decode(errors='replace')}", flush=True)
        return outcome(kind, done.returncode, report)


def run_lane(kinds: list[str], *, live: bool, marked: str) -> list[Outcome]:
    return [run(kind, live=live, marked=marked) for kind in kinds]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.run")
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    which = parser.add_mutually_exclusive_group()
    for name, marked, text in (
        ("--quick", "not nightly", "leave out what is marked nightly"),
        ("--nightly", "nightly", "run nothing else"),
    ):
        which.add_argument(
            name, dest="marked", action="store_const", const=marked, default="", help=text
        )
    arguments = parser.parse_args()
    kinds: list[str] = arguments.kinds
    if set(AS_ROOT).intersection(kinds) and os.geteuid() != 0:
        print("these tests need root: they make a network namespace and guests", file=sys.stderr)
        return 2
    lanes = [[each for each in kinds if (each in BESIDE) is beside] for beside in (False, True)]
    with ThreadPoolExecutor(len(lanes)) as pool:
        run_one = functools.partial(run_lane, live=len(kinds) == 1, marked=arguments.marked)
        outcomes = [each for ended in pool.map(run_one, lanes) for each in ended]
    table = Table("tests", "ran", "passed", "failed", "skipped", "seconds", title="Tests")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in outcomes:
        table.add_row(
            each.kind,
            str(each.ran),
            str(each.ran - each.failed),
            str(each.failed),
            str(each.skipped),
            f"{each.seconds:.0f}",
        )
    Console().print(table)
    ran, failed = sum(o.ran for o in outcomes), sum(o.failed for o in outcomes)
    print(f"{ran - failed} passed, {failed} failed")
    return 0 if all(o.exit_status == 0 and o.ran and not o.skipped for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
