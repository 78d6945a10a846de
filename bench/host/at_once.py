# SPDX-License-Identifier: Apache-2.0
"""Many attaches at once in one service, a thread for each volume.

Access is granted before, as Cinder does it before Nova calls os-brick.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.host.bed import Bed
from bench.host.one_at_a_time import Samples
from bench.part import Note, Result
from bench.sides import SIDES

ROUNDS = 3
VOLUMES = 50
ATTACH = f"{VOLUMES} attaches at once, all done"
DETACH = f"{VOLUMES} detaches at once, all devices gone"
GHOST_SECONDS = 10.0


def measure(bed: Bed, note: Note) -> Result:
    """Rows, and what was left on the host by side: devices, discovery files."""
    samples = Samples()
    ghosts = dict.fromkeys(SIDES, 0)
    for number in range(ROUNDS):
        for side in SIDES:
            note(f"{side}, {VOLUMES} volumes at once, round {number + 1} of {ROUNDS}")
            attach, detach, left = a_round(bed, side)
            samples.add(side, ATTACH, attach)
            samples.add(side, DETACH, detach)
            ghosts[side] += left
    return {"rows": samples.rows(), "ghosts": ghosts}


def a_round(bed: Bed, side: str) -> tuple[float, float, int]:
    """Seconds to attach all, seconds to the end of all devices, and how many did not end."""
    kept, *volumes = [bed.volume() for _ in range(1 + VOLUMES)]
    bed.grant(kept)
    bed.connect(side, kept)  # so the host is connected
    time.sleep(1)

    def detach(volume: str) -> None:
        bed.disconnect(side, volume)
        bed.revoke(volume)

    for volume in volumes:
        bed.grant(volume)
    attached = bed.connect_at_once(side, *volumes)
    began = time.monotonic()
    with ThreadPoolExecutor(len(volumes)) as threads:
        list(threads.map(detach, volumes))
    ghosts = bed.look("devices_left", GHOST_SECONDS, *volumes)
    detached = time.monotonic() - began
    ghosts += len(bed.daemon.files()) - 1
    detach(kept)
    bed.look("wait_until_disconnected")
    for volume in (kept, *volumes):
        bed.delete(volume)
    return attached, detached, ghosts
