# SPDX-License-Identifier: Apache-2.0
"""The `openstack` commands that the guide shows, each typed in the order of the pages against real
Cinder. Those that need instances are compared with what `make cloud` shows, in `tests/unit`."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cinder import configuration
from testbed.cinder.client import CinderClient, openstack_command
from testbed.cinder.service import CinderService
from testbed.cluster import GIB, Cluster, free_port, running_lab
from testbed.polling import wait_until
from tests.integration.conftest import ready_client
from tests.shown import ROOT, commands

PAGES = ("driver_guide", "security", "troubleshooting", "compatibility")
SETTLED = {"available"}
COMMAND_SECONDS = 120


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[dict[str, Any]]:
    with running_lab(tmp_path / "lab", projects="blue") as description:
        yield description


@pytest.fixture
def cluster(lab: dict[str, Any]) -> Cluster:
    return Cluster(lab)


@pytest.fixture
def cinder(lab: dict[str, Any], tmp_path: Path) -> Iterator[CinderService]:
    """With the second back end that the guide migrates a volume to."""
    second = configuration.lightos_backend(lab) | {"volume_backend_name": "lightos-2"}
    with CinderService(
        tmp_path / "cinder",
        lab,
        free_port(),
        incumbent=False,
        threading=True,
        extra_backends={"lightos-2": second},
    ) as service:
        yield service


@pytest.fixture
def client(cinder: CinderService) -> CinderClient:
    return ready_client(cinder)


@pytest.fixture
def old_data(cluster: Cluster) -> str:
    """UUID of a volume with a snapshot, which the guide has Cinder take over."""

    def made(kind: str, body: dict[str, Any]) -> str:
        uuid = str(cluster.request("POST", f"/projects/default/{kind}", body)["UUID"])
        path = f"/projects/default/{kind}/{uuid}"
        wait_until(lambda: cluster.get(path)["state"] == "Available", f"{path} is Available")
        return uuid

    nobody = {"values": ["ALLOW_NONE"]}
    size = str(GIB)
    volume = made("volumes", {"name": "old-data", "size": size, "replicaCount": 3, "acl": nobody})
    made("snapshots", {"name": "before-upgrade", "sourceVolumeUUID": volume})
    return volume


@pytest.mark.nightly
def test_the_commands_of_the_guide_do_what_it_says(
    cinder: CinderService, client: CinderClient, cluster: Cluster, old_data: str
) -> None:
    def settled() -> bool:
        shown = {thing.status for thing in (*client.volumes(), *client.snapshots())}
        moving = {volume.migration_status for volume in client.volumes()} - {None, "success"}
        return shown <= SETTLED and not moving

    for page in PAGES:
        environment = dict(os.environ)
        for command in commands(ROOT / "docs" / f"{page}.rst"):
            program, *words = shlex.split(command.replace("controller@", f"{configuration.HOST}@"))
            if program == "export":
                environment |= dict(word.split("=") for word in words)
            if program != "openstack":
                continue
            done = subprocess.run(
                [*openstack_command(cinder), *words],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_SECONDS,
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            wait_until(settled, f"`{command}` to take effect")

    volumes = {volume.name: volume for volume in client.volumes()}
    assert volumes["data"].volume_type == "lightos-plain"
    assert volumes["data"].host == f"{configuration.HOST}@lightos-2#lightos-2"
    assert cluster.volume_of(volumes["taken-over"].id)["UUID"] == old_data
    (ours,) = cluster.get("/projects/blue/volumes")["volumes"]
    assert ours["name"] == f"volume-{volumes['ours'].id}"
    client.remove_everything()
    assert cluster.get("/projects/blue/volumes").get("volumes", []) == []
