# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.model.run --steps N --seed S`: that many random steps; the seed is printed."""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console
from rich.table import Table

from testbed.cluster import running_lab
from tests.model.cinder_process import CinderProcess
from tests.model.machine import TYPES, Bench, CinderMachine

STEPS_PER_EXAMPLE = 100
"""Tried; what there is nothing for at that moment is no step."""
LEAST_EXAMPLES = 5
"""In one go: hypothesis begins with a trivial one, and leaves operations out of the others."""
MOST_EXAMPLES = 20
"""In one go, after which the progress is told."""
TRANSITION_MS = 5


def run(
    steps: int, seed_number: int, folder: Path, note: Callable[[str], None] = lambda _text: None
) -> Bench:
    """Run at least `steps` steps; `note` hears how far it is. Violation: what does not hold."""
    with running_lab(folder / "lab", transition_ms=TRANSITION_MS) as lab:
        cinder_folder = folder / "cinder"
        cinder_folder.mkdir()
        options = {
            "lightos_api_service_timeout": 10,
            "lightos_default_num_replicas": 2,
            "lightos_jwt": None,
            "lightos_jwt_file": lab["jwt_file"],
        }
        cinder = CinderProcess(cinder_folder, lab, options)
        cinder.start()
        for each in TYPES:
            cinder.send("make_type", **each.specs)
            if error := cinder.receive():
                raise RuntimeError(error)
        bench = Bench(lab, cinder, cinder_folder)
        machine = type("Machine", (CinderMachine,), {"bench": bench})
        number = 0
        try:
            while (missing := steps - sum(bench.steps.values())) > 0:
                wanted = math.ceil(missing / STEPS_PER_EXAMPLE)
                run_state_machine_as_test(
                    seed(seed_number + number)(machine),
                    settings=settings(
                        max_examples=min(max(LEAST_EXAMPLES, wanted), MOST_EXAMPLES),
                        stateful_step_count=STEPS_PER_EXAMPLE,
                        phases=[Phase.generate],
                        database=None,
                        deadline=None,
                        suppress_health_check=list(HealthCheck),
                    ),
                )
                number += 1
                note(f"{sum(bench.steps.values())} steps, {sum(bench.hits.values())} faults met")
        finally:
            cinder.kill()
    return bench


def summary(bench: Bench) -> Table:
    table = Table("operation", "steps", "ended in an error", title="Model test")
    for name, count in sorted(bench.steps.items()):
        table.add_row(name, str(count), str(bench.failed[name]))
    table.add_section()
    for name, count in sorted(bench.hits.items()):
        table.add_row(f"fault: {name}", str(count), "")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--folder", type=Path, help="keep logs and databases there")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"seed {arguments.seed}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lightos-model-") as scratch:
        folder = arguments.folder or Path(scratch)
        bench = run(arguments.steps, arguments.seed, folder, console.print)
    console.print(summary(bench))
    console.print(
        f"{sum(bench.steps.values())} steps, {sum(bench.hits.values())} faults met, "
        f"{time.monotonic() - started:.0f} s, seed {arguments.seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
