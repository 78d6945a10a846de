# SPDX-License-Identifier: Apache-2.0
"""Runs parts of a benchmark, shows what they came to and keeps it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.part import Goal, Grid, Part, Result

RESULTS = Path(__file__).parent / "results"
LOG_WIDTH = 130


@dataclass(frozen=True)
class Benchmark:
    """All the parts of one `make` target, and what becomes of their figures."""

    name: str
    """Of the file in bench/results."""
    incumbent: str
    """The Python package that what ours is measured against ships in."""
    parts: Sequence[Part]
    draw: Callable[[Result, Path], None]
    """Makes charts of all figures, in a folder."""

    @property
    def results(self) -> Path:
        return RESULTS / f"{self.name}.json"


def run(benchmark: Benchmark, parts: Sequence[Part]) -> None:
    """Measure each, print it, and keep it beside what other parts left in the results."""
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    console.print(f"about {sum(part.minutes for part in parts):.0f} minutes")
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
        keep(part, result, round(seconds), benchmark.results, benchmark.incumbent)
    benchmark.draw(read(benchmark.results), RESULTS)
    console.print(f"Kept in {benchmark.results}, with charts beside it")


def keep(part: Part, result: Result, seconds: int, path: Path, incumbent: str) -> None:
    document = read(path) if path.exists() else {}
    document |= {
        "ours": f"lightos-openstack {version('lightos-openstack')}",
        "incumbent": f"{incumbent} {version(incumbent)}",
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
