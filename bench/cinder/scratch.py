# SPDX-License-Identifier: Apache-2.0
"""Folders for labs and Cinder, in memory where there is such a place: the disk is not measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that goes in the end."""
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lightos-bench-", dir=place) as name:
        yield Path(name)
