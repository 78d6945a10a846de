# SPDX-License-Identifier: Apache-2.0
"""Charts of bench/results/cinder.json, as SVG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.charts import COLOURS, Axes, Bars, Panel, from_zero, save, side_by_side
from bench.cinder.operations import LIMITS
from bench.sides import OURS


def draw(document: dict[str, Any], folder: Path) -> None:
    """Draw what there are figures for."""
    if "rows" in document:
        transitions = sorted({row["transition_s"] for row in document["rows"]})
        panels = [_operations(document["rows"], transition) for transition in transitions]
        save(panels, folder / "cinder.svg")
    panels = []
    if "many_volumes" in document:
        panels += [_volumes(document["many_volumes"]["rows"]), _list(document["many_volumes"])]
    if "scaling" in document:
        scaling = document["scaling"]
        panels += [_hosts(scaling["hosts"])]
        panels += [_rate(scaling[what], what) for what in ("threads", "processes")]
    if panels:
        save(panels, folder / "cinder-scaling.svg")


def _operations(rows: Sequence[dict[str, Any]], transition: float) -> Panel:
    bars = [
        Bars(
            row["operation"],
            row["ours_s"]["median"],
            row["incumbent_s"]["median"],
            LIMITS[row["operation"]].at(transition) if row["operation"] in LIMITS else None,
        )
        for row in rows
        if row["transition_s"] == transition
    ]
    return side_by_side(f"One operation, T = {transition:g} s", bars)


def _volumes(rows: Sequence[dict[str, Any]]) -> Panel:
    def panel(axes: Axes) -> None:
        for operation, marker in (("create", "o"), ("attach", "s")):
            times = [row[OURS][f"{operation}_s"]["median"] * 1000 for row in rows]
            axes.plot([row["volumes"] for row in rows], times, marker=marker, label=operation)
        axes.set(title="Time by volumes in the cluster", xlabel="volumes", ylabel="ms")
        axes.set_xscale("log")
        from_zero(axes)
        axes.legend()

    return panel


def _list(found: dict[str, Any]) -> Panel:
    def panel(axes: Axes) -> None:
        rows = found["rows"]
        volumes = [row["volumes"] for row in rows]
        axes.plot(volumes, [row[OURS]["list_s"] for row in rows], marker="o")
        axes.set(title="List of what can be managed", xlabel="volumes", ylabel="s")
        from_zero(axes)

    return panel


def _hosts(rows: Sequence[dict[str, Any]]) -> Panel:
    def panel(axes: Axes) -> None:
        for name, label in (("first_attach_s", "first"), ("next_attach_s", "further")):
            times = [row[name] * 1000 for row in rows]
            axes.plot([row["attachments"] for row in rows], times, marker="o", label=label)
        axes.set(title="Attach, by attachments in Cinder", xlabel="attachments", ylabel="ms")
        from_zero(axes)
        axes.legend()

    return panel


def _rate(rows: Sequence[dict[str, Any]], what: str) -> Panel:
    def panel(axes: Axes) -> None:
        counts = [str(row[what]) for row in rows]
        axes.bar(counts, [row["per_second"] for row in rows], color=COLOURS[OURS])
        axes.set(title=f"Operations per second by {what}", xlabel=what, ylabel="operations/s")

    return panel
