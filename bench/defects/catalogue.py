# SPDX-License-Identifier: Apache-2.0
"""The list of defects: a number, what it is, and the scenario that looks for it.

A scenario is the same for both drivers: it starts one, brings about what makes the defect show,
and says from the cluster, and from what Cinder was told, whether it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.defects.bed import Bed, Observation

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


_DEFECTS: dict[str, Defect] = {}


def defect(
    number: str, what: str, *, without_host_nqn: bool = False
) -> Callable[[Scenario], Scenario]:
    """Put a scenario on the list."""

    def register(scenario: Scenario) -> Scenario:
        if number in _DEFECTS:
            raise ValueError(f"there are two scenarios of defect {number}")
        _DEFECTS[number] = Defect(number, what, scenario, without_host_nqn)
        return scenario

    return register


def all_defects() -> list[Defect]:
    """Every defect, by number."""
    from bench.defects import access, addresses, service, volumes  # noqa: F401, PLC0415

    return sorted(_DEFECTS.values(), key=lambda each: each.order)
