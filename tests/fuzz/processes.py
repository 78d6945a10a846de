# SPDX-License-Identifier: Apache-2.0
"""What the kernel counts of the process that is fed."""

from __future__ import annotations

import os

from bench.cinder.processes import memory_bytes


def resident_bytes(pid: int) -> int:
    return memory_bytes(pid)["rss"]


def descriptor_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
