# SPDX-License-Identifier: Apache-2.0
"""The instance's program: what it has on disk, and how its data is judged."""

import struct

import pytest

from testbed.cloud.boot_sector import (
    PLACES,
    SECTOR_BYTES,
    Area,
    Progress,
    boot_sector,
    wrong_sectors,
)


def written(counter: int) -> bytearray:
    """An area's data after so many writes."""
    data = bytearray(PLACES * SECTOR_BYTES)
    for value in range(1, counter + 1):
        put(data, value % PLACES, value)
    return data


def put(data: bytearray, place: int, value: int) -> None:
    start = place * SECTOR_BYTES
    data[start : start + SECTOR_BYTES] = struct.pack("<I", value) * (SECTOR_BYTES // 4)


def test_it_is_a_boot_sector_that_knows_its_area() -> None:
    first, second = boot_sector(Area()), boot_sector(Area(1))
    assert len(first) == len(second) == SECTOR_BYTES
    assert first.endswith(b"\x55\xaa")
    assert struct.unpack_from("<II", first, 0x1F4) == (8, 256)
    assert struct.unpack_from("<II", second, 0x1F4) == (16, 512)


def test_progress_is_read() -> None:
    sector = struct.pack("<4sIII", b"LTOS", 7, 1, 2048).ljust(SECTOR_BYTES, b"\0")
    assert Progress.parse(sector) == Progress(counter=7, errors=1, size_bytes=1 << 20)
    with pytest.raises(ValueError, match="no instance"):
        Progress.parse(bytes(SECTOR_BYTES))


@pytest.mark.parametrize("counter", [0, 1, 100, 255, 256, 257, 1000])
def test_all_that_was_written_is_right_with_or_without_the_write_under_way(counter: int) -> None:
    assert wrong_sectors(counter, written(counter)) == []
    assert wrong_sectors(counter, written(counter + 1)) == []


@pytest.mark.parametrize("counter", [5, 300, 1000])
def test_a_write_that_is_missing_or_torn_is_found(counter: int) -> None:
    data = written(counter)
    put(data, counter % PLACES, max(0, counter - PLACES))
    assert wrong_sectors(counter, data) == [counter % PLACES]
    torn = written(counter)
    torn[(counter % PLACES) * SECTOR_BYTES] ^= 1
    assert wrong_sectors(counter, torn) == [counter % PLACES]
