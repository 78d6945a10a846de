# SPDX-License-Identifier: Apache-2.0
"""Which layer of a chain holds each extent, kept in memory for the parts that are in use.

With this a read costs the same at any depth: one look-up and one pread(2) for each run of
extents in one layer. It is a cache of the layers' maps and can be dropped at any time.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Iterator

from lightos.lab.store.layer import (
    ABSENT,
    CHUNK_EXTENTS,
    UNLIMITED,
    WRITTEN,
    Layer,
    state_runs,
)

NOWHERE = 0
"""Code of an extent that no layer holds: it reads as zeroes."""

_RUNS = re.compile(rb"(..)\1*", re.DOTALL)
_CHUNK_BITS = 40
_ALL_NOWHERE = bytes(2 * CHUNK_EXTENTS)


def code_runs(codes: array[int]) -> Iterator[tuple[int, int, int]]:
    """`(code, first, count)` of each run of equal codes."""
    for match in _RUNS.finditer(codes.tobytes()):
        begin, end = match.span()
        yield codes[begin >> 1], begin >> 1, (end - begin) >> 1


def different_runs(
    codes: array[int], base_codes: array[int], shared_code: int, first: int
) -> Iterator[tuple[int, int]]:
    """`(first extent, count)` of each run that two chains do not read from the same place.

    `shared_code` is `Chain.shared_code` of the two; `first` numbers the first extent.
    """
    different = bytes(
        code != base_code or code > shared_code
        for code, base_code in zip(codes, base_codes, strict=True)
    )
    for is_different, at, count in state_runs(different, first):
        if is_different:
            yield at, count


class Chain:
    """The layers that one volume or snapshot reads from.

    A layer's code is its place in the chain counted from the bottom, from 1, so that a new
    layer on top leaves the codes of the others, and what is cached with them, as they are.
    """

    __slots__ = ("_visible", "key", "layers", "top", "top_code")

    def __init__(self, top: Layer, key: int) -> None:
        layers = [top]
        visible = [UNLIMITED]
        while (parent := layers[-1].parent) is not None:
            visible.append(min(visible[-1], layers[-1].overlap_extents))
            layers.append(parent)
        self.key = key
        self.top = top
        self.top_code = len(layers)
        self.layers = tuple(reversed(layers))
        self._visible = tuple(reversed(visible))

    def read_codes(self, chunk: int) -> array[int]:
        """Work out a chunk's codes from the maps, one pread(2) for each layer."""
        codes = array("H", _ALL_NOWHERE)
        start = chunk * CHUNK_EXTENTS
        for index, layer in enumerate(self.layers):
            count = min(CHUNK_EXTENTS, self._visible[index] - start)
            if count <= 0 or not layer.stored:
                continue
            for state, first, length in state_runs(layer.states(start, count)):
                if state != ABSENT:
                    code = index + 1 if state == WRITTEN else NOWHERE
                    codes[first : first + length] = array("H", (code,)) * length
        return codes

    def shared_code(self, other: Chain) -> int:
        """The codes from NOWHERE up to this one mean the same in both chains."""
        pairs = zip(self.layers, other.layers, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))

    def next_stated(self, first: int) -> int:
        """An extent at or after `first` before which no layer holds anything (or UNLIMITED)."""
        found = (layer.next_stated(first) for layer in self.layers)
        return min((extent for extent in found if extent is not None), default=UNLIMITED)


class ChainIndex:
    """The codes of the chunks in use, of all chains; the oldest are dropped beyond `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: dict[int, array[int]] = {}
        self._last_key = 0

    def chain(self, top: Layer) -> Chain:
        """A chain as it is now. Codes cached for an earlier one of the same top are not used."""
        self._last_key += 1
        return Chain(top, self._last_key << _CHUNK_BITS)

    def extended(self, chain: Chain, top: Layer) -> Chain:
        """The chain with a new, empty layer on top, which keeps what is cached."""
        return Chain(top, chain.key)

    def codes(self, chain: Chain, chunk: int) -> array[int]:
        """The chunk's codes; whoever changes the top layer's map changes them with it."""
        key = chain.key | chunk
        codes = self._chunks.get(key)
        if codes is None:
            codes = chain.read_codes(chunk)
            if len(self._chunks) >= self._limit:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[key] = codes
        return codes

    def cached(self, chain: Chain) -> Iterator[tuple[int, array[int]]]:
        """`(chunk, codes)` of all that is kept of one chain."""
        for key, codes in self._chunks.items():
            if key >> _CHUNK_BITS == chain.key >> _CHUNK_BITS:
                yield key & ((1 << _CHUNK_BITS) - 1), codes

    def forget(self, chain: Chain, chunk: int) -> None:
        self._chunks.pop(chain.key | chunk, None)
