# SPDX-License-Identifier: Apache-2.0
"""Memory of a cinder-volume with either driver."""

from __future__ import annotations

from bench.cinder.processes import memory_bytes
from bench.cinder.side import OPERATIONS_PER_LIFE, both, lab
from bench.part import Goal, Grid, Note, Part, Result
from bench.sides import INCUMBENT, OURS

THREADS = 16
OPERATIONS = THREADS * OPERATIONS_PER_LIFE
MIB = 1 << 20


def measure(note: Note) -> Result:
    found = {}
    with lab(0.05) as on, both(on) as sides:
        idle = {name: memory_bytes(side.pid) for name, side in sides.items()}
        for name, side in sides.items():
            note(f"{name}, {OPERATIONS} operations")
            side.do("many", threads=THREADS, lives=1)
            found[name] = {"idle": idle[name], "worked": memory_bytes(side.pid)}
    return {"memory": {"threads": THREADS, "operations": OPERATIONS, **found}}


def goals(result: Result) -> list[Goal]:
    found = result["memory"]
    ours, incumbent = (found[name]["worked"]["pss"] / MIB for name in (OURS, INCUMBENT))
    wanted = f"<= the incumbent's {incumbent:.0f} MiB"
    return [Goal("memory after work", wanted, f"{ours:.0f} MiB", ours <= incumbent)]


def grids(result: Result) -> list[Grid]:
    found = result["memory"]
    head = ["driver", "idle RSS MiB", "idle PSS MiB", "after work RSS MiB", "after work PSS MiB"]
    rows = [
        [
            name,
            *(
                f"{found[name][when][kind] / MIB:.1f}"
                for when in ("idle", "worked")
                for kind in ("rss", "pss")
            ),
        ]
        for name in (OURS, INCUMBENT)
    ]
    title = f"Cinder's volume manager after start, and after {found['operations']} operations"
    return [Grid(title, head, rows)]


PART = Part("memory", "memory of cinder-volume", 0.4, measure, goals, grids)
