# SPDX-License-Identifier: Apache-2.0
"""What the benchmark makes of figures: goals, tables and reckonings, without measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.cinder import images, locks, operations, projection
from bench.cinder.side import Traffic
from bench.host import benchmark as host
from bench.host import one_at_a_time
from bench.part import at_least, at_most, number, percentile, spread
from bench.sides import INCUMBENT, OURS
from testbed.cluster import GIB


def row(operation: str, transition: float, ours_ms: float, **others: Any) -> dict[str, Any]:
    one = spread([1.0])
    figures = {
        "operation": operation,
        "transition_s": transition,
        "ours_s": spread([ours_ms / 1000]),
        "incumbent_s": spread([1.2]),
        "ratio": round(1200 / ours_ms, 2),
        "ours_calls": spread([3]),
        "incumbent_calls": one,
        "ours_tls": spread([0]),
        "incumbent_tls": one,
    }
    return {**figures, **others}


def words(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {goal.what: goal.word for goal in operations.goals({"rows": rows})}


def test_an_operation_may_take_the_transition_and_a_little() -> None:
    assert words([row("create", 0.3, 375)])["create, T = 0.3 s"] == "met"
    assert words([row("create", 0.3, 376)])["create, T = 0.3 s"] == "missed"
    assert words([row("clone", 0.05, 175)])["clone, T = 0.05 s"] == "met"
    assert words([row("clone", 0.05, 176)])["clone, T = 0.05 s"] == "missed"


def test_only_at_the_long_transition_it_is_compared_with_the_incumbent() -> None:
    assert words([row("attach", 0.3, 350)])["attach, T = 0.3 s, against the incumbent"] == "missed"
    assert words([row("attach", 0.3, 340)])["attach, T = 0.3 s, against the incumbent"] == "met"
    assert not any("against" in what for what in words([row("attach", 0.05, 80)]))


def test_an_attach_may_take_three_calls_and_no_new_connection() -> None:
    wanting = row("attach", 0.05, 80, ours_calls=spread([3, 4, 4]), ours_tls=spread([0, 0, 1]))
    found = words([wanting])
    assert found["attach, T = 0.05 s: REST calls"] == "missed"
    assert found["any operation: new TLS connections once warm"] == "missed"


def test_what_the_incumbent_does_not_wait_for_is_no_goal() -> None:
    assert list(words([row("extend", 0.3, 900)])) == [
        "any operation: new TLS connections once warm"
    ]


def test_traffic_between_two_looks_names_only_what_grew() -> None:
    before = Traffic({"GetVolume": 2, "GetCluster": 1}, 3, 100, 10)
    after = Traffic({"GetVolume": 5, "GetCluster": 1}, 4, 150, 10)
    seen = after.since(before)
    assert seen == Traffic({"GetVolume": 3}, 1, 50, 0)
    assert seen.total == 3


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1.0), (50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0)]
)
def test_percentiles(percent: float, value: float) -> None:
    assert percentile(map(float, range(100, 0, -1)), percent) == value


def test_goals_say_what_was_wanted_and_what_was_measured() -> None:
    assert at_most("start", 0.8123, 1, "s").measured == "0.812 s"
    assert not at_least("rate", 7.9, 8, "x").met
    assert [number(value) for value in (3.0, 2.345, 1234.5)] == ["3", "2.35", "1,234"]


def test_the_large_cloud_costs_what_its_operations_and_statistics_cost() -> None:
    rows = [row(operation, 0.3, 320) for operation in projection.PER_VOLUME_AND_DAY]
    statistics = {OURS: {"statistics_calls": 1}, INCUMBENT: {"statistics_calls": 0}}
    document = {"rows": rows, "many_volumes": {"rows": [statistics]}}
    ours, incumbent = (
        [line for line in projection.load(document).rows if line[0] == name]
        for name in (OURS, INCUMBENT)
    )
    average = projection.operations_per_second()
    assert ours[0][2] == number(average)
    assert ours[1][3] == number(3 * average * projection.PEAK)
    assert (ours[0][4], ours[0][5]) == (number(10 / 60), "0")
    assert incumbent[0][5] == number(average)


def test_an_api_server_is_counted_by_what_mixed_operations_cost_the_lab() -> None:
    """Half a core for 150 operations of 3.5 calls each: 1,050 calls a second on a whole one."""
    rows = [row(operation, 0.3, 320) for operation in projection.PER_VOLUME_AND_DAY]
    document = {
        "rows": rows,
        "throughput": {OURS: {"per_second": 150, "calls_per_operation": 3.5, "lab_cores": 0.5}},
        "many_volumes": {"rows": [{"volumes": 10_000, OURS: {"list_s": 3.0}}]},
        "scaling": {
            "threads": [{"per_second": 120}],
            "hosts": [{"attachments": 100_000, "first_attach_s": 0.3}],
        },
    }
    (server,) = (line for line in projection.limits(document).rows if "API server" in line[0])
    calls = 3 * projection.operations_per_second() * projection.PEAK
    assert server[1:] == ["1,050 calls/s", f"{number(calls)} calls/s", f"{calls / 1050:.0%}"]


def test_each_place_of_the_locks_is_a_row() -> None:
    times = {"attach_s": spread([0.06, 0.07, 0.08]), "detach_s": spread([0.05])}
    rows = [{"locks": name, **times} for name in (locks.FILES, "etcd")]
    (grid,) = locks.grids({"locks": {"transition_s": 0.05, "rows": rows}})
    assert grid.rows == [[name, "70 (60-80)", "50 (50-50)"] for name in (locks.FILES, "etcd")]


def image_row(operation: str, driver: str, read: int, written: int) -> dict[str, Any]:
    figures = {"seconds": 30.0, "read_bytes": read, "written_bytes": written}
    return {"operation": operation, "driver": driver, **figures}


def test_an_image_may_move_the_data_and_a_twentieth_more() -> None:
    much, little = 4 * GIB, GIB + GIB // 25
    rows = [
        image_row(images.UPLOAD, images.SPARSE, little, 0),
        image_row(images.DOWNLOAD, OURS, 0, much),
        image_row(images.DOWNLOAD, images.SPARSE, 0, little),
        image_row(images.UPLOAD, INCUMBENT, much, 0),
    ]
    result = {"images": {"size_gib": 4, "data_bytes": GIB, "rows": rows}}
    assert [(goal.measured, goal.word) for goal in images.goals(result)] == [
        ("1.04 GiB", "met"),
        ("4 GiB", "missed"),
        ("1.04 GiB", "met"),
    ]
    (grid,) = images.grids(result)
    assert list(grid.rows[-1]) == [images.UPLOAD, INCUMBENT, "30", "4", "0"]


def test_the_data_of_an_image_lies_in_pieces_that_do_not_meet() -> None:
    content = images.scattered("seed", GIB, GIB // 4)
    assert sum(map(len, content.pieces.values())) == GIB // 4
    assert {len(piece) for piece in content.pieces.values()} == {images.PIECE_BYTES}
    assert all(start % images.PIECE_BYTES == 0 for start in content.pieces)
    assert max(content.pieces) < GIB


def compared(operation: str, ours_s: list[float], incumbent_s: float) -> dict[str, Any]:
    return one_at_a_time.row(operation, {OURS: ours_s, INCUMBENT: [incumbent_s]})


def host_result(**others: Any) -> dict[str, Any]:
    absent = (one_at_a_time.ABSENT_DETACH, one_at_a_time.ABSENT_FORCED_DETACH)
    return {
        "rows": [
            *(compared(each, [0.1, 0.2, 0.3], 1.0) for each in host.COMPARED),
            *(compared(each, [0.1, 1.9], 60.0) for each in absent),
        ],
        "ghosts": {OURS: 0, INCUMBENT: 3},
        "announced": {"seconds": spread([0.5, 0.9]), "rounds": 2},
        **others,
    }


def test_the_connector_is_to_be_five_times_as_fast_and_to_leave_nothing() -> None:
    result = host_result()
    assert {goal.word for goal in host.goals(result)} == {"met"}
    result["rows"][0] = compared(host.COMPARED[0], [0.21], 1.0)
    slow = host_result(
        rows=result["rows"],
        ghosts={OURS: 1, INCUMBENT: 0},
        announced={"seconds": spread([0.5, 1.1]), "rounds": 2},
    )
    missed = [goal.what for goal in host.goals(slow) if not goal.met]
    assert missed == [
        f"{host.COMPARED[0]}: against the incumbent",
        "left on the host afterwards",
        "node announced, to connected",
    ]


def test_every_row_of_the_host_is_shown_and_drawn(tmp_path: Path) -> None:
    result = host_result()
    compared_rows, alone = host.grids(result)
    assert len(compared_rows.rows) == len(result["rows"])
    assert alone.rows == [["a node announced, to connected", "700 (500-900)", "2"]]
    host.draw(result, tmp_path)
    assert "incumbent" in (tmp_path / "host.svg").read_text()
