# SPDX-License-Identifier: Apache-2.0
"""A node of the cluster appears at another address: how soon the host is connected to it.

The discovery service announces it (an AEN), our discovery client reads the log and has the kernel
connect. The host's services play no part in it, so there is nothing to compare with.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.host.bed import Bed
from bench.part import Note, Result, spread
from bench.sides import OURS
from lightos.lab.control import ControlClient
from lightos.lab.state_folder import StateFolder

ROUNDS = 5
ADDRESSES = [f"192.168.75.{host}" for host in range(21, 21 + ROUNDS)]


def measure(bed: Bed, note: Note) -> Result:
    """Seconds from the change of the log to a live controller."""
    volume = bed.volume()
    bed.grant(volume)
    bed.connect(OURS, volume)
    found = []
    for number, address in enumerate(ADDRESSES):
        note(f"a node moves, round {number + 1} of {ROUNDS}")
        time.sleep(1)
        found.append(_moved(bed, address))
    bed.disconnect(OURS, volume)
    bed.revoke(volume)
    return {"seconds": spread(found), "rounds": ROUNDS}


def _moved(bed: Bed, address: str) -> float:
    """The last node: the host's discovery session is with the first one."""
    bed.lab.network.add_address(address)
    name = bed.lab.info["nodes"][-1]["name"]
    control = ControlClient(StateFolder(bed.lab.state_dir))
    with control, ThreadPoolExecutor(1) as beside:
        live = beside.submit(bed.look, "wait_until_live", address)
        control.ask("PUT", f"nodes/{name}", {"address": address})
        began = time.monotonic()
        live.result()
        return time.monotonic() - began
