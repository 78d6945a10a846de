# SPDX-License-Identifier: Apache-2.0
"""Runs the scenarios of a compute host against one connector, as `worker` does for a driver.

In a mount and a network namespace of its own, see `ComputeBed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.defects import connector
from bench.defects.compute_bed import ComputeBed
from bench.defects.defect import Defect
from bench.driver_process import serve


@contextmanager
def scenarios() -> Iterator[Callable[[str], dict[str, object]]]:
    """Answers a defect's number with what its scenario shows."""
    defects = {each.number: each for each in vars(connector).values() if isinstance(each, Defect)}
    bed = ComputeBed()
    yield lambda number: defects[number].answer(bed)


if __name__ == "__main__":
    serve(scenarios())
