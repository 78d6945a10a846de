# SPDX-License-Identifier: Apache-2.0
"""A soak of the discovery client: what a host wants and what nodes serve changes for long.

Files of many volumes on several clusters come, change, move and go at random, and nodes are
stopped and started. Whenever that rests, the kernel must be connected to exactly what the files
want; and in the same state, later, neither the daemon nor a lab may use more than before.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from testbed.discovery_daemon import FOLDER
from testbed.guest import Guest
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.volumes import Volumes
from tests.soak.files import Change, Folder, Volume
from tests.soak.processes import Usage, growth, usage

DAEMON = "discovery client"
_WARM_UP_PART = 0.25
_NODE_STEP_PART = 0.04
_LONGEST_PAUSE_SECONDS = 0.2
_SETTLE_SECONDS = 300
_REST_SECONDS = 3.0
_RESTS = 20
_API_CALLS_AT_ONCE = 8
_GUEST_SIDE = "tests.soak.guest_side"


def make_volumes(lab: Lab, volumes: Volumes, host_nqn: str, count: int) -> list[Volume]:
    """That many volumes on a lab, of which the host may use each."""
    services = tuple(node["address"] for node in lab.info["nodes"])

    def make(_number: int) -> Volume:
        return Volume(volumes.create(host_nqn).uuid, lab.subsystem_nqn, services)

    with ThreadPoolExecutor(_API_CALLS_AT_ONCE) as pool:
        return list(pool.map(make, range(count)))


@dataclass
class Soak:
    """A host with a discovery client that runs, and labs of which every node is up."""

    host: Guest
    labs: Sequence[Lab]
    volumes: Sequence[Volume]
    dice: random.Random
    note: Callable[[str], None] = lambda _text: None
    samples: dict[str, dict[str, Usage]] = field(default_factory=dict)
    """By moment and process."""
    steps: Counter[str] = field(default_factory=Counter)
    _down: list[tuple[Lab, str]] = field(default_factory=list)
    """Nodes that are stopped, by name."""

    def run(self, seconds: float) -> list[str]:
        """Change things for that long; returns what grew, in words.

        Raises TimeoutError when the kernel's connections do not become what is wanted.
        """
        folder = Folder(self.volumes, self.host.host_nqn, self.dice)
        self._sample("start")
        for part, moment in ((_WARM_UP_PART, "after warm-up"), (1 - _WARM_UP_PART, "end")):
            try:
                self._churn(folder, seconds * part)
            finally:
                while self._down:
                    self._start_a_node()
            self._apply(folder.tidied())
            self._settle(folder)
            # The state to compare: everything is wanted.
            self._apply(folder.filled())
            self._settle(folder)
            time.sleep(_REST_SECONDS)
            self._sample(moment)
        return self._growth()

    def _growth(self) -> list[str]:
        """What grew and stays so: what is under way has time to end."""
        give_up_at = time.monotonic() + _REST_SECONDS * _RESTS
        while grown := growth(self.samples["after warm-up"], self.samples["end"]):
            if time.monotonic() > give_up_at:
                break
            time.sleep(_REST_SECONDS)
            self._sample("end")
        return grown

    def _churn(self, folder: Folder, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            if self.dice.random() < _NODE_STEP_PART:
                kind = self._change_a_node()
            else:
                kind, change = folder.step()
                self._apply(change)
            self.steps[kind] += 1
            time.sleep(self.dice.uniform(0, _LONGEST_PAUSE_SECONDS))

    def _change_a_node(self) -> str:
        """Stop or start one; of each cluster one node stays, to tell of the others."""
        lab = self.dice.choice(self.labs)
        down = {name for each, name in self._down if each is lab}
        up = [node["name"] for node in lab.info["nodes"] if node["name"] not in down]
        if len(up) > 1 and (not self._down or self.dice.random() < 0.5):
            name = self.dice.choice(up)
            lab.stop_node(name)
            self._down.append((lab, name))
            return "stop a node"
        if self._down:
            self._start_a_node()
        return "start a node"

    def _start_a_node(self) -> None:
        lab, name = self._down.pop(self.dice.randrange(len(self._down)))
        lab.start_node(name)

    def _apply(self, change: Change) -> None:
        if change != Change():
            self.host.call(f"{_GUEST_SIDE}.change", FOLDER, **change.as_arguments())

    def _settle(self, folder: Folder) -> None:
        """Wait until the kernel has just what the files want, connections and devices."""
        connections = sorted(
            [lab.subsystem_nqn, node["address"], "live"]
            for lab in self.labs
            for node in lab.info["nodes"]
            if lab.subsystem_nqn in folder.wanted
        )
        uuids = sorted(v.uuid for v in self.volumes if v.subsystem_nqn in folder.wanted)

        def settled() -> bool:
            return (
                sorted(self.host.call(f"{_GUEST_SIDE}.connections")) == connections
                and sorted(self.host.call(f"{_GUEST_SIDE}.volume_uuids")) == uuids
            )

        what = f"{len(connections)} connections and {len(uuids)} block devices, and no others"
        try:
            wait_until(settled, what, _SETTLE_SECONDS, pause=1.0)
        except TimeoutError as error:
            actual = sorted(self.host.call(f"{_GUEST_SIDE}.connections"))
            error.add_note(f"wanted {connections}\nthere are {actual}")
            raise
        self.note(f"{what}: so it is")

    def _sample(self, moment: str) -> None:
        pid = self.host.call(f"{_GUEST_SIDE}.daemon_pid")
        fields = self.host.call("tests.soak.processes.usage", pid)
        self.samples[moment] = {DAEMON: Usage(*fields)} | {
            f"lab {number}": Usage(*usage(lab.info["pid"]))
            for number, lab in enumerate(self.labs, start=1)
        }
