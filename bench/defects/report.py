# SPDX-License-Identifier: Apache-2.0
"""Shares the scenarios out to workers and puts the two sides' answers beside each other."""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.defects.catalogue import DEFECTS
from bench.defects.defect import Defect, Place
from bench.driver_process import DriverDied, DriverProcess

RESULTS = Path(__file__).parents[1] / "results" / "defects.json"
INCUMBENT_WORKERS = 3
"""The incumbent mostly sleeps."""
OUR_WORKERS = 2
ON_A_CINDER_HOST = (Place.CINDER, Place.CINDER_WITHOUT_HOST_NQN)
LANES = (
    *[(True, ON_A_CINDER_HOST)] * INCUMBENT_WORKERS,
    *[(False, ON_A_CINDER_HOST)] * OUR_WORKERS,
    (True, (Place.COMPUTE,)),
    (False, (Place.COMPUTE,)),
)
"""What is done beside each other: whether it is the incumbent, and the places one by one."""

HIDE_HOST_NQN = """
mount -t tmpfs -o ro,size=4k none /etc/nvme
nvme=$(command -v nvme) && mount --bind /bin/false "$nvme"
exec "$@"
"""


@dataclass(frozen=True)
class Answer:
    """What one side showed in a scenario; `failed` says why it could not be run to its end."""

    defect: bool = False
    seen: str = ""
    failed: str = ""

    @property
    def word(self) -> str:
        return "failed" if self.failed else "defect" if self.defect else "ok"


@dataclass(frozen=True)
class Row:
    defect: Defect
    incumbent: Answer
    ours: Answer

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.defect.number,
            "what": self.defect.what,
            "incumbent": {"defect": self.incumbent.defect, "seen": self.incumbent.seen},
            "ours": {"defect": self.ours.defect, "seen": self.ours.seen},
        }


class Worker(DriverProcess):
    """A process with one of the two sides, in a place."""

    def __init__(self, *, incumbent: bool, place: Place) -> None:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        module, inside = {
            Place.CINDER: ("worker", []),
            Place.CINDER_WITHOUT_HOST_NQN: (
                "worker",
                ["unshare", *user, "--mount", "sh", "-c", HIDE_HOST_NQN, "sh"],
            ),
            Place.COMPUTE: ("compute_worker", ["unshare", *user, "--mount", "--net"]),
        }[place]
        super().__init__(f"bench.defects.{module}", incumbent=incumbent, inside=inside)

    def run(self, defect: Defect) -> Answer:
        try:
            reply = self.ask(defect.number)
        except DriverDied as death:
            return Answer(failed=str(death))
        reply.pop("number")
        return Answer(**reply)


def run(
    defects: Iterable[Defect], note: Callable[[Defect, bool, Answer], None] = lambda *_: None
) -> list[Row]:
    """Run every scenario on both sides; `note` hears of each answer as it comes."""
    defects = list(defects)
    answers: dict[tuple[str, bool], Answer] = {}

    def drain(jobs: queue.SimpleQueue[Defect], incumbent: bool, place: Place) -> None:
        if jobs.empty():
            return
        worker = Worker(incumbent=incumbent, place=place)
        try:
            while True:
                defect = jobs.get_nowait()
                answer = worker.run(defect)
                answers[defect.number, incumbent] = answer
                note(defect, incumbent, answer)
                if worker.has_ended:
                    worker = Worker(incumbent=incumbent, place=place)
        except queue.Empty:
            return
        finally:
            worker.end()

    def run_lane(incumbent: bool, places: Iterable[Place]) -> None:
        for place in places:
            drain(jobs[incumbent, place], incumbent, place)

    jobs: dict[tuple[bool, Place], queue.SimpleQueue[Defect]] = {
        (incumbent, place): queue.SimpleQueue() for incumbent in (True, False) for place in Place
    }
    for defect in defects:
        for incumbent in (True, False):
            jobs[incumbent, defect.place].put(defect)
    with ThreadPoolExecutor(len(LANES)) as pool:
        list(pool.map(lambda lane: run_lane(*lane), LANES))
    return [Row(each, answers[each.number, True], answers[each.number, False]) for each in defects]


def incumbent() -> str:
    """The packages that the incumbent is part of."""
    return ", ".join(f"{name} {version(name)}" for name in ("cinder", "os-brick", "nova"))


def table(rows: Iterable[Row]) -> Table:
    found = Table(
        "No.",
        "Defect",
        incumbent(),
        "ours",
        title="Known defects of the LightOS support that OpenStack ships",
        show_lines=True,
    )
    colours = {"defect": "red", "ok": "green", "failed": "yellow"}
    for row in rows:
        cells = [
            f"[{colours[answer.word]}]{answer.word}[/] {answer.seen or answer.failed}"
            for answer in (row.incumbent, row.ours)
        ]
        found.add_row(row.defect.number, row.defect.what, *cells)
    return found


def write(rows: Iterable[Row]) -> None:
    document = {
        "incumbent": incumbent(),
        "ours": f"lightos-openstack {version('lightos-openstack')}",
        "defects": [row.to_json() for row in rows],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """Run all defects, or those whose numbers are given; 1 when ours shows one."""
    console = Console()
    chosen = [each for each in DEFECTS if not arguments or each.number in arguments]
    with console.status("") as status:

        def note(defect: Defect, incumbent: bool, answer: Answer) -> None:
            who = "incumbent" if incumbent else "ours"
            status.update(f"{defect.number} {who}: {answer.word}")

        rows = run(chosen, note)
    console.print(table(rows))
    shown = [
        sum(answer.defect for answer in answers)
        for answers in ([row.incumbent for row in rows], [row.ours for row in rows])
    ]
    failed = sum(bool(answer.failed) for row in rows for answer in (row.incumbent, row.ours))
    console.print(
        f"{len(rows)} scenarios: the incumbent shows {shown[0]}, ours {shown[1]}; {failed} failed"
    )
    if not arguments and not failed:
        write(rows)
    return 1 if shown[1] or failed else 0
