# SPDX-License-Identifier: Apache-2.0
"""What a defect is: a number, what goes wrong, and the scenario that looks for it.

A scenario is the same for both drivers: it starts one, brings about what makes the defect show,
and says from the cluster, and from what Cinder was told, whether it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.defects.bed import Bed


@dataclass(frozen=True)
class Observation:
    """What a scenario saw: whether it is the defect, and the evidence in words."""

    defect: bool
    seen: str


Scenario = Callable[[Bed], Observation]


@dataclass(frozen=True)
class Defect:
    """One row. `without_host_nqn`: to be run where the machine has no NVMe host NQN."""

    number: str
    what: str
    scenario: Scenario
    without_host_nqn: bool = False

    @property
    def order(self) -> tuple[int, str]:
        number, letter = re.fullmatch(r"(\d+)([a-z]?)", self.number).groups()  # type: ignore[union-attr]
        return int(number), letter


def defect(
    number: str, what: str, *, without_host_nqn: bool = False
) -> Callable[[Scenario], Defect]:
    """Make a scenario the defect that it looks for."""
    return lambda scenario: Defect(number, what, scenario, without_host_nqn)
