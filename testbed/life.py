# SPDX-License-Identifier: Apache-2.0
"""What is started and stopped, as a context."""

from __future__ import annotations

import abc
from typing import Self


class Life(abc.ABC):
    """Runs for as long as a `with` block lasts; `stop` cleans up after a start that failed, too."""

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
