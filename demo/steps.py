# SPDX-License-Identifier: Apache-2.0
"""Steps with their times: a progress line while one runs, a table when all have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass
class Step:
    """One thing that was shown. `evidence` says what was seen, in the words of the demo."""

    title: str
    evidence: str = ""
    seconds: float = 0.0


class Steps:
    """Run named steps one after the other and remember how long each took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: list[Step] = []
        self.failed: Step | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time a step; one that raises is remembered as `failed` and the exception goes on."""
        step = Step(title)
        started = time.monotonic()
        try:
            with self._console.status(f"{title} ..."):
                yield step
        except BaseException:
            self.failed = step
            raise
        finally:
            step.seconds = time.monotonic() - started
            if self.failed is step:
                self._console.print(f"[red]FAILED[/] {title}  [dim]{step.seconds:.1f} s[/]")
        self._done.append(step)
        evidence = f"  [dim]{step.evidence}[/]" if step.evidence else ""
        self._console.print(f"[green]ok[/] {step.seconds:6.1f} s  {title}{evidence}")

    def table(self) -> Table:
        """Every finished step with its time and what was seen, and the sum."""
        table = Table("#", "step", "what was seen", "seconds", title="LightOS for OpenStack")
        table.columns[0].justify = table.columns[3].justify = "right"
        for number, step in enumerate(self._done, start=1):
            table.add_row(str(number), step.title, step.evidence, f"{step.seconds:.1f}")
        table.add_section()
        table.add_row("", "in all", "", f"{sum(step.seconds for step in self._done):.1f}")
        return table
