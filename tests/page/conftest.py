# SPDX-License-Identifier: Apache-2.0
"""A lab with a volume and a host, and a real browser on its page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightos.cli.lab_folder import page_url
from lightos.lab.state_folder import StateFolder
from testbed.browser import Browser, Page, running_browser
from testbed.initiator import Initiator
from tests.contract.lab import Api, Lab
from tests.contract.test_data_path import HOST, connect

NAME = "volume-5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a01"


@dataclass
class LabPage:
    """A lab of three nodes with a volume called as Cinder does, and a host with paths to all."""

    lab: Lab
    volume: dict[str, Any]
    paths: dict[str, Initiator]
    url: str
    browser: Browser

    @property
    def primary(self) -> str:
        """The name of the node that serves the volume when all are well."""
        return self.name(self.volume["primaryNodeUUID"])

    def name(self, node_uuid: str) -> str:
        (name,) = (n["name"] for n in self.lab.info["nodes"] if n["uuid"] == node_uuid)
        return str(name)

    def open(self, **window: Any) -> Page:
        page = self.browser.open(self.url, **window)
        page.wait("document.getElementById('live').textContent === 'live'")
        return page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def lab_page(tmp_path: Path, browser: Browser) -> Iterator[LabPage]:
    lab = Lab(tmp_path / "lab")
    lab.start()
    with ExitStack() as stack:
        stack.callback(lab.stop)
        volume = Api(lab).create_volume(NAME, acl={"values": [HOST]})
        paths = {
            node["name"]: stack.enter_context(connect(lab, node["uuid"]))
            for node in lab.info["nodes"]
        }
        url = page_url(lab.info, StateFolder(lab.state_dir))
        yield LabPage(lab, volume, paths, url, browser)
