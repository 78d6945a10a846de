# SPDX-License-Identifier: Apache-2.0
"""`make screenshots`: the lab's web page as docs/ shows it, of a lab at work."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightos.api import routes
from lightos.api.models.volumes import CreateVolume
from lightos.cli.lab_folder import page_url
from lightos.lab.control import ControlClient
from lightos.lab.state_folder import StateFolder
from lightos.nvme_tcp.errors import CommandFailed
from testbed.browser import Browser, Page, running_browser
from testbed.cluster import free_port, running_lab
from testbed.initiator import Initiator

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LAPTOP, PHONE = (1440, 900), (390, 844)
GIB = 1 << 30
CHUNK_BLOCKS = 16
"""Of 4 KiB, in each command."""
AVAILABLE_SECONDS = 0.5
SETTLE_SECONDS = 30.0
HOSTS = {
    "nqn.2014-08.org.nvmexpress:uuid:7c1d3a52-0f4e-4b8a-9b6e-2f6a1c9d0e11": (
        ("postgres-data", 200), ("postgres-wal", 20), ("mail-spool", 500),
    ),
    "nqn.2014-08.org.nvmexpress:uuid:e0b9f6d4-5a27-4c33-8d1f-6b4c8e2a7f02": (
        ("web-frontend-root", 40), ("ci-workspace", 120), ("media-archive", 2048),
    ),
}  # fmt: skip


class WorkingHost(threading.Thread):
    """Reads and writes its volumes, on whatever path serves them, until it is closed."""

    def __init__(self, lab: dict[str, Any], host_nqn: str, nsids: list[int]) -> None:
        super().__init__(daemon=True)
        self._lab = lab
        self._host_nqn = host_nqn
        self._nsids = nsids
        self._paths: dict[str, Initiator] = {}
        self._closed = threading.Event()

    def run(self) -> None:
        rounds = 0
        while not self._closed.is_set():
            if rounds % 20 == 0:
                self._connect()
            for number, nsid in enumerate(self._nsids):
                busy = 1 + math.sin(rounds / 15 + number)
                for _ in range(round(busy * (4 - number))):
                    self._exchange(nsid, block=rounds % 512 * CHUNK_BLOCKS)
            rounds += 1
            self._closed.wait(0.05)
        for path in self._paths.values():
            path.close()

    def _connect(self) -> None:
        for node in self._lab["nodes"]:
            if node["name"] not in self._paths:
                with contextlib.suppress(OSError):
                    self._paths[node["name"]] = Initiator(
                        node["address"],
                        self._lab["nvme_port"],
                        self._lab["subsystem_nqn"],
                        host_nqn=self._host_nqn,
                    )

    def _exchange(self, nsid: int, block: int) -> None:
        for name, path in tuple(self._paths.items()):
            try:
                path.write(nsid, block, os.urandom(CHUNK_BLOCKS * 4096))
                for _ in range(3):
                    path.read(nsid, block, CHUNK_BLOCKS)
            except CommandFailed:
                continue  # another node is the primary
            except Exception:  # noqa: BLE001 - whatever befell it, this path is gone
                self._paths.pop(name).close()
            else:
                return

    def close(self) -> None:
        self._closed.set()
        self.join()


def make_volumes(control: ControlClient, host_nqn: str) -> list[int]:
    """The volumes of a host, once they are available; their namespace ids."""
    nsids = []
    for name, size_gib in HOSTS[host_nqn]:
        request = CreateVolume(
            project="default",
            name=name,
            size_bytes=size_gib * GIB,
            replica_count=3 if size_gib < 1000 else 2,
            acl=(host_nqn,),
        )
        nsids.append(control.call(routes.CREATE_VOLUME, request).nsid)
        time.sleep(AVAILABLE_SECONDS)  # placement counts volumes that are available
    return nsids


@contextmanager
def lab_at_work(state_dir: Path) -> Iterator[str]:
    """A lab with hosts that read and write; gives the address of its page."""
    folder = StateFolder(state_dir)
    with running_lab(
        state_dir,
        addresses="127.0.0.1,127.0.0.2,127.0.0.3",
        nvme_port=free_port(),
        discovery_port=free_port(),
    ) as lab:
        with ControlClient(folder) as control:
            nsids = {host_nqn: make_volumes(control, host_nqn) for host_nqn in HOSTS}
        hosts = [WorkingHost(lab, host_nqn, nsids[host_nqn]) for host_nqn in HOSTS]
        for host in hosts:
            host.start()
        try:
            yield page_url(lab, folder)
        finally:
            for host in hosts:
                host.close()


def shown(browser: Browser, url: str, size: tuple[int, int], *, dark: bool) -> Page:
    width, height = size
    return browser.open(url, width=width, height=height, dark=dark)


def main() -> int:
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        lab_at_work(Path(folder) / "lab") as url,
        running_browser() as browser,
    ):
        pages = {
            f"lab-page-{name}{'-dark' if dark else ''}.png": shown(browser, url, size, dark=dark)
            for name, size in (("laptop", LAPTOP), ("phone", PHONE))
            for dark in (False, True)
        }
        time.sleep(SETTLE_SECONDS)  # the curves want some history
        for name, page in pages.items():
            page.screenshot(IMAGES / name)
        page = pages["lab-page-laptop.png"]
        page.click('button[aria-label="Stop node2"]')
        page.wait("document.body.innerText.includes('node2 is Inactive')")
        time.sleep(5)
        page.screenshot(IMAGES / "lab-page-failover.png")
    print(f"the pictures in {IMAGES} are new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
