# SPDX-License-Identifier: Apache-2.0
"""The benchmark at work, as small as it can be: both drivers, one lab, one round."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cinder import operations, throughput
from bench.cinder.side import OPERATIONS_PER_LIFE, BenchLab, Side, both, lab
from bench.report import keep, read
from bench.sides import OURS

TRANSITION_SECONDS = 0.05


@pytest.fixture(scope="module")
def on() -> Iterator[BenchLab]:
    with lab(TRANSITION_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def sides(on: BenchLab) -> Iterator[dict[str, Side]]:
    with both(on) as started:
        yield started


def nobody(_what: str) -> None:
    pass


def test_a_round_times_and_counts_every_operation(
    on: BenchLab, sides: dict[str, Side], tmp_path: Path
) -> None:
    rows = operations.measure_at(TRANSITION_SECONDS, on, sides, nobody, range(-1, 1))
    assert {row["operation"] for row in rows} == {
        *operations.LIMITS,
        *("extend", "delete_snapshot", "delete_volume"),
    }
    for row in rows:
        assert row["ours_s"]["min"] > TRANSITION_SECONDS  # waited for, whatever it was
        assert row["ours_calls"]["min"] >= 2
        assert row["ours_tls"]["max"] == 0
        assert row["incumbent_tls"]["min"] == row["incumbent_calls"]["min"]  # it keeps none
    kept = tmp_path / "cinder.json"
    keep(operations.PART, {"rows": rows}, 1, kept, "cinder")
    document = read(kept)
    assert document["rows"] == rows
    assert [len(grid.rows) for grid in operations.PART.grids(document)] == [len(rows)]
    assert operations.PART.goals(document)


def test_a_turn_of_many_threads_is_the_same_mix_of_operations_on_both_sides(
    on: BenchLab, sides: dict[str, Side]
) -> None:
    sides[OURS].do("warm_up", threads=2)
    turns = {name: throughput.take_turn(on, side, threads=2) for name, side in sides.items()}
    found = {name: throughput.figures([turn]) for name, turn in turns.items()}
    for each in found.values():
        assert each["mix"] == {
            **dict.fromkeys(("create", "extend", "snapshot", "clone", "delete_snapshot"), 2),
            **dict.fromkeys(("attach", "detach", "delete_volume"), 4),
        }
        assert each["operations"] == 2 * OPERATIONS_PER_LIFE
        assert each["calls_per_operation"] >= 2
