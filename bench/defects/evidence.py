# SPDX-License-Identifier: Apache-2.0
"""How scenarios come to know: what an operation ended with, and what went on beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


def error_of(operation: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """The error that an operation ends with, in one line; empty when it succeeds."""
    try:
        operation(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whatever was raised is what is observed
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text}"
    return ""


def shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


@contextmanager
def in_background(operation: Callable[[], None]) -> Iterator[None]:
    """Run something beside; its error is raised at the end."""
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(operation)
        yield
        done.result()
