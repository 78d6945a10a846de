# SPDX-License-Identifier: Apache-2.0
"""What one attach and one detach take with either connector, in turns, on a host that is idle."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

from bench.host.bed import Bed
from bench.part import Note, Result, spread
from bench.sides import INCUMBENT, OURS, SIDES

ROUNDS = 5
WARM_UP_ROUNDS = 1
FIRST_ATTACH = "attach, first volume of the cluster"
NEXT_ATTACH = "attach, another volume"
WAITING_ATTACH = "attach that waits, from access granted"
DETACH = "detach"
DETACH_TO_GONE = "detach, to device gone"
ABSENT_DETACH = "detach of an absent device"
ABSENT_FORCED_DETACH = "detach of an absent device, force"
PROPERTIES = "properties of the connector"
ALL_PROPERTIES = "properties of all connectors of os-brick"
WAITED_SECONDS = (1.0, 2.0)
"""How long an attach has waited when access is granted: any point of a poll of one second."""

Step = tuple[str, float]


@dataclass
class Samples:
    """Seconds by side and operation."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, side: str, operation: str, seconds: float) -> None:
        self.seconds.setdefault(operation, {}).setdefault(side, []).append(seconds)

    def rows(self) -> list[Result]:
        return [row(operation, by_side) for operation, by_side in self.seconds.items()]


def row(operation: str, by_side: dict[str, list[float]]) -> Result:
    ours, incumbent = spread(by_side[OURS]), spread(by_side[INCUMBENT])
    return {
        "operation": operation,
        "ours_s": ours,
        "incumbent_s": incumbent,
        "ratio": round(incumbent["median"] / ours["median"], 2),
        "ours_rounds": len(by_side[OURS]),
        "incumbent_rounds": len(by_side[INCUMBENT]),
    }


def measure(bed: Bed, note: Note) -> list[Result]:
    samples = Samples()
    for number in range(-WARM_UP_ROUNDS, ROUNDS):
        for side in SIDES:
            note(f"{side}, round {number + 1} of {ROUNDS}")
            for operation, seconds in a_round(bed, side):
                if number >= 0:
                    samples.add(side, operation, seconds)
            if number >= 0 and (side == OURS or number == ROUNDS - 1):  # a minute each otherwise
                note(f"{side}, detach of absent devices")
                for operation, force in ((ABSENT_DETACH, False), (ABSENT_FORCED_DETACH, True)):
                    samples.add(side, operation, bed.disconnect(side, str(uuid4()), force=force))
    return samples.rows()


def a_round(bed: Bed, side: str) -> Iterator[Step]:
    """From a host without a connection to one without a connection."""
    first, another, waiting = volumes = [bed.volume() for _ in range(3)]
    bed.grant(first)
    yield FIRST_ATTACH, bed.connect(side, first)
    time.sleep(1)  # the other paths are connected, too
    bed.grant(another)
    yield NEXT_ATTACH, bed.connect(side, another)
    yield WAITING_ATTACH, granted_meanwhile(bed, side, waiting)
    yield PROPERTIES, bed.timed(side, "own_properties")
    yield ALL_PROPERTIES, bed.timed(side, "properties", bed.host.address)
    for volume in reversed(volumes):
        in_brick, to_gone = detached(bed, side, volume)
        yield DETACH, in_brick
        yield DETACH_TO_GONE, to_gone
    bed.look("wait_until_disconnected")
    for volume in volumes:
        bed.delete(volume)


def granted_meanwhile(bed: Bed, side: str, volume: str) -> float:
    """Seconds from access granted to the device returned, of an attach that began before."""
    with ThreadPoolExecutor(1) as beside:
        attached = beside.submit(bed.connect, side, volume)
        time.sleep(random.uniform(*WAITED_SECONDS))  # noqa: S311 - no secrets
        bed.grant(volume)
        return seconds_of(attached.result)


def detached(bed: Bed, side: str, volume: str) -> Step:
    """Seconds in os-brick, and to the device's end when access is removed right after."""
    with ThreadPoolExecutor(1) as beside:
        gone = beside.submit(bed.look, "wait_until_gone", volume)
        began = time.monotonic()
        in_brick = bed.disconnect(side, volume)
        bed.revoke(volume)
        gone.result()
        return in_brick, time.monotonic() - began


def seconds_of(wait: Callable[[], object]) -> float:
    began = time.monotonic()
    wait()
    return time.monotonic() - began
