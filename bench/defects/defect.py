# SPDX-License-Identifier: Apache-2.0
"""What a defect is: a number, what goes wrong, and the scenario that looks for it.

A scenario is the same for both sides: it starts one, brings about what makes the defect show,
and says from the cluster or the host, and from what the caller was told, whether it did.
"""

from __future__ import annotations

import enum
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Place(enum.Enum):
    """Where a scenario runs."""

    CINDER = "a Cinder host"
    CINDER_WITHOUT_HOST_NQN = "a Cinder host that has no NVMe host NQN"
    COMPUTE = "a compute host"


@dataclass(frozen=True)
class Observation:
    """What a scenario saw: whether it is the defect, and the evidence in words."""

    defect: bool
    seen: str


Scenario = Callable[[Any], Observation]
"""Takes the bed of its place."""


@dataclass(frozen=True)
class Defect:
    """One row."""

    number: str
    what: str
    scenario: Scenario
    place: Place = Place.CINDER

    @property
    def order(self) -> tuple[int, str]:
        number, letter = re.fullmatch(r"(\d+)([a-z]?)", self.number).groups()  # type: ignore[union-attr]
        return int(number), letter

    def answer(self, bed: Any) -> dict[str, object]:
        """The observation, or why there is none, as it is sent to whoever asked."""
        try:
            observation = self.scenario(bed)
        except Exception:  # noqa: BLE001 - reported, and the next scenario can still be run
            return {"number": self.number, "failed": traceback.format_exc()}
        finally:
            bed.reset()
        return {"number": self.number, "defect": observation.defect, "seen": observation.seen}


def defect(number: str, what: str, *, place: Place = Place.CINDER) -> Callable[[Scenario], Defect]:
    """Make a scenario the defect that it looks for."""
    return lambda scenario: Defect(number, what, scenario, place)
