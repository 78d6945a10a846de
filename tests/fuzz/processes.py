# SPDX-License-Identifier: Apache-2.0
"""What the kernel counts of the process that is fed."""

from __future__ import annotations

import os
from pathlib import Path

from bench.cinder.processes import memory_bytes


def resident_bytes(pid: int) -> int:
    return memory_bytes(pid)["rss"]


def peak_bytes(pid: int) -> int:
    """Most that was ever resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def descriptor_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
