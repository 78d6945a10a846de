# SPDX-License-Identifier: Apache-2.0
"""Waiting for what becomes true in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], Any], what: str, timeout_seconds: float = 30, *, pause: float = 0.2
) -> Any:
    """Poll until `condition()` is true and return its value; `TimeoutError` says `what` failed."""
    give_up_at = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: not so within {timeout_seconds:.0f} s")
        time.sleep(pause)
    return value
