# SPDX-License-Identifier: Apache-2.0
"""What the daemon remembers is in files of JSON, which are whole whatever ends it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

LOG = logging.getLogger(__name__)
T = TypeVar("T")


def load(path: Path, parse: Callable[[Any], T], nothing: T) -> T:
    """What `parse` makes of a file's content; `nothing` of one that is missing or damaged."""
    try:
        return parse(json.loads(path.read_text()))
    except FileNotFoundError:
        return nothing
    except (ValueError, KeyError, TypeError) as error:
        LOG.warning("%s is damaged (%s); starting a new one", path, error)
        return nothing


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
