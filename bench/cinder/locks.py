# SPDX-License-Identifier: Apache-2.0
"""What an attach and a detach take with Cinder's locks on files, on etcd and on Redis."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bench.cinder.servers import lock_servers
from bench.cinder.side import Side, lab, side
from bench.part import Goal, Grid, Note, Part, Result, milliseconds, spread
from bench.sides import OURS

TRANSITION_SECONDS = 0.05
ROUNDS = 40
WARM_UP_ROUNDS = 3
FILES = "files"


def measure(note: Note) -> Result:
    with lock_servers() as urls, lab(TRANSITION_SECONDS) as on, ExitStack() as stack:
        sides = {
            name: stack.enter_context(side(OURS, on, coordination=url))
            for name, url in {FILES: None, **urls}.items()
        }
        note(f"{ROUNDS} rounds on {', '.join(sides)}")
        seconds = measure_on(sides)
    rows = [
        {"locks": name, **{f"{operation}_s": spread(took) for operation, took in each.items()}}
        for name, each in seconds.items()
    ]
    return {"locks": {"transition_s": TRANSITION_SECONDS, "rows": rows}}


def measure_on(sides: dict[str, Side]) -> dict[str, dict[str, list[float]]]:
    """Seconds by operation, by the name of the locks; these take turns."""
    volumes = {name: each.do("create")[1] for name, each in sides.items()}
    found: dict[str, dict[str, list[float]]] = {
        name: {"attach": [], "detach": []} for name in sides
    }
    for number in range(-WARM_UP_ROUNDS, ROUNDS):
        for name, each in sides.items():
            attach, attachment = each.do("attach", volume_id=volumes[name])
            detach, _ = each.do("detach", attachment_id=attachment)
            if number >= 0:
                found[name]["attach"].append(attach)
                found[name]["detach"].append(detach)
    return found


def goals(_result: Result) -> list[Goal]:
    return []


def grids(result: Result) -> list[Grid]:
    found: dict[str, Any] = result["locks"]
    rows = [
        [row["locks"], milliseconds(row["attach_s"]), milliseconds(row["detach_s"])]
        for row in found["rows"]
    ]
    title = f"Our driver, by where Cinder's locks are, T = {found['transition_s']:g} s"
    return [Grid(title, ["locks on", "attach ms", "detach ms"], rows)]


PART = Part("locks", "locks on files, etcd and Redis", 0.5, measure, goals, grids)
