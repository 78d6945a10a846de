# SPDX-License-Identifier: Apache-2.0
"""Attributes of the kernel's devices. Standard library only, for os-brick reads them with this too.

Without pathlib and text files, which take five times as long, and there are many to read.
"""

from __future__ import annotations

import os

CONTROLLER_ENDING_STATES = frozenset({"deleting", "deleting (no IO)", "dead"})
"""Linux `drivers/nvme/host/sysfs.c`; the kernel allows a new connect beside one of these."""
_ATTRIBUTE_BYTES = 4096
"""sysfs shows no more than a page of anything."""


def attribute(path: str | os.PathLike[str]) -> str | None:
    """Content without white space at its ends; None for a file that is not, or no more, there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _ATTRIBUTE_BYTES).decode(errors="replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
