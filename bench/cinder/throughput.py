# SPDX-License-Identifier: Apache-2.0
"""How many operations a second one driver gets through when many threads call it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.cinder.processes import cpu_seconds
from bench.cinder.servers import database_server
from bench.cinder.side import OPERATIONS_PER_LIFE, BenchLab, Side, both, lab
from bench.part import Goal, Grid, Note, Part, Result, at_least, number, percentile
from bench.sides import INCUMBENT, OURS

TRANSITION_SECONDS = 0.05
THREADS = 64
TURNS = (OURS, INCUMBENT, OURS, OURS)
"""One whole life in each thread is a turn, so that both do the same mix. The incumbent has one
turn only, since that takes most of a minute even so."""
OPERATIONS = TURNS.count(OURS) * THREADS * OPERATIONS_PER_LIFE
TIMES_MORE = 8


def measure(note: Note) -> Result:
    turns: dict[str, list[dict[str, Any]]] = {OURS: [], INCUMBENT: []}
    with (
        database_server(connections=THREADS) as databases,
        lab(TRANSITION_SECONDS) as on,
        both(on, databases) as sides,
    ):
        for turn, name in enumerate(TURNS, start=1):
            note(f"{name}, turn {turn} of {len(TURNS)}")
            sides[name].do("warm_up", threads=THREADS)
            turns[name].append(take_turn(on, sides[name], THREADS))
    return {
        "throughput": {
            "threads": THREADS,
            "operations": OPERATIONS,
            "transition_s": TRANSITION_SECONDS,
            **{name: figures(taken) for name, taken in turns.items()},
        }
    }


def take_turn(on: BenchLab, side: Side, threads: int) -> dict[str, Any]:
    """What the worker's `many` gives, with the lab's CPU time and traffic of the while."""
    seen, busy = on.traffic(), cpu_seconds(on.info["pid"])
    done = side.do("many", threads=threads, lives=1)
    traffic = on.traffic().since(seen)
    return {
        **done,
        "lab_cpu": cpu_seconds(on.info["pid"]) - busy,
        "calls": traffic.total,
        "tls": traffic.tls,
    }


def figures(turns: list[dict[str, Any]]) -> dict[str, Any]:
    took = sum(turn["seconds"] for turn in turns)
    operations = [(name, each) for turn in turns for name, each in turn["operations"]]
    seconds = [each for _, each in operations]
    errors = Counter(error[:160] for turn in turns for error in turn["errors"])
    return {
        "operations": len(operations),
        "mix": Counter(name for name, _ in operations),
        "per_second": round(len(seconds) / took, 2),
        "p50_s": round(percentile(seconds, 50), 4),
        "p99_s": round(percentile(seconds, 99), 4),
        "errors": errors.total(),
        "first_errors": [error for error, _ in errors.most_common(3)],
        "calls_per_operation": round(sum(t["calls"] for t in turns) / len(operations), 2),
        "tls_connections": sum(turn["tls"] for turn in turns),
        "lab_cores": round(sum(turn["lab_cpu"] for turn in turns) / took, 2),
        "driver_cores": round(sum(turn["cpu_seconds"] for turn in turns) / took, 2),
    }


def goals(result: Result) -> list[Goal]:
    found = result["throughput"]
    ours, incumbent = found[OURS], found[INCUMBENT]
    what = f"{found['threads']} threads, {found['operations']:,} operations"
    times = ours["per_second"] / incumbent["per_second"]
    no_errors = Goal(f"{what}: errors", "0", str(ours["errors"]), ours["errors"] == 0)
    return [at_least(f"{what}: against the incumbent", times, TIMES_MORE, "x"), no_errors]


def grids(result: Result) -> list[Grid]:
    found = result["throughput"]
    head = ["driver", "operations", "operations/s", "p50 ms", "p99 ms", "errors", "calls/operation"]
    head += ["TLS connections", "driver's cores", "lab's cores"]
    rows = [
        [
            name,
            number(found[name]["operations"]),
            number(found[name]["per_second"]),
            *(number(found[name][each] * 1000) for each in ("p50_s", "p99_s")),
            str(found[name]["errors"]),
            number(found[name]["calls_per_operation"]),
            str(found[name]["tls_connections"]),
            *(f"{found[name][each]:.2f}" for each in ("driver_cores", "lab_cores")),
        ]
        for name in (OURS, INCUMBENT)
    ]
    title = (
        f"{found['operations']:,} mixed operations by {found['threads']} threads, "
        f"T = {found['transition_s']:g} s"
    )
    return [Grid(title, head, rows)]


PART = Part("throughput", "many threads on one driver", 2, measure, goals, grids)
