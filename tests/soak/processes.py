# SPDX-License-Identifier: Apache-2.0
"""What processes use, as /proc has it, and whether that grew."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MEMORY_SLACK_KIB = 4096
_MEMORY_SLACK = 0.1
"""Python gives memory back in pieces of its own; more than this is growth."""


@dataclass(frozen=True)
class Usage:
    """Resident memory in KiB, open file descriptors, threads."""

    memory_kib: int
    descriptors: int
    threads: int


def usage(pid: int) -> list[int]:
    """The fields of `Usage` of a process, for use across `host.call`."""
    folder = Path("/proc") / str(pid)
    status = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", (folder / "status").read_text(), re.M))
    return [int(status["VmRSS"]), len(os.listdir(folder / "fd")), int(status["Threads"])]


def growth(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> list[str]:
    """What each process has more of than before, in words; nothing is the aim."""
    found = []
    for name, then in before.items():
        now = after[name]
        if now.memory_kib > then.memory_kib * (1 + _MEMORY_SLACK) + _MEMORY_SLACK_KIB:
            found.append(f"{name}: memory grew from {then.memory_kib} to {now.memory_kib} KiB")
        if now.descriptors > then.descriptors:
            found.append(f"{name}: {then.descriptors} descriptors became {now.descriptors}")
    return found
