# SPDX-License-Identifier: Apache-2.0
"""What `ThinStore.verify` checks."""

from __future__ import annotations

from collections.abc import Iterator

from lightos.lab.store.catalog import Catalog
from lightos.lab.store.chain import ChainIndex
from lightos.lab.store.files import DATA, MAP, LayerFiles
from lightos.lab.store.layer import EXTENT_BYTES, WRITTEN, Layer
from lightos.lab.store.sparse import next_data
from lightos.lab.store.tree import Entry, Tree

_BLOCK_EXTENTS = 4096
_STATE_BYTES = bytes(live | stable << 2 for live in range(3) for stable in range(3))


def problems(catalog: Catalog, files: LayerFiles, tree: Tree, index: ChainIndex) -> list[str]:
    """Everything found wrong, under both locks of the store."""
    return [
        *catalog.integrity_problems(),
        *_catalog_problems(catalog, tree),
        *_tree_problems(files, tree),
        *(text for layer in tree.layers.values() for text in _layer_problems(layer, files)),
        *(text for entry in tree.entries.values() for text in _entry_problems(entry, index)),
    ]


def _catalog_problems(catalog: Catalog, tree: Tree) -> Iterator[str]:
    rows = {
        (layer.id, layer.parent.id if layer.parent else None, layer.overlap_extents)
        for layer in tree.layers.values()
    }
    for row in rows.symmetric_difference(catalog.layers()):
        yield f"layer {row[0]} is {row} on one side only of catalog and memory"
    entries = {
        (entry.uuid, entry.is_snapshot, entry.size_bytes, entry.layer.id)
        for entry in tree.entries.values()
    }
    for entry_row in entries.symmetric_difference(catalog.entries()):
        yield f"{entry_row[0]} is {entry_row} on one side only of catalog and memory"


def _tree_problems(files: LayerFiles, tree: Tree) -> Iterator[str]:
    stored = files.stored_layers()
    for layer in tree.layers.values():
        if layer.stored != (layer.id in stored):
            yield f"layer {layer.id}: files exist: {not layer.stored}, expected: {layer.stored}"
        children = sum(1 for _ in tree.children(layer))
        if children != layer.children:
            yield f"layer {layer.id} counts {layer.children} children, has {children}"
        if children == 0 and not tree.is_named(layer):
            yield f"layer {layer.id} has neither name nor child"
        if layer.parent is not None and layer.parent.id >= layer.id:
            yield f"layer {layer.id} is older than its parent {layer.parent.id}"
    for orphan in stored - tree.layers.keys():
        yield f"files of layer {orphan} belong to no one"


def _layer_problems(layer: Layer, files: LayerFiles) -> Iterator[str]:
    if not layer.stored:
        return
    map_path, data_path = files.path(layer.id, MAP), files.path(layer.id, DATA)
    written_extents = data_path.stat().st_size // EXTENT_BYTES
    with map_path.open("rb", buffering=0) as map_file:
        position = 0
        while (first := next_data(map_file.fileno(), position)) is not None:
            map_file.seek(first)
            states = map_file.read(_BLOCK_EXTENTS)
            if states.translate(None, _STATE_BYTES):
                yield f"{map_path} has bytes near {first} that are no states"
            last = bytes(byte & 3 for byte in states).rfind(WRITTEN)
            if last >= 0 and first + last >= written_extents:
                yield f"{map_path} says extent {first + last} is written, {data_path} is shorter"
            position = first + len(states)


def _entry_problems(entry: Entry, index: ChainIndex) -> Iterator[str]:
    if entry.chain is None:
        return
    if entry.chain.top is not entry.layer:
        yield f"{entry.uuid} reads through a chain that is not its own"
    for chunk, codes in index.cached(entry.chain):
        if codes != entry.chain.read_codes(chunk):
            yield f"{entry.uuid}: cached codes of chunk {chunk} differ from the maps"
