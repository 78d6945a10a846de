# SPDX-License-Identifier: Apache-2.0
"""Which blocks of snapshots differ, on the real store."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from lightos.api.models.snapshots import ChangedBlocks
from lightos.lab import changed_blocks as module
from lightos.lab.changed_blocks import RANGES_PER_PAGE, changed_blocks
from lightos.lab.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from tests.unit.lab.harness import GIB, Harness

BLOCK = 4096
Ranges = list[tuple[int, int]]


def page(
    lab: Harness, key: UUID | str, base: UUID | str | None = None, offset_lba: int = 0
) -> ChangedBlocks:
    comparison = lab.cluster.snapshots.compare("default", key, base, offset_lba)
    return changed_blocks(lab.store, comparison)


def ranges(found: ChangedBlocks) -> Ranges:
    return [(each.lba_start, each.lba_end) for each in found.ranges]


def write(lab: Harness, uuid: UUID, first: int, count: int = 1, block: int = BLOCK) -> None:
    lab.store.write(uuid, first * block, b"x" * (count * block))


def test_all_that_a_snapshot_holds(lab: Harness) -> None:
    volume = lab.ready_volume()
    last = GIB // BLOCK - 1
    write(lab, volume.uuid, 0)
    write(lab, volume.uuid, 1000, 5000)
    write(lab, volume.uuid, last)
    lab.store.deallocate(volume.uuid, 2000 * BLOCK, BLOCK)
    snapshot = lab.ready_snapshot(volume)
    write(lab, volume.uuid, 50)
    expected = [(0, 0), (1000, 1999), (2001, 5999), (last, last)]
    for key in (snapshot.uuid, "snap"):
        found = page(lab, key)
        assert ranges(found) == expected
        assert found.next_offset_lba == 0
        assert all(each.data_bitmap == b"" for each in found.ranges)


def test_nothing_was_written(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.ready_snapshot(volume)
    assert page(lab, "snap") == ChangedBlocks()


def test_the_offset_is_rounded_down_to_a_multiple_of_64(lab: Harness) -> None:
    volume = lab.ready_volume()
    write(lab, volume.uuid, 0, 256)
    lab.ready_snapshot(volume)
    for offset, first in ((63, 0), (64, 64), (127, 64), (200, 192)):
        assert ranges(page(lab, "snap", offset_lba=offset)) == [(first, 255)]


def test_a_block_is_a_sector_of_the_volume(lab: Harness) -> None:
    volume = lab.ready_volume(sector_size_bytes=512)
    write(lab, volume.uuid, 8, 1, block=512)
    lab.ready_snapshot(volume)
    assert ranges(page(lab, "snap")) == [(8, 15)]


def test_two_snapshots_of_a_volume(lab: Harness) -> None:
    volume = lab.ready_volume()
    write(lab, volume.uuid, 0, 10)
    earlier = lab.ready_snapshot(volume, "earlier")
    write(lab, volume.uuid, 3)
    lab.store.deallocate(volume.uuid, 7 * BLOCK, BLOCK)
    lab.update(volume.uuid, size_bytes=2 * GIB)
    lab.wait()
    write(lab, volume.uuid, GIB // BLOCK)
    later = lab.ready_snapshot(volume, "later")
    grown = GIB // BLOCK
    assert ranges(page(lab, later.uuid, earlier.uuid)) == [(3, 3), (7, 7), (grown, grown)]
    assert ranges(page(lab, "earlier", "later")) == [(3, 3), (7, 7)]


def test_what_a_clone_has_of_its_origin_is_its_snapshots_own(lab: Harness) -> None:
    volume = lab.ready_volume()
    write(lab, volume.uuid, 0, 10)
    origin = lab.ready_snapshot(volume, "origin")
    clone = lab.ready_volume("clone", source_snapshot=origin.uuid)
    write(lab, clone.uuid, 100)
    lab.store.deallocate(clone.uuid, 0, BLOCK)
    before = lab.ready_snapshot(clone, "before")
    write(lab, clone.uuid, 200)
    after = lab.ready_snapshot(clone, "after")
    assert ranges(page(lab, after.uuid)) == [(1, 9), (100, 100), (200, 200)]
    assert ranges(page(lab, after.uuid, before.uuid)) == [(200, 200)]


def test_pages_are_bounded_and_together_hold_all(lab: Harness) -> None:
    volume = lab.ready_volume()
    for block in range(0, 6 * RANGES_PER_PAGE, 2):
        write(lab, volume.uuid, block)
    lab.ready_snapshot(volume)
    pages = [page(lab, "snap")]
    while offset := pages[-1].next_offset_lba:
        pages.append(page(lab, "snap", offset_lba=offset))
    assert [len(each.ranges) for each in pages] == [RANGES_PER_PAGE] * 3 + [0]
    found = [piece for each in pages for piece in ranges(each)]
    assert found == [(block, block) for block in range(0, 6 * RANGES_PER_PAGE, 2)]


def test_a_page_also_ends_after_so_much_that_was_looked_at(
    lab: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECES_PER_PAGE", 2)
    volume = lab.ready_volume()
    write(lab, volume.uuid, 0, 5 * 1024)
    lab.ready_snapshot(volume)
    pages = [page(lab, "snap")]
    while offset := pages[-1].next_offset_lba:
        pages.append(page(lab, "snap", offset_lba=offset))
    assert [ranges(each) for each in pages[:3]] == [[(0, 2047)], [(2048, 4095)], [(4096, 5119)]]
    assert all(a.next_offset_lba < b.next_offset_lba for a, b in pairwise(pages[:-1]))


def test_what_is_refused(lab: Harness) -> None:
    volume = lab.ready_volume()
    snapshot = lab.ready_snapshot(volume)
    other = lab.ready_snapshot(lab.ready_volume("other"), "other")
    with pytest.raises(InvalidArgument, match="only snapshots of one volume"):
        page(lab, snapshot.uuid, other.uuid)
    with pytest.raises(InvalidArgument, match="offsetLBA 262144 is beyond the 262144 blocks"):
        page(lab, snapshot.uuid, offset_lba=GIB // BLOCK)
    for key, base in ((uuid4(), None), ("nothing", None), (snapshot.uuid, "nothing")):
        with pytest.raises(NotFound):
            page(lab, key, base)
    young = lab.snapshot(volume, "young")
    with pytest.raises(FailedPrecondition, match="must be Available"):
        page(lab, young.uuid)


def test_a_snapshot_that_is_deleted_while_it_is_looked_through(lab: Harness) -> None:
    snapshot = lab.ready_snapshot(lab.ready_volume())
    comparison = lab.cluster.snapshots.compare("default", snapshot.uuid, None, 0)
    lab.delete_snapshot(snapshot.uuid)
    lab.wait()
    with pytest.raises(NotFound, match="deleted meanwhile"):
        changed_blocks(lab.store, comparison)


def test_a_disk_that_fails(lab: Harness, tmp_path: Path) -> None:
    volume = lab.ready_volume()
    write(lab, volume.uuid, 0)
    lab.ready_snapshot(volume)
    lab.restart()
    for file in (tmp_path / "blocks" / "layers").glob("*.map"):
        file.unlink()
    with pytest.raises(Internal, match="cannot read what snapshot snap holds"):
        page(lab, "snap")
