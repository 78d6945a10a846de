# SPDX-License-Identifier: Apache-2.0
"""The tree of layers and the volumes and snapshots that name some of them, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from lightos.lab.store.chain import Chain
from lightos.lab.store.layer import Layer


class Entry:
    """A volume or a snapshot: a name for a layer, with a size. `chain` is made when first used."""

    __slots__ = ("chain", "is_snapshot", "layer", "size_bytes", "uuid")

    def __init__(self, uuid: UUID, layer: Layer, size_bytes: int, *, is_snapshot: bool) -> None:
        self.uuid = uuid
        self.layer = layer
        self.size_bytes = size_bytes
        self.is_snapshot = is_snapshot
        self.chain: Chain | None = None


def lineage(layer: Layer) -> list[Layer]:
    """The layer's ancestors from the bottom up, then itself."""
    layers = [layer]
    while (parent := layers[-1].parent) is not None:
        layers.append(parent)
    layers.reverse()
    return layers


class Tree:
    """Changed only with both the structure and the I/O lock, after the catalog was."""

    def __init__(self) -> None:
        self.layers: dict[int, Layer] = {}
        self.entries: dict[UUID, Entry] = {}
        self._named: set[int] = set()

    def add_layer(self, layer: Layer) -> None:
        self.layers[layer.id] = layer
        if layer.parent is not None:
            layer.parent.children += 1

    def remove_layer(self, layer: Layer) -> None:
        """Forget a layer that has no name and no child, and delete its files."""
        del self.layers[layer.id]
        if layer.parent is not None:
            layer.parent.children -= 1
        layer.remove()

    def name(self, entry: Entry) -> None:
        self.entries[entry.uuid] = entry
        self._named.add(entry.layer.id)

    def unname(self, entry: Entry) -> None:
        del self.entries[entry.uuid]
        self._named.discard(entry.layer.id)

    def rename(self, entry: Entry, layer: Layer) -> None:
        """Let the entry name another layer."""
        self._named.discard(entry.layer.id)
        self._named.add(layer.id)
        entry.layer = layer
        entry.chain = None

    def is_named(self, layer: Layer) -> bool:
        return layer.id in self._named

    def entry_of(self, layer: Layer) -> Entry | None:
        if not self.is_named(layer):
            return None
        return next(entry for entry in self.entries.values() if entry.layer is layer)

    def children(self, layer: Layer) -> Iterator[Layer]:
        return (child for child in self.layers.values() if child.parent is layer)

    def unneeded_from(self, layer: Layer) -> list[Layer]:
        """If `layer` had no name: it and the ancestors that nothing would need, child first."""
        unneeded: list[Layer] = []
        step: Layer | None = layer
        children = layer.children
        while step is not None and children == 0 and (step is layer or not self.is_named(step)):
            unneeded.append(step)
            step = step.parent
            children = step.children - 1 if step is not None else 0
        return unneeded

    def foldable(self, layer: Layer) -> Layer | None:
        """The only child of a layer without a name, if so it is."""
        if layer.id not in self.layers or self.is_named(layer) or layer.children != 1:
            return None
        return next(self.children(layer))

    def adopt_children(self, from_layer: Layer, to_layer: Layer) -> None:
        for child in self.children(from_layer):
            child.parent = to_layer
        to_layer.children += from_layer.children
        from_layer.children = 0

    def bypass(self, lower: Layer, upper: Layer) -> None:
        """Put `upper` on what is under `lower`."""
        upper.parent = lower.parent
        if lower.parent is not None:
            lower.parent.children += 1
        lower.children -= 1

    def chains_through(self, layer: Layer) -> Iterator[tuple[Entry, Chain]]:
        """Every entry that has a chain made, through this layer."""
        for entry in self.entries.values():
            if entry.chain is not None and layer in entry.chain.layers:
                yield entry, entry.chain

    def forget_chains(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            for entry, _ in list(self.chains_through(layer)):
                entry.chain = None
