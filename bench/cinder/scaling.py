# SPDX-License-Identifier: Apache-2.0
"""How our driver goes on: more threads, more processes, more hosts; and what a large cloud costs.

The curve over volumes is that of `many_volumes`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench.cinder.processes import cpu_seconds
from bench.cinder.side import BenchLab, Side, lab, side
from bench.part import Goal, Grid, Note, Part, Result, number, percentile
from bench.sides import OURS

TRANSITION_SECONDS = 0.05
THREADS = (1, 4, 16, 64)
PROCESSES = (1, 2, 4)
THREADS_PER_PROCESS = 16
LIVES = 3
"""Whole ones, in each thread: however many threads there are, they do the same mix."""
HOSTS = (0, 20, 200, 2000)
VOLUMES_PER_HOST = 50
ATTACHES = 7


def measure(note: Note) -> Result:
    with lab(TRANSITION_SECONDS) as on:
        threads = []
        with side(OURS, on) as one:
            one.do("warm_up", threads=max(THREADS))
            for count in THREADS:
                note(f"{count} threads")
                threads.append({"threads": count, **together(on, [one], count)})
        processes = []
        for count in PROCESSES:
            note(f"{count} processes")
            with ExitStack() as stack:
                sides = [stack.enter_context(side(OURS, on)) for _ in range(count)]
                for each in sides:
                    each.do("warm_up", threads=THREADS_PER_PROCESS)
                done = together(on, sides, THREADS_PER_PROCESS)
            processes.append({"processes": count, **done})
        with side(OURS, on) as one:
            hosts = list(over_hosts(one, note))
    scaling = {"threads": threads, "processes": processes, "hosts": hosts}
    return {"scaling": {"transition_s": TRANSITION_SECONDS, **scaling}}


def together(on: BenchLab, sides: list[Side], threads: int) -> dict[str, Any]:
    """All of them at work at once, each with so many threads."""
    lab_busy = cpu_seconds(on.info["pid"])
    for each in sides:
        each.begin("many", threads=threads, lives=LIVES)
    done = [each.result() for each in sides]
    lab_busy = cpu_seconds(on.info["pid"]) - lab_busy
    busy = sum(each["cpu_seconds"] for each in done)
    seconds = [took for each in done for _, took in each["operations"]]
    return {
        "per_second": round(sum(len(d["operations"]) / d["seconds"] for d in done), 2),
        "p50_s": round(percentile(seconds, 50), 4),
        "p99_s": round(percentile(seconds, 99), 4),
        "errors": sum(len(each["errors"]) for each in done),
        "lab_cpu_per_operation_s": round(lab_busy / len(seconds), 5),
        "driver_cpu_per_operation_s": round(busy / len(seconds), 5),
    }


def over_hosts(one: Side, note: Note) -> Iterator[dict[str, Any]]:
    """Attach while Cinder's database has so many hosts with volumes attached."""
    there = 0
    for hosts in HOSTS:
        note(f"{hosts} hosts with {hosts * VOLUMES_PER_HOST:,} attachments")
        one.do("populate", first=there, hosts=hosts - there, volumes_per_host=VOLUMES_PER_HOST)
        there = hosts
        first, again = [], []
        for host in range(1, ATTACHES + 1):
            made = [one.do("create")[1] for _ in range(3)]
            taken = [one.do("attach", volume_id=volume, host=host) for volume in made]
            first.append(taken[0][0])
            again.append(taken[-1][0])
            for _, attachment in taken:
                one.do("detach", attachment_id=attachment)
            for volume in made:
                one.do("delete_volume", volume_id=volume)
        yield {
            "hosts": hosts,
            "attachments": hosts * VOLUMES_PER_HOST,
            "first_attach_s": round(statistics.median(first), 4),
            "next_attach_s": round(statistics.median(again), 4),
        }


def goals(_result: Result) -> list[Goal]:
    return []


def grids(result: Result) -> list[Grid]:
    found = result["scaling"]
    head = ["operations/s", "p50 ms", "p99 ms", "errors", "driver's CPU ms", "lab's CPU ms"]
    curves = [
        Grid(
            f"Our driver, {what}, T = {found['transition_s']:g} s; CPU per operation",
            [what, *head],
            [
                [
                    str(row[what]),
                    number(row["per_second"]),
                    *(number(row[name] * 1000) for name in ("p50_s", "p99_s")),
                    str(row["errors"]),
                    *(
                        number(row[f"{who}_cpu_per_operation_s"] * 1000)
                        for who in ("driver", "lab")
                    ),
                ]
                for row in found[what]
            ],
            0,
        )
        for what in ("threads", "processes")
    ]
    hosts = Grid(
        "Our driver, hosts with attachments in Cinder's database",
        ["hosts", "attachments", "a host's first attach ms", "its further attaches ms"],
        [
            [
                f"{row['hosts']:,}",
                f"{row['attachments']:,}",
                *(number(row[name] * 1000) for name in ("first_attach_s", "next_attach_s")),
            ]
            for row in found["hosts"]
        ],
        0,
    )
    return [*curves, hosts]


PART = Part("scaling", "more threads, processes and hosts", 2, measure, goals, grids)
