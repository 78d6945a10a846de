# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks draw: panels in one SVG, and bars of one side beside the other's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams.update({"svg.hashsalt": "lightos-openstack", "axes.grid": True, "grid.alpha": 0.3})

from matplotlib import pyplot  # noqa: E402 - as the back end is chosen

from bench.sides import INCUMBENT, OURS  # noqa: E402

COLOURS = {OURS: "tab:blue", INCUMBENT: "tab:orange"}
Axes = Any
Panel = Callable[[Axes], None]


@dataclass(frozen=True)
class Bars:
    """What one thing took either side, and the most that ours should take, if there is a goal."""

    label: str
    ours_s: float
    incumbent_s: float
    goal_s: float | None = None


def side_by_side(title: str, bars: Sequence[Bars], *, logarithmic: bool = False) -> Panel:
    """Bars in milliseconds."""

    def panel(axes: Axes) -> None:
        places = range(len(bars))
        for name, offset, seconds in (
            (OURS, -0.2, [each.ours_s for each in bars]),
            (INCUMBENT, 0.2, [each.incumbent_s for each in bars]),
        ):
            axes.barh(
                [place + offset for place in places],
                [each * 1000 for each in seconds],
                0.4,
                color=COLOURS[name],
                label=name,
            )
        for place, each in enumerate(bars):
            if each.goal_s is not None:
                goal = each.goal_s * 1000
                axes.plot([goal, goal], [place - 0.4, place], color="black", linewidth=1.5)
        axes.plot([], [], color="black", linewidth=1.5, label="goal for ours")
        axes.set_yticks(list(places), [each.label for each in bars])
        axes.invert_yaxis()
        axes.set_title(title)
        axes.set_xlabel("ms")
        if logarithmic:
            axes.set_xscale("log")
        axes.legend()

    return panel


def from_zero(axes: Axes) -> None:
    """Have what is drawn begin at zero, with room above: values may lie close together."""
    axes.set_ylim(0, axes.dataLim.y1 * 1.1)


def save(panels: Sequence[Panel], path: Path, *, width_inches: float = 5.2) -> None:
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (width_inches * columns, 4 * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for panel, place in zip(panels, axes.flat, strict=False):
        panel(place)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
