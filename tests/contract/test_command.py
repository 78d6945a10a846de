# SPDX-License-Identifier: Apache-2.0
"""`lightos lab`: what it prints and returns, most of all for bad input."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.lab import LIGHTOS, Lab, free_port, lightos


def refused(*arguments: str) -> str:
    """The one line that a failing command prints."""
    done = lightos("lab", *arguments, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


def up(state_dir: Path, *options: str) -> tuple[str, ...]:
    return "up", "--state-dir", str(state_dir), "--api-port", str(free_port()), *options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nodes", "0"], "0 is not in the range"),
        (["--nodes", "many"], "'many' is not a valid integer"),
        (["--nodez", "3"], "No such option '--nodez'"),
        (["--addresses", "localhost"], "'localhost' is not an IP address"),
        (["--addresses", "127.0.0.1,127.0.0.1"], "address of its own"),
        (["--addresses", "127.0.0.1", "--nodes", "2"], "do not fit"),
        (["--addresses", "8.8.8.8"], "--allow-public-addresses"),
        (["--addresses", "0.0.0.0"], "no address of one node"),
        (["--addresses", "10.255.255.254"], "is not on this machine"),
        (["--api-port", "70000"], "70000 is not in the range"),
        (["--api-port", "4420"], "must differ"),
        (["--transition-ms", "-1"], "-1 is not in the range"),
        (["--projects", "Red"], "'Red' is not a project name"),
    ],
)
@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_bad_options(tmp_path: Path, options: list[str], said: str, detach: list[str]) -> None:
    assert said in refused(*up(tmp_path), *options, *detach)


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_port_in_use(lab: Lab, tmp_path: Path, detach: list[str]) -> None:
    address = lab.info["api_addresses"][0]
    for option, port in (("--discovery-port", 8009), ("--nvme-port", 4420)):
        others = ["--discovery-port", "18009", "--nvme-port", "14420"]
        line = refused(*up(tmp_path), "--addresses", address, *others, option, str(port), *detach)
        assert f"port {port} on {address} is in use" in line
        assert option in line


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_second_lab_on_the_same_folder(lab: Lab, detach: list[str]) -> None:
    line = refused(*up(lab.state_dir), *detach)
    assert f"pid {lab.info['pid']}" in line
    assert "lab down" in line
    lightos("lab", "wait", f"--state-dir={lab.state_dir}")


def test_a_folder_that_is_no_labs(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(*up(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_metadata(tmp_path: Path) -> None:
    (tmp_path / "cluster.sqlite").write_text("not a database" * 100)
    assert "cluster.sqlite" in refused(*up(tmp_path))
    assert (tmp_path / "cluster.sqlite").read_text() == "not a database" * 100


@pytest.mark.parametrize("command", ["status", "wait --timeout=0", "node stop node1"])
def test_without_a_lab(tmp_path: Path, command: str) -> None:
    line = refused(*command.split(), "--state-dir", str(tmp_path))
    assert "no lab runs on" in line or "is not ready" in line


def test_down_without_a_lab_is_no_error(tmp_path: Path) -> None:
    assert "No lab runs" in lightos("lab", "down", f"--state-dir={tmp_path}").stdout


def test_a_stale_state_folder(own_lab: Lab) -> None:
    own_lab.kill()
    folder = f"--state-dir={own_lab.state_dir}"
    assert "was killed; resume it with `lightos lab up" in refused("status", folder)
    own_lab.start()
    lightos("lab", "status", folder)


def test_status(lab: Lab) -> None:
    folder = f"--state-dir={lab.state_dir}"
    text = lightos("lab", "status", folder).stdout
    for node in lab.info["nodes"]:
        assert node["name"] in text
        assert node["address"] in text
    assert lab.info["subsystem_nqn"] in text
    status = json.loads(lightos("lab", "status", "--json", folder).stdout)
    assert status["lab"] == lab.info
    assert [node["state"] for node in status["nodes"]] == ["Active"] * 3


def test_lab_json(lab: Lab) -> None:
    assert set(lab.info) == {
        "api_addresses",
        "api_port",
        "jwt_file",
        "ca_file",
        "subsystem_nqn",
        "discovery_port",
        "nvme_port",
        "pid",
        "nodes",
    }


def test_an_unknown_node(lab: Lab) -> None:
    line = refused("node", "stop", "node9", f"--state-dir={lab.state_dir}")
    assert "no node node9; nodes are node1, node2, node3" in line


def test_down_ends_the_process_and_keeps_the_volumes(own_lab: Lab) -> None:
    process = os.pidfd_open(own_lab.info["pid"])
    own_lab.stop()
    assert select.select([process], [], [], 0)[0] == [process]
    os.close(process)
    assert not (own_lab.state_dir / "lab.json").exists()
    assert (own_lab.state_dir / "cluster.sqlite").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 1 MiB; made in a user and mount namespace of the command itself."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def test_a_full_disk_at_start(tiny_disk: Path) -> None:
    script = (
        f"mount -t tmpfs -o size=1m none {tiny_disk} && "
        f"dd if=/dev/zero of={tiny_disk}/lab.log bs=4k 2>/dev/null; "
        f'exec "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", LIGHTOS, "lab", *up(tiny_disk)]
    if os.geteuid() != 0:
        command[1:1] = ["--user", "--map-root-user"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "free space" in line


def test_the_command_starts_at_once() -> None:
    """Counted in modules: nothing heavy is imported before it is needed."""
    code = (
        "import sys, lightos.cli.main; "
        "print([m for m in ('rich', 'starlette', 'uvicorn', 'cryptography', 'jwt', 'requests',"
        " 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
