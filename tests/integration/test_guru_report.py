# SPDX-License-Identifier: Apache-2.0
"""The report of a real `cinder-volume`, whose main process has a child for each back end, by the
command that the guide shows."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed.cinder import configuration, database
from testbed.cinder.paths import VENV_BIN
from testbed.cluster import free_port, sensitive_words
from testbed.polling import wait_until
from tests.shown import ROOT, commands

START_SECONDS = 120
(COMMAND,) = commands(ROOT / "docs" / "monitoring.rst")


@pytest.mark.parametrize("threading", [False, True], ids=["eventlet", "threads"])
def test_the_child_of_a_back_end_tells_of_it(
    lab: dict[str, Any], tmp_path: Path, threading: bool
) -> None:
    deployment = configuration.Deployment(
        tmp_path, "127.0.0.1", free_port(), {"lightos": configuration.lightos_backend(lab)}
    )
    configuration.write(deployment)
    database.provision(deployment.database)
    output = tmp_path / "output"
    disabled = {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "1"} if threading else {}
    with output.open("wb") as file:
        service = subprocess.Popen(
            [VENV_BIN / "cinder-volume", "--config-file", deployment.conf_file],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **disabled},
            start_new_session=True,
        )
    try:
        ready = "Driver initialization completed successfully"
        wait_until(
            lambda: deployment.log_file.exists() and ready in deployment.log_file.read_text(),
            "the driver to be initialised",
            START_SECONDS,
        )
        # It would reach others of this machine, too.
        subprocess.run([*shlex.split(COMMAND), "--session", str(service.pid)], check=True)
        told = "Back end cinder@lightos, driver"
        wait_until(lambda: told in output.read_text(), "the report")
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait()
    report = output.read_text()
    assert f"Subsystem: {lab['subsystem_nqn']}" in report
    assert [word for word in sensitive_words(lab) if word in report] == []
