# SPDX-License-Identifier: Apache-2.0
"""What a part of the benchmark is, and what it comes to: figures, goals, tables. No measuring here.

A part's module has `PART`. What `measure` gives is JSON, kept in a file of bench/results beside
that of the other parts; goals and tables are made of that file alone, so that what is printed, and
what the documentation shows, is what was kept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
"""A JSON object, whose keys are the part's own."""
Note = Callable[[str], None]
"""Tells whoever waits what is being measured now."""


@dataclass(frozen=True)
class Goal:
    """What was wanted, and what was measured."""

    what: str
    wanted: str
    measured: str
    met: bool

    @property
    def word(self) -> str:
        return "met" if self.met else "missed"


@dataclass(frozen=True)
class Grid:
    """A table, whoever draws it. The first `text_columns` are text, the others numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


@dataclass(frozen=True)
class Part:
    """One part; `minutes` is about how long it takes on two cores.

    One that is `on_request` is measured when it is named, since it needs more than the others do.
    """

    name: str
    about: str
    minutes: float
    measure: Callable[[Note], Result]
    goals: Callable[[Result], list[Goal]]
    grids: Callable[[Result], list[Grid]]
    on_request: bool = False


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, min and max, to the tenth of a millisecond where these are seconds."""
    found = sorted(values)
    return {
        "median": round(statistics.median(found), 4),
        "min": round(found[0], 4),
        "max": round(found[-1], 4),
    }


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many percent are not above."""
    found = sorted(values)
    return found[max(0, math.ceil(len(found) * percent / 100) - 1)]


def at_most(what: str, value: float, limit: float, unit: str) -> Goal:
    return Goal(what, f"<= {number(limit)} {unit}", f"{number(value)} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Goal:
    return Goal(what, f">= {number(limit)} {unit}", f"{number(value)} {unit}", value >= limit)


def number(value: float) -> str:
    """Three digits or so."""
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(seconds: dict[str, float]) -> str:
    """A spread of seconds: median, and the range."""
    median, low, high = (seconds[name] * 1000 for name in ("median", "min", "max"))
    return f"{median:,.0f} ({low:,.0f}-{high:,.0f})"
