# SPDX-License-Identifier: Apache-2.0
"""The commands of the discovery client that need no kernel; the others are in tests/kernel."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightos.cli.discovery_client import discovery_client
from lightos.discovery.entries import DiscoveryEntry, parse
from lightos.discovery.uevents import UeventClock
from lightos.waiting import Deadline, DeadlineExpired, poll_until

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
SUBSYSTEM = "nqn.2016-01.com.lightbitslabs:uuid:a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "discovery.d"


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(discovery_client, ["--discovery-dir", str(folder), *arguments])


def test_a_bad_configuration_ends_with_one_line_and_an_error(tmp_path: Path) -> None:
    path = tmp_path / "discovery-client.yaml"
    path.write_text("kato: soon\n")
    for command in ([], ["serve"], ["list"]):
        result = CliRunner().invoke(discovery_client, ["--config", str(path), *command])
        assert result.exit_code == 1
        assert result.output == f"Error: {path}: kato: 'soon' is not a whole number\n"


def test_a_file_that_add_hostnqn_writes_is_one_that_the_daemon_reads(folder: Path) -> None:
    words = ["-a", "192.168.75.11:8010,fd00::1", "-a", "[fd00::2]:8011", "-n", SUBSYSTEM]
    added = run(folder, "add-hostnqn", "--name", "v2", *words, "-q", HOST, "-l", "-1", "--json")
    assert added.exit_code == 0, added.output
    path = folder / "v2"
    assert json.loads(added.output) == {"name": str(path), "outcome": "created"}
    services = [("192.168.75.11", 8010), ("fd00::1", 8009), ("fd00::2", 8011)]
    read = parse(path.read_text(), "v2")
    assert read.errors == ()
    assert read.entries == tuple(
        DiscoveryEntry(address, port, HOST, SUBSYSTEM, None, -1) for address, port in services
    )

    removed = run(folder, "remove-hostnqn", "--name", "v2")
    assert removed.output == f"{path}: removed\n"
    assert list(folder.iterdir()) == []
    assert run(folder, "remove-hostnqn", "-n", "v2").output == f"{path}: absent\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--name", "tmp.dc.x"], "are not read by a discovery client"),
        (["--name", "../x"], "is no file name"),
        (["--name", "x" * 201], "is no file name"),
        (["--name", "x", "-a", "10.0.0.1:no"], "is not a number"),
        (["--name", "x", "-a", "10.0.0.1:70000"], "is not a number from 1 to 65535"),
        (["--name", "x", "-n", "nqn"], "is not of the form"),
        (["--name", "x", "-q", "a,b"], "host NQN 'a,b' holds"),
    ],
)
def test_what_makes_no_sense_is_refused_and_no_file_written(
    folder: Path, words: list[str], complaint: str
) -> None:
    given = {"-a": "10.0.0.1", "-n": SUBSYSTEM, "-q": HOST}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    result = run(folder, "add-hostnqn", *(word for pair in given.items() for word in pair))
    assert result.exit_code == 1
    assert complaint in result.output
    assert not list(folder.glob("*"))


def test_a_service_that_is_not_there_is_named(folder: Path) -> None:
    result = run(folder, "discover", "-a", "127.0.0.1", "-s", "1", "-q", HOST)
    assert result.exit_code == 1
    assert result.output.startswith("Error: discovery service 127.0.0.1:1: ")


def test_systemd_takes_the_unit_and_it_runs_this_installation(folder: Path, tmp_path: Path) -> None:
    unit = run(folder, "systemd-unit").output
    assert f"ExecStart={Path(sys.executable).with_name('lightos')} discovery-client serve" in unit
    path = tmp_path / "lightos-discovery-client.service"
    path.write_text(unit)
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "install the package systemd"
    verified = subprocess.run(
        [analyze, "verify", path], capture_output=True, text=True, check=False
    )
    complaints = [line for line in verified.stderr.splitlines() if path.name in line]
    assert (complaints, verified.returncode) == ([], 0)


@pytest.mark.parametrize(
    ("prefix", "home", "tmp"),
    [
        ("/opt/lightos", "yes", "yes"),
        ("/root/venv", "read-only", "yes"),
        ("/tmp/checkout/.venv", "yes", "no"),
    ],
)
def test_the_unit_sees_its_own_installation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, home: str, tmp: str
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "executable", f"{prefix}/bin/python")
    lines = run(folder, "systemd-unit").output.splitlines()
    assert {f"ProtectHome={home}", f"PrivateTmp={tmp}"} <= set(lines)


def test_a_wait_for_uevents_ends_at_its_deadline_without_any() -> None:
    with UeventClock(bool) as clock, pytest.raises(DeadlineExpired):
        poll_until(lambda: None, deadline=Deadline(0.05, clock), intervals=[0.01])
