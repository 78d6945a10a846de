# SPDX-License-Identifier: Apache-2.0
"""Who is told when the cluster changes."""

from __future__ import annotations

from collections.abc import Callable

from lightos.lab.view import ClusterChange


class Subscribers:
    """Listeners, called on the event loop after each change."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[ClusterChange], None]] = []

    def add(self, listener: Callable[[ClusterChange], None]) -> Callable[[], None]:
        """Tell `listener` from now on; the result ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, change: ClusterChange) -> None:
        """Tell everyone, if anything changed."""
        if change != ClusterChange():
            for listener in tuple(self._listeners):
                listener(change)
