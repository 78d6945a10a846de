# SPDX-License-Identifier: Apache-2.0
"""What is read of a volume whose written blocks the cluster told, against a plain file."""

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.api.models.snapshots import LbaRange
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import Volume
from lightos.openstack.cinder.sparse import (
    BLOCK_BYTES,
    NotKnown,
    SparseReader,
    Stretch,
    Written,
    check,
    pieces,
    written,
)

BLOCKS = 20
SIZE = BLOCKS * BLOCK_BYTES
FILLER = 0xEE
"""What a device has where nothing was written; nobody may see it."""

runs = st.lists(
    st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, BLOCKS - 1)).map(sorted),
    min_size=1,
    max_size=6,
)


def lba_ranges(found, *, shift=0):
    return [LbaRange(lba_start=start, lba_end=end + shift) for start, end in found]


def blocks_of(found):
    return {block for start, end in found for block in range(start, end + 1)}


@given(runs)
def test_stretches_are_in_order_apart_and_hold_every_block_told(found):
    stretches = written(lba_ranges(found), SIZE).stretches
    assert all(stretch.start < stretch.end <= SIZE for stretch in stretches)
    assert all(a.end < b.start for a, b in pairwise(stretches))
    told = {block * BLOCK_BYTES for block in blocks_of(found)}
    held = {at for stretch in stretches for at in range(*stretch, BLOCK_BYTES)}
    assert held == told


@given(runs)
def test_a_cluster_that_leaves_the_last_block_out_costs_one_block_more(found):
    stretches = written(lba_ranges(found, shift=1), SIZE).stretches
    held = {at // BLOCK_BYTES for stretch in stretches for at in range(*stretch, BLOCK_BYTES)}
    more = {block + 1 for block in blocks_of(found) if block + 1 < BLOCKS}
    assert held == blocks_of(found) | more


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, BLOCKS + 1), (BLOCKS, BLOCKS), (BLOCKS + 1, BLOCKS + 2), (3, 2), (8 * BLOCKS, 9 * BLOCKS)],
)
def test_a_range_that_does_not_fit_the_volume_spoils_the_whole_answer(start, end):
    good = LbaRange(lba_start=1, lba_end=2)
    with pytest.raises(NotKnown, match=f"tells of blocks {start} to {end} of {BLOCKS}"):
        written([good, LbaRange(lba_start=start, lba_end=end)], SIZE)


def test_an_answer_without_ranges_may_be_of_a_cluster_that_knows_nothing():
    with pytest.raises(NotKnown, match="tells of nothing"):
        written([], SIZE)


@given(runs, st.integers(0, SIZE), st.integers(0, SIZE))
def test_pieces_are_the_whole_and_each_is_all_written_or_not_at_all(found, one, other):
    stretches = written(lba_ranges(found), SIZE).stretches
    whole = Stretch(*sorted((one, other)))
    cut = list(pieces(stretches, whole))
    edges = [whole.start, *(piece.end for piece, _ in cut)]
    assert [piece.start for piece, _ in cut] == edges[:-1]
    assert edges[-1] == whole.end
    for piece, is_written in cut:
        assert piece.start < piece.end
        around = [stretch for stretch in stretches if stretch.start < piece.end]
        touched = [stretch for stretch in around if stretch.end > piece.start]
        if is_written:
            assert [s for s in touched if s.start <= piece.start and piece.end <= s.end]
        else:
            assert not touched


class Device(io.BytesIO):
    """Reads may be short, as read(2) has it, and what is never to be read is remembered."""

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:5000])


@given(runs, st.integers(500, SIZE))
def test_it_reads_as_the_volume_does_and_nothing_else_of_the_device(found, length):
    volume, device = bytearray(SIZE), bytearray([FILLER]) * SIZE
    for block in blocks_of(found):
        part = slice(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        volume[part] = device[part] = bytes([block + 1]) * BLOCK_BYTES
    reader = SparseReader(Device(device), written(lba_ranges(found), SIZE))
    read = bytearray()
    while chunk := reader.read(length):
        assert len(chunk) == length or len(read) + len(chunk) == SIZE
        read += chunk
    assert read == volume
    assert reader.read(1) == b""


def test_all_at_once():
    content = Written([Stretch(0, BLOCK_BYTES)], SIZE)
    reader = SparseReader(io.BytesIO(b"x" * SIZE), content)
    assert reader.readall() == b"x" * BLOCK_BYTES + bytes(SIZE - BLOCK_BYTES)


@pytest.mark.parametrize("size", [SIZE - BLOCK_BYTES, SIZE + BLOCK_BYTES])
def test_a_device_of_another_size_is_not_read(size):
    with pytest.raises(OSError, match=f"has {size} bytes here, not {SIZE}"):
        SparseReader(io.BytesIO(bytes(size)), Written([Stretch(0, BLOCK_BYTES)], SIZE))


def test_a_device_that_ends_meanwhile_is_an_error_and_no_short_image():
    device = io.BytesIO(b"x" * SIZE)
    reader = SparseReader(device, Written([Stretch(0, 2 * BLOCK_BYTES)], SIZE))
    device.truncate(BLOCK_BYTES)
    with pytest.raises(OSError, match=f"ends before its {SIZE} bytes"):
        reader.readall()


FINE = {"sector_size_bytes": 4096, "acl": (ALLOW_NONE,)}


def test_a_volume_whose_written_blocks_can_be_known():
    check(Volume(**FINE))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"acl": ("nqn.a", "nqn.b")}, "hosts have access to it: nqn.a, nqn.b"),
        ({"acl": ("ALLOW_ANY",)}, "hosts have access to it: ALLOW_ANY"),
        ({"sector_size_bytes": 512}, "its sectors have 512 bytes, not 4096"),
        ({"sector_size_bytes": 0}, "its sectors have 0 bytes, not 4096"),
    ],
)
def test_volumes_whose_written_blocks_cannot_be_known(values, reason):
    with pytest.raises(NotKnown, match=reason):
        check(Volume(**FINE | values))
