# SPDX-License-Identifier: Apache-2.0
"""The one part of `make bench-host`: all that is measured on one host, its goals and its tables."""

from __future__ import annotations

from pathlib import Path

from bench.charts import Bars, save, side_by_side
from bench.host import announced, at_once, one_at_a_time
from bench.host.bed import bed
from bench.part import Goal, Grid, Note, Part, Result, at_least, at_most, milliseconds, number
from bench.report import Benchmark

TIMES_FASTER = 5
COMPARED = (
    one_at_a_time.FIRST_ATTACH,
    one_at_a_time.WAITING_ATTACH,
    one_at_a_time.DETACH,
    one_at_a_time.DETACH_TO_GONE,
    at_once.ATTACH,
)
"""What should be so many times faster than with the incumbent.

Not the attach of another volume, whose device may or may not be there when it is called: either
the incumbent pauses for a second, or nobody waits for anything.
"""
ABSENT_SECONDS = 2
ANNOUNCED_SECONDS = 1


def measure(note: Note) -> Result:
    note("starting a host and a cluster")
    with bed() as made:
        one = one_at_a_time.measure(made, note)
        many = at_once.measure(made, note)
        return {
            "rows": [*one, *many["rows"]],
            "ghosts": many["ghosts"],
            "announced": announced.measure(made, note),
        }


def goals(result: Result) -> list[Goal]:
    rows = {row["operation"]: row for row in result["rows"]}
    absent = (one_at_a_time.ABSENT_DETACH, one_at_a_time.ABSENT_FORCED_DETACH)
    return [
        *(
            at_least(f"{each}: against the incumbent", rows[each]["ratio"], TIMES_FASTER, "x")
            for each in COMPARED
        ),
        *(at_most(each, rows[each]["ours_s"]["max"], ABSENT_SECONDS, "s") for each in absent),
        at_most("left on the host afterwards", result["ghosts"]["ours"], 0, "devices or files"),
        at_most(
            "node announced, to connected",
            result["announced"]["seconds"]["max"],
            ANNOUNCED_SECONDS,
            "s",
        ),
    ]


def grids(result: Result) -> list[Grid]:
    head = ["what", "ours ms", "incumbent ms", "times faster", "rounds"]
    rows = [
        [
            row["operation"],
            milliseconds(row["ours_s"]),
            milliseconds(row["incumbent_s"]),
            number(row["ratio"]),
            f"{row['ours_rounds']} / {row['incumbent_rounds']}",
        ]
        for row in result["rows"]
    ]
    seen = result["announced"]
    alone = [["a node announced, to connected", milliseconds(seen["seconds"]), f"{seen['rounds']}"]]
    return [
        Grid("On one host: median (min-max)", head, rows),
        Grid("The discovery client alone", ["what", "ms", "rounds"], alone),
    ]


def draw(document: Result, folder: Path) -> None:
    bars = [
        Bars(
            row["operation"],
            row["ours_s"]["median"],
            row["incumbent_s"]["median"],
            row["incumbent_s"]["median"] / TIMES_FASTER if row["operation"] in COMPARED else None,
        )
        for row in document["rows"]
    ]
    save([side_by_side("On one host", bars, logarithmic=True)], folder / "host.svg", width_inches=9)


PART = Part("host", "attach and detach on a kernel host", 9, measure, goals, grids)
BENCHMARK = Benchmark("host", "os-brick", [PART], draw)
