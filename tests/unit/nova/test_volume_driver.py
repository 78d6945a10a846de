# SPDX-License-Identifier: Apache-2.0
"""Runs the checks in an interpreter of their own: Nova and Cinder register the same options
differently, so one process cannot import both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKS = Path(__file__).with_name("volume_driver_checks.py")


def test_nova_volume_driver() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
