# SPDX-License-Identifier: Apache-2.0
"""One call whose result serves every thread that asked for it before it began."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    """`call` takes a look at something; no `result` is of a look that began before it was asked."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._begun = 0
        self._latest: T

    def result(self) -> T:
        begun_before = self._begun
        with self._lock:
            if self._begun == begun_before:
                self._begun += 1
                self._latest = self._call()
            return self._latest
