# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

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
