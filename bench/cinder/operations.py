# SPDX-License-Identifier: Apache-2.0
"""What each operation takes, at the driver's own methods, on a cluster that is otherwise idle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.cinder.side import BenchLab, Side, both, lab, made_and_used
from bench.part import (
    Goal,
    Grid,
    Note,
    Part,
    Result,
    at_least,
    at_most,
    milliseconds,
    spread,
)
from bench.sides import INCUMBENT, OURS

TRANSITION_SECONDS = (0.05, 0.3)
ROUNDS = 7
WARM_UP_ROUNDS = 2
"""Connections are opened, and our driver sees how long this cluster takes for what."""
COMPARED_AT_SECONDS = 0.3
TIMES_FASTER = 3.5
CALLS_PER_ATTACH = 3


@dataclass(frozen=True)
class Limit:
    """How long an operation may take: so many transitions, and so much beside."""

    transitions: float
    seconds: float

    def at(self, transition_seconds: float) -> float:
        return self.transitions * transition_seconds + self.seconds


ONE_CHANGE, A_CLONE = Limit(1.15, 0.03), Limit(2.3, 0.06)
LIMITS = {
    "create": ONE_CHANGE,
    "attach": ONE_CHANGE,
    "detach": ONE_CHANGE,
    "snapshot": ONE_CHANGE,
    "clone": A_CLONE,
}
"""The incumbent waits for these as well; it only asks for the others."""


@dataclass
class Samples:
    seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    tls: list[int] = field(default_factory=list)


def measure(note: Note) -> Result:
    rows: list[dict[str, Any]] = []
    for transition in TRANSITION_SECONDS:
        with lab(transition) as on, both(on) as sides:
            rounds = range(-WARM_UP_ROUNDS, ROUNDS)
            rows += measure_at(transition, on, sides, note, rounds)
    return {"rows": rows}


def measure_at(
    transition: float, on: BenchLab, sides: dict[str, Side], note: Note, rounds: range
) -> list[dict[str, Any]]:
    """Rows; rounds below 0 do not count."""
    found: dict[str, dict[str, Samples]] = {}
    for number in rounds:
        note(f"T = {transition:g} s, round {number + 1} of {rounds.stop}")
        lives = {name: life_of_a_volume(side) for name, side in sides.items()}
        while any(lives.values()):
            for name, life in tuple(lives.items()):
                before = on.traffic()
                step = next(life, None)
                if step is None:
                    del lives[name]
                    continue
                operation, seconds = step
                seen = on.traffic().since(before)
                if number >= 0:
                    samples = found.setdefault(operation, {}).setdefault(name, Samples())
                    samples.seconds.append(seconds)
                    samples.calls.append(seen.total)
                    samples.tls.append(seen.tls)
            time.sleep(1.2 * transition)  # what was only asked for has happened, too
    return [row(operation, transition, samples) for operation, samples in found.items()]


def life_of_a_volume(side: Side) -> Iterator[tuple[str, float]]:
    """Each operation in turn, as (name, seconds)."""
    volume = yield from made_and_used(side)
    seconds, snapshot = side.do("snapshot", volume_id=volume)
    yield "snapshot", seconds
    seconds, clone = side.do("clone", source=volume)
    yield "clone", seconds
    seconds, _ = side.do("extend", volume_id=volume, size_gib=2)
    yield "extend", seconds
    seconds, _ = side.do("delete_snapshot", snapshot_id=snapshot)
    yield "delete_snapshot", seconds
    for each in (clone, volume):
        seconds, _ = side.do("delete_volume", volume_id=each)
        yield "delete_volume", seconds


def row(operation: str, transition: float, samples: dict[str, Samples]) -> dict[str, Any]:
    ours, incumbent = samples[OURS], samples[INCUMBENT]
    ours_s, incumbent_s = spread(ours.seconds), spread(incumbent.seconds)
    return {
        "operation": operation,
        "transition_s": transition,
        "ours_s": ours_s,
        "incumbent_s": incumbent_s,
        "ratio": round(incumbent_s["median"] / ours_s["median"], 2),
        "ours_calls": spread(ours.calls),
        "incumbent_calls": spread(incumbent.calls),
        "ours_tls": spread(ours.tls),
        "incumbent_tls": spread(incumbent.tls),
    }


def goals(result: Result) -> list[Goal]:
    found = []
    for each in result["rows"]:
        operation, transition = each["operation"], each["transition_s"]
        if operation not in LIMITS:
            continue
        where = f"{operation}, T = {transition:g} s"
        limit = LIMITS[operation].at(transition) * 1000
        found.append(at_most(where, each["ours_s"]["median"] * 1000, limit, "ms"))
        if transition == COMPARED_AT_SECONDS:
            found.append(
                at_least(f"{where}, against the incumbent", each["ratio"], TIMES_FASTER, "x")
            )
        if operation == "attach":
            calls = each["ours_calls"]["median"]
            found.append(at_most(f"{where}: REST calls", calls, CALLS_PER_ATTACH, "calls"))
    most = max(each["ours_tls"]["max"] for each in result["rows"])
    found.append(at_most("any operation: new TLS connections once warm", most, 0, ""))
    return found


def grids(result: Result) -> list[Grid]:
    head = ["operation", "T s", "ours ms", "incumbent ms", "times faster"]
    head += ["calls", "incumbent's", "TLS", "incumbent's"]
    rows = [
        [
            each["operation"],
            f"{each['transition_s']:g}",
            milliseconds(each["ours_s"]),
            milliseconds(each["incumbent_s"]),
            f"{each['ratio']:.2f}" + ("" if each["operation"] in LIMITS else " *"),
            *(f"{each[name]['median']:g}" for name in ("ours_calls", "incumbent_calls")),
            *(f"{each[name]['median']:g}" for name in ("ours_tls", "incumbent_tls")),
        ]
        for each in result["rows"]
    ]
    title = "One operation at a time: median (min-max); * the incumbent does not wait for the end"
    return [Grid(title, head, rows)]


PART = Part("operations", "one operation at a time", 3.6, measure, goals, grids)
