# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, and secrets that only their owner reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` by a new file, on stable storage when this returns."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_secret(path: Path, content: bytes) -> None:
    """Like `write_file`, readable by the owner only from the first byte on."""
    write_file(path, content, 0o600)
