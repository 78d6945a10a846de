# SPDX-License-Identifier: Apache-2.0
"""Defects of Nova's volume driver."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

from bench.defects.bed import Bed
from bench.defects.defect import Observation, defect


@functools.cache
def _seen() -> dict[str, Any]:
    """What the driver of this process's environment shows, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.defects.nova_driver"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@defect("27a", "Nova: the domain has neither native I/O nor discard")
def domain_xml(_bed: Bed) -> Observation:
    disk = _seen()["disk"]
    seen = ", ".join(f"{name}={disk.get(name)}" for name in ("io", "discard"))
    return Observation((disk.get("io"), disk.get("discard")) != ("native", "unmap"), seen)


@defect("27b", "Nova: a detach fails when the device is gone already")
def gone_device(_bed: Bed) -> Observation:
    error = _seen()["detach_error"]
    return Observation(bool(error), error or "detached")


@defect("27c", "Nova: lines in the log do not say which instance they are about")
def nameless_lines(_bed: Bed) -> Observation:
    lines = _seen()["lines"]
    return Observation(
        not all(lines), f"{lines.count(False)} of {len(lines)} lines without instance"
    )
