# SPDX-License-Identifier: Apache-2.0
"""A lab that keeps nothing, and one that forgets what it had."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lightos.nvme_tcp.constants import AsyncEvent
from tests.contract.lab import POLICIES, PROJECT, Api, Lab, lightos
from tests.contract.test_credentials import asked as credential
from tests.contract.test_credentials import signed
from tests.contract.test_data_path import OPEN_TO_HOST, connect

PROJECTS = "/api/v2/projects"


@pytest.fixture
def memory_lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        lab = Lab(Path(directory, "lab"))
        lab.options.append("--memory")
        yield lab
        lab.stop()


def test_a_lab_in_memory_keeps_nothing(memory_lab: Lab) -> None:
    memory_lab.start()
    volume = Api(memory_lab).create_volume("vol", **OPEN_TO_HOST)
    with connect(memory_lab, volume["primaryNodeUUID"]) as host:
        host.write(volume["nsid"], 0, b"a" * 4096)
        assert host.read(volume["nsid"], 0, 1) == b"a" * 4096
    assert memory_lab.state_dir.stat().st_mode & 0o777 == 0o700
    said = lightos("lab", "down", f"--state-dir={memory_lab.state_dir}").stdout
    assert "nothing of it is left" in said
    assert not memory_lab.state_dir.exists()


def test_what_a_killed_one_left_is_taken_away(memory_lab: Lab) -> None:
    memory_lab.start()
    Api(memory_lab).create_volume("vol")
    memory_lab.kill()
    folder = f"--state-dir={memory_lab.state_dir}"
    durable = [word for word in memory_lab.options if word != "--memory"]
    done = lightos("lab", "up", "--detach", *durable, check=False)
    assert "was started with --memory; start it so" in done.stderr
    assert "lab up --memory" in lightos("lab", "status", folder, check=False).stderr
    memory_lab.start()
    assert Api(memory_lab).call("GET", f"{PROJECT}/volumes") == {}
    memory_lab.kill()
    lightos("lab", "down", folder)
    assert not memory_lab.state_dir.exists()


def test_memory_is_not_for_a_disk_nor_for_a_durable_lab(memory_lab: Lab) -> None:
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as on_disk:
        done = lightos("lab", "up", "--memory", f"--state-dir={on_disk}", check=False)
        assert "not in memory" in done.stderr
    memory_lab.options.remove("--memory")
    memory_lab.start()
    memory_lab.stop()
    memory_lab.options.append("--memory")
    done = lightos("lab", "up", "--detach", *memory_lab.options, check=False)
    assert "was started without --memory; start it so" in done.stderr
    assert (memory_lab.state_dir / "cluster.sqlite").exists()


def test_reset(own_lab: Lab) -> None:
    api, folder = Api(own_lab), f"--state-dir={own_lab.state_dir}"
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    snapshot = api.create_snapshot("snap", volume["UUID"])
    api.create_volume("clone", sourceSnapshotUUID=snapshot["UUID"])
    api.call("POST", f"{PROJECT}/volumes", {**volume, "name": "new", "acl": {"values": ["n"]}})
    limit = {"policyVisibility": "Global", "limitIOPS": {"readIOPSLimit": 256}}
    policy = api.call("POST", POLICIES, {"name": "gold", "qoSRateLimitPolicy": limit})
    default = [{"policyType": "qosRateLimit", "policyUUID": policy["UUID"]}]
    api.call("PUT", PROJECT, {"defaultPolicies": default})
    api.call("POST", f"{PROJECT}/credentials", credential())
    blue = Api(own_lab, token=own_lab.token("blue"))
    last = own_lab.info["nodes"][2]["name"]
    own_lab.node("stop", last)
    lightos("lab", "fault", "add", folder, "--operation=DeletePolicy", "--status=503")
    with ExitStack() as stack:
        nodes = {node["uuid"] for node in own_lab.info["nodes"][:2]}
        host = stack.enter_context(connect(own_lab, nodes.pop()))
        told = host.watch(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
        said = lightos("lab", "reset", folder).stdout
        assert said == f"The lab on {own_lab.state_dir} is empty.\n"
        assert host.event(told) is AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED
        assert host.namespace_ids() == ()
    for kind in ("volumes", "snapshots"):
        assert api.call("GET", f"{PROJECT}/{kind}?showAll=true") == {}
    assert api.call("GET", POLICIES) == {}
    (project,) = api.call("GET", PROJECTS)["projects"]
    assert (project["name"], "defaultPolicies" in project) == ("default", False)
    assert blue.raw("GET", f"{PROJECTS}/blue/volumes").status_code == 401
    Api(own_lab, token=signed()).call("GET", f"{PROJECT}/volumes", status=401)
    assert not (own_lab.state_dir / "tokens" / "blue.jwt").exists()
    assert lightos("lab", "fault", "list", folder).stdout == "There are no faults.\n"
    lightos("lab", "wait", folder)
    api.create_volume("vol")
    own_lab.kill()
    own_lab.start()
    listed = Api(own_lab).call("GET", f"{PROJECT}/volumes")["volumes"]
    assert [each["name"] for each in listed] == ["vol"]
