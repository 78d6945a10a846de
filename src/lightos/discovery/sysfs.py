# SPDX-License-Identifier: Apache-2.0
"""Attributes of the kernel's devices. Standard library only, for os-brick reads them with this too.

Without pathlib and text files, which take five times as long, and there are many to read.
"""

from __future__ import annotations

import os
import re

CONTROLLER_ENDING_STATES = frozenset({"deleting", "deleting (no IO)", "dead"})
"""Linux `drivers/nvme/host/sysfs.c`; the kernel allows a new connect beside one of these."""
_ATTRIBUTE_BYTES = 4096
"""sysfs shows no more than a page of anything."""
_NAMESPACE = re.compile(r"(nvme[0-9]+)(n[0-9]+)")


def is_namespace(name: str) -> bool:
    """Whether a block device of this name is a namespace, `nvme0n1`, and not a path to one."""
    return _NAMESPACE.fullmatch(name) is not None


def path_name(namespace: str, controller: str) -> str:
    """Name of the path to a namespace by way of a controller, in whose folder it is.

    `nvme0c3n1` of `nvme0n1` and `nvme3` (Linux `drivers/nvme/host/core.c`, nvme_alloc_ns).
    """
    return _NAMESPACE.sub(rf"\1{controller.replace('nvme', 'c')}\2", namespace)


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
