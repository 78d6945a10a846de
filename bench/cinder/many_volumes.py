# SPDX-License-Identifier: Apache-2.0
"""What the driver takes as the cluster fills with volumes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.cinder.outage import short_life
from bench.cinder.side import BenchLab, Side, both, lab
from bench.part import Goal, Grid, Note, Part, Result, at_most, milliseconds, number, spread
from bench.sides import INCUMBENT, OURS
from lightos.api.client import LightOSClient
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import CreateVolume
from testbed.cluster import GIB, PROJECT

TRANSITION_SECONDS = 0.05
COUNTS = (10, 1000, 10_000)
ROUNDS = {OURS: 9, INCUMBENT: 3}
WARM_UP_ROUNDS = {OURS: 3, INCUMBENT: 0}
CREATORS = 16
PAGE = 1000
"""Cinder's osapi_max_limit."""
TIMES_THE_FEW = 1.2
LIST_SECONDS, START_SECONDS, CALLS_FOR_STATISTICS = 5.0, 1.0, 1


def measure(note: Note) -> Result:
    rows = []
    with lab(TRANSITION_SECONDS) as on, both(on) as sides:
        there = 0
        for count in COUNTS:
            note(f"making {count:,} volumes")
            fill(on, range(there, count))
            there = count
            note(f"with {count:,} volumes")
            rows.append({"volumes": count, **measure_with(on, sides)})
    return {"many_volumes": {"transition_s": TRANSITION_SECONDS, "rows": rows}}


def fill(on: BenchLab, numbers: range) -> None:
    """Have volumes that no Cinder knows."""
    client = LightOSClient.connect(
        on.info["api_addresses"],
        on.info["api_port"],
        Path(on.info["jwt_file"]).read_text().strip(),
        verify=on.info["ca_file"],
    )

    def create(number: int) -> None:
        request = CreateVolume(
            name=f"other-{number}", size_bytes=GIB, replica_count=3, acl=(ALLOW_NONE,)
        )
        client.create_volume(PROJECT, request, client.deadline(60))

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, numbers))
    client.close()


def measure_with(on: BenchLab, sides: dict[str, Side]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, side in sides.items():
        found[name] = {"start_s": round(side.start(), 4)}
        for _ in range(WARM_UP_ROUNDS[name]):
            list(short_life(side))
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for number_of_round in range(max(ROUNDS.values())):
        for name, side in sides.items():
            if number_of_round < ROUNDS[name]:
                for operation, took in short_life(side):
                    seconds[name].setdefault(operation, []).append(took)
    for name, side in sides.items():
        side.do("stats")  # which may begin to look for leftovers, as it does now and then
        before = on.traffic()
        statistics = side.do("stats")
        found[name] |= {
            "statistics_s": round(statistics, 4),
            "statistics_calls": on.traffic().since(before).total,
            **{f"{operation}_s": spread(each) for operation, each in seconds[name].items()},
        }
    ours = sides[OURS]
    before = on.traffic()
    took, shown = ours.do("manageable", limit=PAGE)
    found[OURS] |= {
        "list_s": round(took, 3),
        "list_calls": on.traffic().since(before).total,
        "list_shown": shown,
    }
    return found


def goals(result: Result) -> list[Goal]:
    rows = result["many_volumes"]["rows"]
    few, many = rows[0][OURS], rows[-1][OURS]
    what = f"{rows[-1]['volumes']:,} volumes"
    found = [
        at_most(
            f"{what}: {operation}, against {rows[0]['volumes']}",
            many[f"{operation}_s"]["median"] / few[f"{operation}_s"]["median"],
            TIMES_THE_FEW,
            "x",
        )
        for operation in ("create", "attach")
    ]
    return [
        *found,
        at_most(f"{what}: list of what can be managed", many["list_s"], LIST_SECONDS, "s"),
        at_most(f"{what}: start of the driver", many["start_s"], START_SECONDS, "s"),
        at_most(
            f"{what}: REST calls for statistics",
            many["statistics_calls"],
            CALLS_FOR_STATISTICS,
            "calls",
        ),
    ]


def grids(result: Result) -> list[Grid]:
    head = ["volumes", "driver", "create ms", "attach ms", "detach ms", "delete_volume ms"]
    head += ["start s", "statistics ms", "calls", "list s", "calls"]
    rows = [
        [
            f"{row['volumes']:,}",
            name,
            *(
                milliseconds(row[name][f"{operation}_s"])
                for operation in ("create", "attach", "detach", "delete_volume")
            ),
            number(row[name]["start_s"]),
            number(row[name]["statistics_s"] * 1000),
            str(row[name]["statistics_calls"]),
            *(number(row[name][each]) if each in row[name] else "" for each in LIST),
        ]
        for row, name in itertools.product(result["many_volumes"]["rows"], (OURS, INCUMBENT))
    ]
    return [Grid(f"Volumes in the cluster, T = {TRANSITION_SECONDS:g} s", head, rows, 2)]


LIST = ("list_s", "list_calls")
PART = Part("many-volumes", "a cluster that fills up", 1.4, measure, goals, grids)
