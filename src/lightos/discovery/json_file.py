# SPDX-License-Identifier: Apache-2.0
"""What the daemon remembers is in files of JSON, which are whole whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def store(path: Path, content: Any) -> None:
    """Replace a file, on the disk when this returns. Raises OSError, and leaves the file then."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
