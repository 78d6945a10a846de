# SPDX-License-Identifier: Apache-2.0
"""Folding two layers into one where no one needs them apart.

A layer without a name that has one child left (its snapshot was deleted) is folded with it:
the lower one is *pulled up* into the upper, or the upper *pushed down* into the lower, whichever
holds less. Extents move in small batches. Between any two instructions the upper layer over the
lower reads the same, so there is no journal: what a crash cut short is just found and continued.
For the power-loss case an extent is let go at its old place only once a flush has made it stable
at the new one.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from lightos.lab.store.catalog import Catalog
from lightos.lab.store.chain import ChainIndex
from lightos.lab.store.flush import flush_layers
from lightos.lab.store.layer import (
    ABSENT,
    CHUNK_EXTENTS,
    EXTENT_SHIFT,
    UNLIMITED,
    WRITTEN,
    ZERO,
    Layer,
    state_runs,
)
from lightos.lab.store.tree import Tree, lineage

_BATCH_EXTENTS = 256
_STEP_EXTENTS = 2 * CHUNK_EXTENTS
_MAX_PASSES = 4
_TURN_SECONDS = 0.001

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What a store and its folds share: two locks and what they guard."""

    structure: AbstractContextManager[object]
    io: AbstractContextManager[object]
    tree: Tree
    catalog: Catalog
    index: ChainIndex


