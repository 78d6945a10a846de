# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lightos.cli.discovery_client import discovery_client
from lightos.discovery.uevents import UeventClock
from lightos.waiting import Deadline, DeadlineExpired, poll_until


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("kato: soon\n", "kato: 'soon' is not a whole number"),
        ("logging: {filename: /nonexistent/folder/log}\n", "logging.filename"),
    ],
)
def test_a_bad_configuration_ends_with_one_line_and_an_error(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "discovery-client.yaml"
    path.write_text(content)
    result = CliRunner().invoke(discovery_client, ["--config", str(path)])
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert complaint in line


def test_a_wait_for_uevents_ends_at_its_deadline_without_any() -> None:
    with UeventClock() as clock, pytest.raises(DeadlineExpired):
        poll_until(lambda: None, deadline=Deadline(0.05, clock), intervals=[0.01])
