# SPDX-License-Identifier: Apache-2.0
"""`lightos lab`: what it prints and returns, most of all for bad input."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.lab import LIGHTOS, PROJECT, Api, Lab, free_port, lightos


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
        (["--addresses", "255.255.255.255"], "no address of one node"),
        (["--addresses", "fe80::1"], "link-local address fe80::1 is not usable"),
        (["--addresses", "10.255.255.254"], "is not on this machine"),
        (["--api-port", "70000"], "70000 is not in the range"),
        (["--api-port", "4420"], "must differ"),
        (["--transition-ms", "-1"], "-1 is not in the range"),
        (["--failback-seconds", "nan"], "nan is no number of seconds"),
        (["--projects", "Red"], "'Red' is not a project name"),
        (["--projects", "red,system"], "'system' is the cluster itself"),
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


def test_lost_metadata_do_not_cost_the_blocks(own_lab: Lab) -> None:
    made = Api(own_lab).create_volume("kept")["UUID"]
    own_lab.stop()
    metadata = own_lab.state_dir / "cluster.sqlite"
    content = metadata.read_bytes()
    metadata.write_bytes(b"")
    line = refused(*up(own_lab.state_dir))
    assert "cluster.sqlite names no cluster" in line
    assert "restore that file" in line
    metadata.write_bytes(content)
    own_lab.start()
    assert Api(own_lab).settled("volumes", made)["name"] == "kept"


def test_a_failed_start_keeps_the_addresses(own_lab: Lab) -> None:
    nodes = own_lab.info["nodes"]
    own_lab.stop()
    folder = f"--state-dir={own_lab.state_dir}"
    elsewhere = "10.255.255.252,10.255.255.253,10.255.255.254"
    assert "is not on this machine" in refused("up", folder, "--addresses", elsewhere)
    lightos("lab", "up", "--detach", folder, f"--api-port={own_lab.info['api_port']}")
    assert json.loads((own_lab.state_dir / "lab.json").read_text())["nodes"] == nodes


@pytest.fixture(scope="module")
def lab_json(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a lab whose file may be damaged."""
    running = Lab(tmp_path_factory.mktemp("damaged"))
    running.start()
    yield running.state_dir / "lab.json"
    running.stop()


@pytest.mark.parametrize("content", [b"", b'{"nodes":', b"[]", b"{}", b"\xff"])
@pytest.mark.parametrize("command", ["status", "wait", "node stop node1"])
def test_a_damaged_lab_json(lab_json: Path, command: str, content: bytes) -> None:
    lab_json.write_bytes(content)
    line = refused(*command.split(), f"--state-dir={lab_json.parent}")
    assert "lab.json is damaged" in line
    assert "lab down" in line


def test_a_token_that_outlives_the_calendar(lab: Lab) -> None:
    line = refused("token", f"--state-dir={lab.state_dir}", "--valid-seconds=99999999999999")
    assert "is not in the range" in line


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "wait --timeout=0",
        "node stop node1",
        "node add 127.0.0.9",
        "renew-tokens",
        "fault add --reset",
        "fault list",
    ],
)
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
        "page_address",
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


def on_a_small_disk(folder: Path, size: str, *command: str) -> list[str]:
    """The command in a mount namespace of its own, where `folder` is a disk of that size."""
    folder.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={size} none {folder} && exec "$@"'
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, "--mount", "sh", "-c", script, "sh", *command]


@pytest.mark.parametrize("size", ["16k", "64k", "100k"])
@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_disk_too_small_to_start(tmp_path: Path, size: str, detach: list[str]) -> None:
    """Detached, too: a full disk has no room for a log."""
    command = [LIGHTOS, "lab", *up(tmp_path / "disk"), *detach]
    command = on_a_small_disk(tmp_path / "disk", size, *command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "free space" in line


def test_a_disk_that_fills_up_and_is_freed(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "disk")
    prefix = on_a_small_disk(lab.state_dir, "8m")
    up_command = [*prefix, LIGHTOS, "lab", "up", "--detach", *lab.options]
    said = subprocess.run(up_command, capture_output=True, text=True, timeout=60, check=True).stdout
    inside = Path("/proc", said.partition("pid ")[2].partition(";")[0], "root")
    folder = inside / lab.state_dir.relative_to("/")
    lab.info = json.loads((folder / "lab.json").read_text())
    for name in ("ca_file", "jwt_file"):
        lab.info[name] = str(inside / Path(lab.info[name]).relative_to("/"))
    try:
        api = Api(lab)
        made = {api.create_volume("before")["UUID"]}
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        body = {"size": "4096", "replicaCount": 1, "acl": {"values": ["ALLOW_NONE"]}}
        for number in range(1000):
            reply = api.raw("POST", f"{PROJECT}/volumes", {**body, "name": f"v{number}"})
            if reply.status_code != 200:
                break
            made.add(reply.json()["UUID"])
        assert reply.status_code == 500
        assert reply.json()["code"] == 13
        assert "free space" in reply.json()["message"]
        listed = {v["UUID"] for v in api.call("GET", f"{PROJECT}/volumes")["volumes"]}
        assert listed == made
        ballast.unlink()
        made.add(api.create_volume("after")["UUID"])
        for uuid in made:
            assert api.settled("volumes", uuid)["state"] == "Available"
    finally:
        lab.kill()


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_disk_that_cannot_be_written(tmp_path: Path, detach: list[str]) -> None:
    folder = tmp_path / "disk"
    remount = f'touch {folder}/cluster.sqlite && mount -o remount,ro {folder} && exec "$@"'
    inner = ["sh", "-c", remount, "sh", LIGHTOS, "lab", *up(folder), *detach]
    done = subprocess.run(
        on_a_small_disk(folder, "1m", *inner),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "Read-only file system" in line
    assert "another --state-dir" in line


def test_the_command_starts_at_once() -> None:
    """Counted in modules: nothing heavy is imported before it is needed."""
    code = (
        "import sys, lightos.cli.main; "
        "print([m for m in ('rich', 'starlette', 'uvicorn', 'cryptography', 'jwt', 'requests',"
        " 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_connections_do_not_keep_it_from_its_files(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        lab.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        assert resource.prlimit(lab.info["pid"], resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        lab.stop()
