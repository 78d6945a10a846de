# SPDX-License-Identifier: Apache-2.0
"""`make cloud` and `make cloud-down`: a cloud that stays until it is taken away."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from testbed.cinder.paths import VENV_BIN, cache_dir
from testbed.cloud.cloud import Cloud, remove
from testbed.cloud.deployment import IDENTITY, Deployment, NotWanted
from testbed.cloud.instances import FLAVOR, IMAGE, InstanceImage
from testbed.cloud.nova import COMPUTE, parts_with_compute_hosts
from testbed.cloud.packages import PackagesError
from testbed.cloud.service import ServiceFailed
from testbed.guest import GuestError
from testbed.kernel_image import KernelImageError
from testbed.lab import LabError
from testbed.network import Network, NetworkError

NETWORK = Network("lightos-cloud")
FOLDER = cache_dir() / "cloud" / "running"
OPENRC = FOLDER / "openrc"
LOCK = cache_dir() / "cloud" / "lock"
TRANSITION_MILLISECONDS = 300
PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""
ANSWER_SECONDS = 5.0
VOLUME_EXAMPLES = (
    "volume type list",
    "volume create --size 1 --type lightos-compressed data",
    "volume snapshot create --volume data before",
    "volume create --snapshot before copy",
    "volume list",
)
"""Words for the `openstack` command, each to be typed when the one before has taken effect."""
INSTANCE_EXAMPLES = (
    f"server create --flavor {FLAVOR} --image {IMAGE} --boot-from-volume 1 --nic none one",
    "server list --long",
    "volume create --size 1 data",
    "server add volume one data",
    "--os-compute-api-version 2.56 server migrate --live-migration one",
    "server remove volume one data",
)
FAILURES = (
    *(GuestError, KernelImageError, LabError, NetworkError),
    *(NotWanted, PackagesError, ServiceFailed),
    *(ClientException, SDKException, TimeoutError),
)


class Lines:
    """A line with a clock per task that runs, and one that stays when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._shown: dict[str, TaskID] = {}

    def __enter__(self) -> Lines:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begun(self, title: str) -> None:
        self._shown[title] = self._live.add_task(title, total=None)

    def done(self, title: str, seconds: float, evidence: str) -> None:
        self._live.remove_task(self._shown.pop(title))
        tail = f"  [dim]{evidence}[/]" if evidence else ""
        self._console.print(f"[green]ok[/] {seconds:6.1f} s  {title}{tail}")

    def failed(self, title: str, seconds: float) -> None:
        self._live.remove_task(self._shown.pop(title))
        self._console.print(f"[red]FAILED[/] {title}  [dim]{seconds:.1f} s[/]")


@contextmanager
def only_one() -> Iterator[bool]:
    """Whether nobody else makes this cloud, or takes it away, meanwhile."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def running() -> Deployment | None:
    """What is deployed in the folder, if it answers."""
    try:
        deployment = Deployment.load(FOLDER)
        url = deployment.public_url(IDENTITY)
        return deployment if requests.get(url, timeout=ANSWER_SECONDS).ok else None
    except (FileNotFoundError, requests.RequestException):
        return None


def tell(console: Console, deployment: Deployment, *, with_nova: bool) -> int:
    """Say how to use a cloud that runs already; the exit status, 1 if it lacks what is wanted."""
    has_nova = COMPUTE.name in deployment.public_ports
    if with_nova and not has_nova:
        console.print("The cloud that runs has no Nova: make cloud-down first.", style="red")
        return 1
    console.print("The cloud runs already.")
    print(usage(with_nova=has_nova))
    return 0


def take_away() -> None:
    """End the cloud, or what is left of one, and remove its folder."""
    NETWORK.destroy()
    remove(FOLDER)


def up(console: Console, *, with_nova: bool) -> int:
    """Start the cloud unless it runs; the exit status."""
    if deployment := running():
        return tell(console, deployment, with_nova=with_nova)
    take_away()
    parts = (*parts_with_compute_hosts(), InstanceImage()) if with_nova else ()
    try:
        with Lines(console) as lines:
            Cloud(
                FOLDER,
                NETWORK,
                parts=parts,
                progress=lines,
                transition_ms=TRANSITION_MILLISECONDS,
            ).start()
    except FAILURES as error:
        NETWORK.destroy()
        console.print(f"make cloud: {error}", style="red", markup=False)
        console.print(f"Logs: {FOLDER / 'logs'} (until the next make cloud or cloud-down)")
        return 1
    except BaseException as error:
        take_away()
        if isinstance(error, KeyboardInterrupt):
            return 130
        raise
    print(usage(with_nova=with_nova))
    return 0


def usage(*, with_nova: bool) -> str:
    """What to type, from the checkout, to use the cloud."""
    openrc, openstack, lightos = (
        shlex.quote(os.path.relpath(path))
        for path in (OPENRC, VENV_BIN / "openstack", VENV_BIN / "lightos")
    )
    examples = INSTANCE_EXAMPLES if with_nova else VOLUME_EXAMPLES
    return "\n".join(
        [
            "",
            "The cloud runs. In any shell, from this folder:",
            f"  . {openrc}",
            *(f"  {openstack} {example}" for example in examples),
            "The lab:",
            f"  {shlex.join(NETWORK.command([]))} {lightos} lab status "
            f"--state-dir {os.path.relpath(FOLDER / 'lab')}",
            f"Logs: {os.path.relpath(FOLDER / 'logs')}",
            "End all of it with: make cloud-down",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed.cloud", description=__doc__)
    parser.add_argument("--down", action="store_true", help="end the cloud that runs")
    parser.add_argument("--nova", action="store_true", help="with Nova and two compute hosts")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("make cloud needs root: it makes a network namespace for itself", file=sys.stderr)
        return 2
    # What ends a job from outside cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with only_one() as alone:
        if not alone:
            print("another make cloud or cloud-down is at work: wait for it", file=sys.stderr)
            return 1
        try:
            if arguments.down:
                take_away()
                return 0
            width = None if sys.stdout.isatty() else PLAIN_WIDTH
            return up(Console(highlight=False, width=width), with_nova=arguments.nova)
        except NetworkError as error:
            print(f"make cloud: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
