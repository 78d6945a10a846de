# SPDX-License-Identifier: Apache-2.0
"""What operations take while one of three API addresses swallows every packet."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from bench.cinder.side import Side, both, lab, made_and_used
from bench.part import Goal, Grid, Note, Part, Result, at_most, milliseconds, number, spread
from bench.sides import INCUMBENT, OURS
from testbed.faults import Faults

TRANSITION_SECONDS = 0.3
ROUNDS = {OURS: 6, INCUMBENT: 2}
"""The incumbent's take a minute each."""
NORMAL_ROUNDS = 4
LONGEST_SECONDS = 3.0
TIMES_NORMAL = 1.2


def measure(note: Note) -> Result:
    found = {}
    with lab(TRANSITION_SECONDS) as on, both(on) as sides:
        normal = {}
        for name, side in sides.items():
            note(f"{name}, all addresses answering")
            normal[name] = usual_seconds(side)
        address = on.info["api_addresses"][0]  # that both use until then
        with Faults(on.info).during(address=address, swallow=True):
            for name, side in sides.items():
                note(f"{name}, {address} swallowing packets")
                taken = [step for _ in range(ROUNDS[name]) for step in short_life(side)]
                found[name] = figures(normal[name], taken)
    return {"outage": {"transition_s": TRANSITION_SECONDS, **found}}


def short_life(side: Side) -> Iterator[tuple[str, float]]:
    """Each operation in turn, as (name, seconds)."""
    volume = yield from made_and_used(side)
    seconds, _ = side.do("delete_volume", volume_id=volume)
    yield "delete_volume", seconds


def usual_seconds(side: Side) -> dict[str, float]:
    """The median of each operation, once the driver knows the cluster's pace."""
    for _ in range(2):
        list(short_life(side))
    taken = [step for _ in range(NORMAL_ROUNDS) for step in short_life(side)]
    return {
        operation: statistics.median(seconds for name, seconds in taken if name == operation)
        for operation, _ in taken
    }


def figures(normal: dict[str, float], taken: list[tuple[str, float]]) -> dict[str, Any]:
    """`slow` are the operations that took more than their due, `after` all but the longest."""
    times = [seconds / normal[operation] for operation, seconds in taken]
    longest = max(range(len(taken)), key=lambda number: taken[number][1])
    return {
        "operations": len(taken),
        "normal_s": {operation: round(seconds, 4) for operation, seconds in normal.items()},
        "longest_s": round(taken[longest][1], 3),
        "slow": sum(each > TIMES_NORMAL for each in times),
        "after_s": spread(seconds for at, (_, seconds) in enumerate(taken) if at > longest),
        "after_times_normal": spread(each for at, each in enumerate(times) if at > longest),
    }


def goals(result: Result) -> list[Goal]:
    ours = result["outage"][OURS]
    what = "an address swallows packets"
    return [
        at_most(f"{what}: longest operation", ours["longest_s"], LONGEST_SECONDS, "s"),
        at_most(
            f"{what}: any operation after that, against normal",
            ours["after_times_normal"]["max"],
            TIMES_NORMAL,
            "x",
        ),
    ]


def grids(result: Result) -> list[Grid]:
    found = result["outage"]
    head = ["driver", "operations", "longest s", f"over {TIMES_NORMAL} x normal"]
    head += ["after the longest ms", "times normal"]
    rows = [
        [
            name,
            str(found[name]["operations"]),
            number(found[name]["longest_s"]),
            str(found[name]["slow"]),
            milliseconds(found[name]["after_s"]),
            "{median:.2f} ({min:.2f}-{max:.2f})".format(**found[name]["after_times_normal"]),
        ]
        for name in (OURS, INCUMBENT)
    ]
    title = f"One of three API addresses swallows packets, T = {found['transition_s']:g} s"
    return [Grid(title, head, rows)]


PART = Part("outage", "an API address that swallows packets", 1.4, measure, goals, grids)
