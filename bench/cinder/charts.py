# SPDX-License-Identifier: Apache-2.0
"""Charts of bench/results/cinder.json, as SVG beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams.update({"svg.hashsalt": "lightos-openstack", "axes.grid": True, "grid.alpha": 0.3})

from matplotlib import pyplot  # noqa: E402 - as the back end is chosen

from bench.cinder.operations import LIMITS  # noqa: E402
from bench.cinder.side import INCUMBENT, OURS  # noqa: E402

COLOURS = {OURS: "tab:blue", INCUMBENT: "tab:orange"}
Axes = Any


def draw(document: dict[str, Any], folder: Path) -> None:
    """Draw what there are figures for."""
    if "rows" in document:
        transitions = sorted({row["transition_s"] for row in document["rows"]})
        panels = [_operations(document["rows"], transition) for transition in transitions]
        _save(panels, folder / "cinder.svg")
    panels = []
    if "many_volumes" in document:
        panels += [_volumes(document["many_volumes"]["rows"]), _list(document["many_volumes"])]
    if "scaling" in document:
        scaling = document["scaling"]
        panels += [_hosts(scaling["hosts"])]
        panels += [_rate(scaling[what], what) for what in ("threads", "processes")]
    if panels:
        _save(panels, folder / "cinder-scaling.svg")


def _operations(rows: Sequence[dict[str, Any]], transition: float) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        shown = [row for row in rows if row["transition_s"] == transition]
        places = range(len(shown))
        for name, offset in ((OURS, -0.2), (INCUMBENT, 0.2)):
            axes.barh(
                [place + offset for place in places],
                [row[f"{name}_s"]["median"] * 1000 for row in shown],
                0.4,
                color=COLOURS[name],
                label=name,
            )
        limits = [LIMITS.get(row["operation"]) for row in shown]
        for place, limit in enumerate(limits):
            if limit:
                goal = limit.at(transition) * 1000
                axes.plot([goal, goal], [place - 0.4, place], color="black", linewidth=1.5)
        axes.plot([], [], color="black", linewidth=1.5, label="goal for ours")
        axes.set_yticks(list(places), [row["operation"] for row in shown])
        axes.invert_yaxis()
        axes.set_title(f"One operation, T = {transition:g} s")
        axes.set_xlabel("ms")
        axes.legend()

    return panel


def _volumes(rows: Sequence[dict[str, Any]]) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        for operation, marker in (("create", "o"), ("attach", "s")):
            times = [row[OURS][f"{operation}_s"]["median"] * 1000 for row in rows]
            axes.plot([row["volumes"] for row in rows], times, marker=marker, label=operation)
        axes.set(title="Time by volumes in the cluster", xlabel="volumes", ylabel="ms")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.legend()

    return panel


def _list(found: dict[str, Any]) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        rows = found["rows"]
        volumes = [row["volumes"] for row in rows]
        axes.plot(volumes, [row[OURS]["list_s"] for row in rows], marker="o")
        axes.set(title="List of what can be managed", xlabel="volumes", ylabel="s")
        axes.set_ylim(bottom=0)

    return panel


def _hosts(rows: Sequence[dict[str, Any]]) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        for name, label in (("first_attach_s", "first"), ("next_attach_s", "further")):
            times = [row[name] * 1000 for row in rows]
            axes.plot([row["attachments"] for row in rows], times, marker="o", label=label)
        axes.set(title="Attach, by attachments in Cinder", xlabel="attachments", ylabel="ms")
        axes.set_ylim(bottom=0)
        axes.legend()

    return panel


def _rate(rows: Sequence[dict[str, Any]], what: str) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        counts = [str(row[what]) for row in rows]
        axes.bar(counts, [row["per_second"] for row in rows], color=COLOURS[OURS])
        axes.set(title=f"Operations per second by {what}", xlabel=what, ylabel="operations/s")

    return panel


def _save(panels: Sequence[Callable[[Axes], None]], path: Path) -> None:
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 4 * rows), squeeze=False)
    for panel, place in zip(panels, axes.flat, strict=False):
        panel(place)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
