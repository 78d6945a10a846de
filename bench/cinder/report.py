# SPDX-License-Identifier: Apache-2.0
"""Runs parts of the benchmark, shows what they came to and keeps it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.cinder.charts import draw
from bench.cinder.part import Goal, Grid, Part, Result

RESULTS = Path(__file__).parents[1] / "results" / "cinder.json"


def run(parts: Iterable[Part], console: Console, results: Path) -> None:
    """Measure each, print it, and keep it in `results` beside what other parts left there."""
    for part in parts:
        began = time.monotonic()
        with console.status("") as status:
            result = part.measure(lambda what, part=part: status.update(f"{part.name}: {what}"))
        seconds = time.monotonic() - began
        for grid in part.grids(result):
            console.print(table(grid))
        if goals := part.goals(result):
            console.print(goals_table(goals))
        console.print(f"{part.name}: measured in {seconds:.0f} s\n")
        keep(part, result, round(seconds), results)
    draw(read(results), results.parent)
    console.print(f"Kept in {results}, with charts beside it")


def keep(part: Part, result: Result, seconds: int, path: Path) -> None:
    document = read(path) if path.exists() else {}
    document |= {
        "ours": f"lightos-openstack {version('lightos-openstack')}",
        "incumbent": f"cinder {version('cinder')}",
        "machine": f"{os.cpu_count()} CPUs, Python {platform.python_version()}",
        **result,
    }
    document.setdefault("measured_in_s", {})[part.name] = seconds
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def table(grid: Grid) -> Table:
    shown = Table(*grid.head, title=grid.title)
    for column in shown.columns[grid.text_columns :]:
        column.justify = "right"
    for row in grid.rows:
        shown.add_row(*row)
    return shown


def goals_table(goals: Sequence[Goal]) -> Table:
    shown = Table("goal", "wanted", "measured", "")
    for goal in goals:
        colour = "green" if goal.met else "red"
        shown.add_row(goal.what, goal.wanted, goal.measured, f"[{colour}]{goal.word}[/]")
    return shown
