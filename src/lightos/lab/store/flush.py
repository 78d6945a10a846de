# SPDX-License-Identifier: Apache-2.0
"""Making a chain of layers stable, while others go on writing to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from lightos.lab.store.layer import Captured, Layer


def flush_layers(io: AbstractContextManager[object], layers: Callable[[], Sequence[Layer]]) -> None:
    """Put all that was written to `layers()` (bottom up) before this call on stable storage.

    What is to be made stable is noted for all layers at one instant: folding moves an extent
    from a layer into the one below, and a flush must not see it gone from the first and not
    yet arrived in the second. For the same reason the lower layer becomes stable first.
    """
    with ExitStack() as held:
        captured = _capture(io, layers, held)
        while captured:
            layer, changes = captured[0]
            try:
                layer.sync_data()
                with io:
                    layer.settle(changes)
                layer.sync_map()
            except BaseException:
                with io:
                    for unfinished, its_changes in captured:
                        unfinished.flush_failed(its_changes)
                raise
            captured.pop(0)


def _capture(
    io: AbstractContextManager[object], layers: Callable[[], Sequence[Layer]], held: ExitStack
) -> list[tuple[Layer, Captured]]:
    """Begin a flush of the layers that need it; their flush locks stay with `held`.

    A layer that is clean because another thread is flushing it right now is waited for.
    """
    while True:
        with io:
            wanted = [layer for layer in layers() if layer.unflushed or layer.flush_lock.locked()]
        with ExitStack() as locks:
            for layer in wanted:
                locks.enter_context(layer.flush_lock)
            with io:
                # While this waited for the locks, folding may have dirtied or replaced a layer.
                unflushed = [layer for layer in layers() if layer.unflushed]
                if all(layer in wanted for layer in unflushed):
                    captured = [(layer, layer.begin_flush()) for layer in unflushed]
                    held.push(locks.pop_all())
                    return captured
