# SPDX-License-Identifier: Apache-2.0
"""The files of all layers, with a bounded number of them open at a time."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path

_SUFFIXES = ("data", "map")
DATA, MAP = range(2)


class LayerFiles:
    """`<layer id>.data` and `<layer id>.map` in one directory, opened when first used.

    The least recently used descriptor is closed when `limit` are open. Not thread-safe: a
    descriptor is good until the next call, so the caller holds the store's I/O lock meanwhile.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self._limit = limit
        self._open: OrderedDict[int, int] = OrderedDict()

    def path(self, layer_id: int, kind: int) -> Path:
        return self.directory / f"{layer_id}.{_SUFFIXES[kind]}"

    def fd(self, layer_id: int, kind: int) -> int:
        """An open descriptor. Raises FileNotFoundError if the layer has no files."""
        key = layer_id << 1 | kind
        fd = self._open.get(key)
        if fd is None:
            return self._add(key, self.path(layer_id, kind), os.O_RDWR)
        self._open.move_to_end(key)
        return fd

    def create(self, layer_id: int) -> None:
        """Make both files, empty, whatever a creation that was not committed left there."""
        for kind in (DATA, MAP):
            key = layer_id << 1 | kind
            self._forget(key)
            self._add(key, self.path(layer_id, kind), os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def remove(self, layer_id: int) -> None:
        for kind in (DATA, MAP):
            self._forget(layer_id << 1 | kind)
            with contextlib.suppress(FileNotFoundError):
                self.path(layer_id, kind).unlink()

    def stored_layers(self) -> set[int]:
        """Ids of layers that have a file here, whether or not the catalog knows them."""
        names = (name.partition(".") for name in os.listdir(self.directory))
        return {int(stem) for stem, _, suffix in names if stem.isdecimal() and suffix in _SUFFIXES}

    def complete(self, layer_id: int) -> None:
        """Make the file that is missing if the process ended between the two of `create`."""
        for kind in (DATA, MAP):
            self.path(layer_id, kind).touch(0o600)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _forget(self, key: int) -> None:
        fd = self._open.pop(key, None)
        if fd is not None:
            os.close(fd)

    def _add(self, key: int, path: Path, flags: int) -> int:
        while len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self._open[key] = fd
        return fd