class Fold:
    """The fold of `lower`, which has no name, and `upper`, its only child, step by step.

    Each step runs under the structure lock and takes the I/O lock for one batch (1 MiB) at a
    time; between steps anyone may do anything, so each finds out anew where things stand.
    """

    def __init__(self, lower: Layer, upper: Layer, shared: Shared) -> None:
        self.lower = lower
        self.upper = upper
        self._io = shared.io
        self._tree = shared.tree
        self._catalog = shared.catalog
        self._index = shared.index
        self._pushes = upper.used_bytes() < lower.used_bytes()
        self._position = 0
        self._moved_in_pass = 0
        self._passes = 0
        self._disk_full: OSError | None = None

    @property
    def is_due(self) -> bool:
        return self._tree.foldable(self.lower) is self.upper

    def step(self) -> bool:
        """Do a little; True when done. Raises OSError: nothing is lost, try again later."""
        return self._push_step() if self._pushes else self._pull_step()

    # --- upper into lower -------------------------------------------------------------------

    def _push_step(self) -> bool:
        self._open_overlap()
        first = self._next_step(self.upper, UNLIMITED)
        if first is None:
            if self._moved_in_pass <= _BATCH_EXTENTS or self._passes == _MAX_PASSES:
                self._replace_upper()
                return True
            self._begin_pass()
            return False
        self._move(self._push, first)
        self._flush()
        with self._io:
            self._punch_left(first, _STEP_EXTENTS)
        return False

    def _open_overlap(self) -> None:
        """Let all of `lower` show through `upper`, after cutting what did not.

        Else an extent that moves down from beyond the overlap would be hidden there.
        """
        lower, upper = self.lower, self.upper
        if upper.overlap_extents == UNLIMITED:
            return
        overlap = min(lower.overlap_extents, upper.overlap_extents)
        with self._io:
            lower.truncate(upper.overlap_extents)
        with self._catalog.transaction(frees_space=True) as change:
            change.set_layer(lower.id, lower.parent.id if lower.parent else None, overlap)
            change.set_layer(upper.id, lower.id, UNLIMITED)
        with self._io:
            lower.overlap_extents = overlap
            upper.overlap_extents = UNLIMITED
            self._tree.forget_chains([lower])

    def _push(self, first: int, count: int) -> None:
        lower, upper = self.lower, self.upper
        for state, at, length in state_runs(upper.states(first, count), first):
            if state == ABSENT:
                continue
            if state == WRITTEN:
                lower.add(at, upper.read(at << EXTENT_SHIFT, length << EXTENT_SHIFT))
            else:
                lower.set_states(at, length, ZERO if lower.parent else ABSENT)
                lower.punch(at, length)
            upper.set_states(at, length, ABSENT)
            self._moved_in_pass += length

    def _punch_left(self, first: int, count: int) -> None:
        """After a flush: free the data of extents that left `upper` before it."""
        for state, at, length in state_runs(self.upper.states(first, count), first):
            if state == ABSENT:
                self.upper.punch(at, length)

    def _replace_upper(self) -> None:
        """Move what is left and let `lower` take the place of `upper`, all at once."""
        lower, upper = self.lower, self.upper
        self._flush()
        with lower.flush_lock, upper.flush_lock, self._io:
            position = 0
            while (found := upper.next_stated(position)) is not None:
                position = found - found % CHUNK_EXTENTS
                with self._recoded(position):
                    self._push(position, CHUNK_EXTENTS)
                position += CHUNK_EXTENTS
            if lower.unflushed:
                captured = lower.begin_flush()
                try:
                    lower.sync_data()
                    lower.settle(captured)
                    lower.sync_map()
                except OSError:
                    lower.flush_failed(captured)
                    raise
            entry = self._tree.entry_of(upper)
            with self._catalog.transaction(frees_space=True) as change:
                if entry is not None:
                    change.set_entry_layer(entry.uuid, lower.id)
                change.move_children(upper.id, lower.id)
                change.remove_layer(upper.id)
            self._tree.forget_chains([upper])
            if entry is not None:
                self._tree.rename(entry, lower)
            self._tree.adopt_children(upper, lower)
            self._tree.remove_layer(upper)

    # --- lower into upper -------------------------------------------------------------------

    def _pull_step(self) -> bool:
        first = self._next_step(self.lower, self.upper.overlap_extents)
        if first is None:
            if self._moved_in_pass == 0:
                self._remove_lower()
                return True
            self._begin_pass()
            return False
        self._move(self._pull, first)
        self._flush()
        with self._io:
            self._release_covered(first, _STEP_EXTENTS)
        return False

    def _visible(self, first: int, count: int) -> bytes:
        """States of `lower` as far as they show through the overlap of `upper`."""
        count = min(count, self.upper.overlap_extents - first)
        return self.lower.states(first, count) if count > 0 else b""

    def _pull(self, first: int, count: int) -> None:
        lower, upper = self.lower, self.upper
        below = self._visible(first, count)
        above = upper.states(first, count).ljust(len(below), b"\0")
        self._moved_in_pass += len(below) - below.count(ABSENT)
        needed = bytes(
            state if hidden_by == ABSENT else ABSENT
            for state, hidden_by in zip(below, above, strict=False)
        )
        for state, at, length in state_runs(needed, first):
            if state == ABSENT:
                continue
            if state == WRITTEN:
                upper.add(at, lower.read(at << EXTENT_SHIFT, length << EXTENT_SHIFT))
            else:
                upper.set_states(at, length, ZERO)

    def _release_covered(self, first: int, count: int) -> None:
        """Let go of extents of `lower` that `upper` hides now and would after a power loss."""
        lower, upper = self.lower, self.upper
        below = self._visible(first, count)
        live = upper.states(first, len(below)).ljust(len(below), b"\0")
        stable = upper.stable_states(first, len(below)).ljust(len(below), b"\0")
        covered = bytes(
            bool(state and now and then)
            for state, now, then in zip(below, live, stable, strict=True)
        )
        for is_covered, at, length in state_runs(covered, first):
            if is_covered:
                lower.set_states(at, length, ABSENT)
                lower.punch(at, length)

    def _remove_lower(self) -> None:
        lower, upper = self.lower, self.upper
        overlap = min(lower.overlap_extents, upper.overlap_extents)
        with self._catalog.transaction(frees_space=True) as change:
            change.set_layer(upper.id, lower.parent.id if lower.parent else None, overlap)
            change.remove_layer(lower.id)
        with self._io:
            self._tree.forget_chains([lower])
            self._tree.bypass(lower, upper)
            upper.overlap_extents = overlap
            self._tree.remove_layer(lower)

    # --- both -------------------------------------------------------------------------------

    def _next_step(self, layer: Layer, end: int) -> int | None:
        """Where the next step begins; None at the end of a pass. Raises what a pass ran into."""
        with self._io:
            first = layer.next_stated(self._position)
        if first is None or first >= end:
            if self._disk_full is not None:
                raise self._disk_full
            return None
        first -= first % CHUNK_EXTENTS
        self._position = first + _STEP_EXTENTS
        return first

    def _begin_pass(self) -> None:
        self._position = self._moved_in_pass = 0
        self._passes += 1

    def _move(self, move: Callable[[int, int], None], first: int) -> None:
        """Move one step's extents, or as many as the disk has room for: the rest of the step,
        and other steps, may free some."""
        try:
            for batch in range(first, first + _STEP_EXTENTS, _BATCH_EXTENTS):
                with self._io, self._recoded(batch):
                    move(batch, _BATCH_EXTENTS)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            self._disk_full = exc

    def _flush(self) -> None:
        flush_layers(self._io, lambda: lineage(self.upper))

    @contextmanager
    def _recoded(self, extent: int) -> Iterator[None]:
        """Extents of one chunk change their layer, all or some: what is cached of it is dropped."""
        try:
            yield
        finally:
            for _, chain in self._tree.chains_through(self.lower):
                self._index.forget(chain, extent // CHUNK_EXTENTS)


class Merger:
    """Folds in a thread of its own, which is started when there is first something to do."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._changed = threading.Condition()
        self._queue: list[Layer] = []
        self._postponed: list[Layer] = []
        self._busy = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, candidates: Iterable[Layer]) -> None:
        """Fold those that can be, under the structure lock; and try again what failed before."""
        due = [layer for layer in candidates if self._shared.tree.foldable(layer) is not None]
        with self._changed:
            self._queue += (layer for layer in due if layer not in self._queue)
        self.retry()

    def retry(self) -> None:
        """There may be space again for folds that a full disk made wait."""
        with self._changed:
            self._queue += self._postponed
            self._postponed.clear()
            if self._queue and not self._stopping:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="store-merger", daemon=True
                    )
                    self._thread.start()
                self._changed.notify_all()

    def wait_idle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._queue or self._busy))

    def stop(self) -> None:
        """After the step under way; the next start finds the rest."""
        with self._changed:
            self._stopping = True
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return
                layer = self._queue.pop(0)
                self._busy = True
            try:
                self._fold(layer)
            except OSError as exc:
                with self._changed:
                    self._postponed.append(layer)
                full = exc.errno == errno.ENOSPC
                _LOG.log(
                    logging.INFO if full else logging.ERROR,
                    "Layer %d keeps its space until a later attempt to fold it: %s",
                    layer.id,
                    exc,
                )
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _fold(self, lower: Layer) -> None:
        fold: Fold | None = None
        while not self._stopping:
            with self._shared.structure:
                if fold is None:
                    upper = self._shared.tree.foldable(lower)
                    if upper is None:
                        return
                    fold = Fold(lower, upper, self._shared)
                if not fold.is_due or fold.step():
                    # A lower layer that took the place of its child may have to go on.
                    fold = None
            # A lock that is taken again at once is not given to those who wait for it.
            with self._changed:
                self._changed.wait(_TURN_SECONDS)
