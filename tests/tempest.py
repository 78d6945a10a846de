# SPDX-License-Identifier: Apache-2.0
"""`make tempest`: a cloud with our driver, tests/cloud on it, then OpenStack's own tempest."""

from __future__ import annotations

import argparse
import contextlib
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
from testbed.cloud.compute_host import HOSTS
from testbed.cloud.network_stub import NetworkStub
from testbed.cloud.nova import Nova, parts_with_compute_hosts
from testbed.cloud.placement import Placement
from testbed.kernel_image import CHECKOUT
from testbed.network import Network
from testbed.tempest import results, selection
from testbed.tempest.configuration import sections
from testbed.tempest.resources import prepare
from testbed.tempest.results import FAILED, PASSED, SKIPPED, Outcome
from testbed.tempest.run import Tempest, TempestFailed
from tests.run import Outcome as Tests
from tests.run import run as run_tests

FOLDER = cache_dir() / "tempest"
RESULTS = CHECKOUT / "bench" / "results"
CONCURRENCY = 2
PROJECT = "default"
IMAGE_CACHE_PREFIX = "image-"
DELETE_SECONDS = 60
API_SECONDS = 30.0
DISTRIBUTIONS = ("tempest", "cinder-tempest-plugin", "cinder", "nova", "keystone", "glance")


def run(
    console: Console,
    regex: str,
    *,
    kept: str | None,
    own_marked: str | None,
    with_compute_hosts: bool,
) -> int:
    """Start a cloud, run our own tests of it and tempest's; the exit status.

    `regex` is in the names of the tempest tests to run; `kept`: the file in `RESULTS` that keeps
    what they came to. `own_marked`: which of tests/cloud run, in the words of pytest's `-m`; None
    for none of them.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    network = Network.for_this_process("tempest")
    faked = (Placement(), NetworkStub(), Nova())
    parts = parts_with_compute_hosts() if with_compute_hosts else faked
    host_count = len(HOSTS) if with_compute_hosts else 0
    with Lines(console) as lines:
        cloud = Cloud(FOLDER / "cloud", network, parts=parts, progress=lines)
        cloud.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(cloud)
        tempest = Tempest(FOLDER / "workspace", network)
        tempest.configure(sections(prepare(cloud, host_count), tempest.folder))
        own = None if own_marked is None else run_own_tests(cloud, own_marked)
        selected = tempest.select(regex)
        console.print(f"{len(selected)} of tempest's tests are selected")
        records, seconds = tempest.run(regex, CONCURRENCY)
        outcomes = [*results.outcomes(selected, records), nothing_is_left(cloud)]
    if kept:
        result = as_json(regex, outcomes, seconds)
        (RESULTS / kept).write_text(json.dumps(result, indent=2) + "\n")
    return report(console, outcomes, own)


def run_own_tests(cloud: Cloud, marked: str) -> Tests:
    """tests/cloud, in this cloud."""
    os.environ["LIGHTOS_CLOUD"] = str(cloud.deployment.folder)
    return run_tests("cloud", live=True, marked=marked)


def nothing_is_left(cloud: Cloud) -> Outcome:
    """Whether the cluster is empty once Cinder's image cache is; tempest deletes what it makes."""
    storage = cloud.admin.block_storage
    for volume in list(storage.volumes(all_projects=True)):
        if volume.name.startswith(IMAGE_CACHE_PREFIX):
            storage.delete_volume(volume)
            storage.wait_for_delete(volume, wait=DELETE_SECONDS)
    with cloud.network.entered():
        api = cloud.lab.client()
        deadline = api.deadline(API_SECONDS)
        left = [
            found.name
            for listed in (api.list_volumes, api.list_snapshots)
            for found in listed(PROJECT, show_all=True, deadline=deadline)
        ]
    test = "tests.tempest.nothing_is_left.in_the_cluster"
    if left:
        return Outcome(test, FAILED, reason=f"the cluster still has {', '.join(left)}")
    return Outcome(test, PASSED)


def report(console: Console, outcomes: Sequence[Outcome], own: Tests | None) -> int:
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
    passed = results.count(outcomes, PASSED)
    failed = results.count(outcomes, FAILED) + len(unexcused)
    if own:
        passed += own.ran - own.failed
        failed += own.failed
    print(f"{passed} passed, {failed} failed")
    good = passed and not failed and (own is None or own.exit_status == 0)
    return 0 if good else 1


def as_json(regex: str, outcomes: Sequence[Outcome], seconds: float) -> dict[str, object]:
    """What a file in `RESULTS` holds."""
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "selected": regex,
        "seconds": round(seconds),
        "counts": {status: results.count(outcomes, status) for status in (PASSED, FAILED, SKIPPED)},
        "skips": [
            {"reason": reason, "because": selection.excuse(reason), "tests": sorted(tests)}
            for reason, tests in sorted(results.skips(outcomes).items())
        ],
        "passed": sorted(each.test for each in outcomes if each.status == PASSED),
        "failed": sorted(each.test for each in outcomes if each.status == FAILED),
    }


def chosen(arguments: argparse.Namespace) -> tuple[str, str | None, str | None]:
    """`regex`, `kept` and `own_marked` of `run`."""
    if arguments.only:
        return arguments.only, None, None
    if arguments.nova:
        return selection.WITH_INSTANCES, "tempest-nova.json", None
    if arguments.quick:
        return selection.QUICK, None, "not nightly"
    return selection.SELECTED, "tempest.json", ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tempest", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="run only tempest's tests with this in their names; keeps no result",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--quick",
        action="store_true",
        help="leave out what takes long of both; keeps no result",
    )
    which.add_argument(
        "--nova",
        action="store_true",
        help="run tempest's tests that make instances, on compute hosts with libvirt",
    )
    arguments = parser.parse_args()
    regex, kept, own_marked = chosen(arguments)
    if os.geteuid() != 0:
        print("make tempest needs root: it makes a network namespace for itself", file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        return run(
            console,
            regex,
            kept=kept,
            own_marked=own_marked,
            with_compute_hosts=arguments.nova,
        )
    except (*FAILURES, TempestFailed) as error:
        console.print(f"make tempest: {error}", style="red", markup=False)
        console.print(f"Logs: {FOLDER / 'cloud' / 'logs'}", soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
