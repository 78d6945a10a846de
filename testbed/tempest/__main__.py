# SPDX-License-Identifier: Apache-2.0
"""`make tempest`: the tests of OpenStack's own tempest against a cloud with our driver."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rich.console import Console

from testbed.cinder.paths import cache_dir
from testbed.cloud.__main__ import FAILURES, PLAIN_WIDTH, Lines
from testbed.cloud.cloud import Cloud
from testbed.cloud.network_stub import NetworkStub
from testbed.cloud.nova import Nova
from testbed.cloud.placement import Placement
from testbed.kernel_image import CHECKOUT
from testbed.network import Network
from testbed.tempest import results, selection
from testbed.tempest.configuration import sections
from testbed.tempest.resources import prepare
from testbed.tempest.results import FAILED, PASSED, SKIPPED, Outcome
from testbed.tempest.run import Tempest, TempestFailed

FOLDER = cache_dir() / "tempest"
RESULTS = CHECKOUT / "bench" / "results" / "tempest.json"
CONCURRENCY = 2
DISTRIBUTIONS = ("tempest", "cinder-tempest-plugin", "cinder", "nova", "keystone", "glance")


def run(console: Console, regex: str) -> tuple[list[Outcome], float]:
    """Start a cloud, run the tests that `regex` selects; their outcomes, and seconds in all."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    network = Network.for_this_process("tempest")
    parts = (Placement(), NetworkStub(), Nova())
    with Lines(console) as lines:
        cloud = Cloud(FOLDER / "cloud", network, parts=parts, progress=lines)
        cloud.__enter__()
    try:
        tempest = Tempest(FOLDER / "workspace", network)
        tempest.configure(sections(prepare(cloud), tempest.folder))
        selected = tempest.select(regex)
        console.print(f"{len(selected)} tests are selected")
        records, seconds = tempest.run(regex, CONCURRENCY)
        return results.outcomes(selected, records), seconds
    finally:
        cloud.stop()


def report(console: Console, outcomes: Sequence[Outcome]) -> int:
    """Show every failure and skip, and the figures; the exit status."""
    for outcome in outcomes:
        if outcome.status == FAILED:
            console.print(f"FAILED {outcome.test}", style="red", markup=False)
            console.print(outcome.reason, markup=False, soft_wrap=True)
    console.print(results.summary(outcomes))
    console.print(results.skip_table(outcomes))
    unexcused = selection.unexcused(outcomes)
    for outcome in unexcused:
        console.print(
            f"{outcome.test} must not be skipped: {outcome.reason}", style="red", markup=False
        )
    passed, failed = results.count(outcomes, PASSED), results.count(outcomes, FAILED)
    print(f"{passed} passed, {failed + len(unexcused)} failed")
    return 1 if failed or unexcused or not passed else 0


def as_json(outcomes: Sequence[Outcome], seconds: float) -> dict[str, object]:
    """What `bench/results/tempest.json` holds."""
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "selected": selection.SELECTED,
        "seconds": round(seconds),
        "counts": {status: results.count(outcomes, status) for status in (PASSED, FAILED, SKIPPED)},
        "skips": [
            {"reason": reason, "because": selection.excuse(reason), "tests": sorted(tests)}
            for reason, tests in sorted(results.skips(outcomes).items())
        ],
        "passed": sorted(each.test for each in outcomes if each.status == PASSED),
        "failed": sorted(each.test for each in outcomes if each.status == FAILED),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed.tempest", description=__doc__)
    parser.add_argument(
        "--only", metavar="REGEX", help="run the tests with this in their names; keeps no result"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("make tempest needs root: it makes a network namespace for itself", file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        outcomes, seconds = run(console, arguments.only or selection.SELECTED)
    except (*FAILURES, TempestFailed) as error:
        console.print(f"make tempest: {error}", style="red", markup=False)
        console.print(f"Logs: {FOLDER / 'cloud' / 'logs'}", soft_wrap=True)
        return 1
    if not arguments.only:
        RESULTS.write_text(json.dumps(as_json(outcomes, seconds), indent=2) + "\n")
    return report(console, outcomes)


if __name__ == "__main__":
    sys.exit(main())
