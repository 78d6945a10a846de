# SPDX-License-Identifier: Apache-2.0
"""The report of a real `cinder-volume`, whose main process has a child for each back end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed.cinder import configuration, database
from testbed.cinder.paths import VENV_BIN
from testbed.cluster import free_port, sensitive_words
from testbed.polling import wait_until

START_SECONDS = 120


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for thread in threads for word in thread.read_text().split()]


@pytest.mark.parametrize("threading", [False, True], ids=["eventlet", "threads"])
def test_the_child_of_a_back_end_tells_of_it(
    lab: dict[str, Any], tmp_path: Path, threading: bool
) -> None:
    deployment = configuration.Deployment(
        tmp_path, "127.0.0.1", free_port(), {"lightos": configuration.lightos_backend(lab)}
    )
    configuration.write(deployment)
    database.provision(deployment.database)
    reports = tmp_path / "reports"
    reports.mkdir()
    with deployment.conf_file.open("a") as conf:
        conf.write(f"[oslo_reports]\nlog_dir = {reports}\n")
    disabled = {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "1"} if threading else {}
    with (tmp_path / "output").open("wb") as output:
        service = subprocess.Popen(
            [VENV_BIN / "cinder-volume", "--config-file", deployment.conf_file],
            stdout=output,
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
        (child,) = children(service.pid)
        os.kill(child, signal.SIGUSR2)
        wait_until(lambda: any(path.stat().st_size for path in reports.iterdir()), "the report")
        (path,) = reports.iterdir()
        report = path.read_text()
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait()
    assert "Back end cinder@lightos, driver" in report
    assert f"Subsystem: {lab['subsystem_nqn']}" in report
    assert [word for word in sensitive_words(lab) if word in report] == []
