# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from lightos.discovery import logs
from lightos.discovery.config import Config, ConfigError
from lightos.discovery.desired import Cluster, Endpoint

CLUSTER = Cluster("nqn.2014-08.com.example:host", "nqn.2016-01.com.lightbitslabs:a")


def record(**more: object) -> logging.LogRecord:
    logger = logging.getLogger("lightos.discovery.daemon")
    return logger.makeRecord(
        logger.name, logging.INFO, "daemon.py", 1, "connected %s", ("x",), None, **more
    )


def test_a_line_of_json_says_what_it_is_about() -> None:
    what = logs.about("connected", CLUSTER, Endpoint("fd00::1", 4420), controller="nvme3")
    line = logs.JsonFormatter().format(record(extra=what))
    content = json.loads(line)
    assert content.pop("time").endswith("+00:00")
    assert content == {
        "level": "info",
        "logger": "lightos.discovery.daemon",
        "message": "connected x",
        "event": "connected",
        "subsystem_nqn": CLUSTER.subsystem_nqn,
        "host_nqn": CLUSTER.host_nqn,
        "address": "fd00::1",
        "port": 4420,
        "controller": "nvme3",
    }


def test_a_traceback_stays_on_one_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        failed = record()
        failed.exc_info = sys.exc_info()
    line = logs.JsonFormatter().format(failed)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: no")


def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"logging.filename: {tmp_path}: Is a directory"):
        logs.set_up(Config(log_path=tmp_path))
