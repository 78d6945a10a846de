# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lightos.cli.discovery_client import discovery_client
from lightos.discovery.uevents import UeventClock
from lightos.waiting import Deadline, DeadlineExpired, poll_until


def test_a_bad_configuration_ends_with_one_line_and_an_error(tmp_path: Path) -> None:
    path = tmp_path / "discovery-client.yaml"
    path.write_text("kato: soon\n")
    result = CliRunner().invoke(discovery_client, ["--config", str(path)])
    assert result.exit_code == 1
    assert result.output == f"Error: {path}: kato: 'soon' is not a whole number\n"


def test_a_wait_for_uevents_ends_at_its_deadline_without_any() -> None:
    with UeventClock() as clock, pytest.raises(DeadlineExpired):
        poll_until(lambda: None, deadline=Deadline(0.05, clock), intervals=[0.01])
