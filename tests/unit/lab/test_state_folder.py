# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lightos.cli.lab import lab
from lightos.lab import state_folder
from lightos.lab.errors import LabError
from lightos.lab.listeners import control_listener, explained, tcp_listener
from lightos.lab.state_folder import NotRunning, StateFolder


def test_one_lab_at_a_time(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "new" / "lab")
    folder.make()
    assert folder.running_pid() is None
    with folder.locked():
        assert folder.running_pid() == os.getpid()
        with pytest.raises(LabError, match=f"already runs on .*pid {os.getpid()}.*lab down"):
            folder.locked().__enter__()
        with pytest.raises(NotRunning, match="not ready yet"):
            folder.require_running()
        folder.publish({"nodes": []})
        assert folder.require_running() == {"nodes": []}
    assert folder.running_pid() is None


def test_what_a_killed_lab_left_is_recognised(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.publish({"pid": 1})
    folder.database.touch()
    with pytest.raises(NotRunning, match=r"was killed; resume it with `lightos lab up"):
        folder.require_running()
    folder.clear()
    with pytest.raises(NotRunning, match=r"no lab runs on [^:]*; resume"):
        folder.require_running()


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LabError, match=r"thesis\.txt"):
        StateFolder(tmp_path).make()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="choose another --state-dir"):
        StateFolder(tmp_path / "file").make()


def test_the_default_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert StateFolder.default().path == Path("/var/state/lightos-lab")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert StateFolder.default().path == Path.home() / ".local/state/lightos-lab"


def test_the_control_socket_works_under_a_long_path_and_is_private(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / ("d" * 120))
    folder.make()
    with control_listener(folder), socket.socket(socket.AF_UNIX) as client:
        assert folder.control_socket.stat().st_mode & 0o777 == 0o600
        with folder.control_address() as path:
            client.connect(path)


def test_a_port_in_use_is_named() -> None:
    with tcp_listener("127.0.0.1", 0, "--api-port") as first:
        port = first.getsockname()[1]
        with pytest.raises(LabError, match=f"port {port} on 127.0.0.1 is in use.*--api-port"):
            tcp_listener("127.0.0.1", port, "--api-port")


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(LabError, match=r"192\.0\.2\.1 is not on this machine"):
        tcp_listener("192.0.2.1", 8443, "--api-port")


def test_a_port_that_needs_root_is_named() -> None:
    line = explained(PermissionError(errno.EACCES, ""), "127.0.0.1", 443, "--api-port")
    assert line == (
        "no permission for port 443 on 127.0.0.1: run as root, or choose --api-port above 1023"
    )


@pytest.fixture
def in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def killed(folder: StateFolder) -> StateFolder:
    """As a memory-only lab that was killed leaves its folder."""
    with folder.opened(memory_only=True):
        left = {entry.name: entry.read_bytes() for entry in folder.path.iterdir()}
    folder.path.mkdir(mode=0o700)
    for name, content in left.items():
        (folder.path / name).write_bytes(content)
    (folder.blocks / "0").mkdir(parents=True)
    return folder


def test_what_a_killed_lab_left_in_memory_is_erased(in_memory: Path) -> None:
    folder = killed(StateFolder(in_memory / "lab"))
    with folder.locked(), pytest.raises(LabError, match="already runs"):
        folder.erase()
    assert folder.blocks.exists()
    folder.erase()
    assert not folder.path.exists()


def test_no_other_folder_is_erased(in_memory: Path, tmp_path: Path) -> None:
    killed(StateFolder(in_memory / "lab"))
    on_disk = StateFolder(tmp_path / "disk")
    shutil.copytree(in_memory / "lab", on_disk.path)
    with pytest.raises(LabError, match="not in memory"):
        on_disk.erase()
    assert on_disk.blocks.exists()
    of_others = StateFolder(in_memory / "others")
    of_others.path.mkdir()
    for name in ("memory-only", "lightos-lab-in-memory", "thesis.txt"):
        (of_others.path / name).touch()
    with pytest.raises(LabError, match="holds no lab that was started with --memory"):
        of_others.erase()
    with pytest.raises(LabError, match="holds other files"):
        of_others.make(memory_only=True)
    assert len(list(of_others.path.iterdir())) == 3


def test_which_of_two_labs_must_be_said(
    in_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_folder, "MEMORY", in_memory)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    durable, memory = StateFolder.default(), StateFolder.default_in_memory()
    assert StateFolder.only() == durable
    killed(memory)
    assert StateFolder.left_in_memory() == memory
    with memory.locked():
        assert StateFolder.left_in_memory() is None
        assert StateFolder.only() == memory
    durable.make()
    durable.database.touch()
    with pytest.raises(LabError, match=r"two labs, on .* and on .*--state-dir"):
        StateFolder.only()
    asked = CliRunner().invoke(lab, ["reset"])
    assert (asked.exit_code, "there are two labs" in asked.output) == (1, True)
    assert "left in" in CliRunner().invoke(lab, ["down"]).output
    assert not memory.path.exists()
    assert durable.database.exists()
    assert StateFolder.only() == durable
