# SPDX-License-Identifier: Apache-2.0
"""Runs scenarios against one driver: numbers in on stdin, one JSON line out for each.

`LIGHTOS_OVERLAY=0` in the environment makes it cinder's own driver. The worker starts a lab of
its own, so that the faults of one do not meet another's calls.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from bench.defects.bed import OTHER_PROJECT, Bed
from bench.defects.catalogue import DEFECTS
from bench.defects.defect import Defect
from testbed.cinder.volume_manager import VolumeManager
from testbed.cluster import free_port, loopback_addresses, running_lab


def answer(defect: Defect, bed: Bed) -> dict[str, object]:
    """The observation, or why there is none, as it is sent to whoever asked."""
    try:
        observation = defect.scenario(bed)
    except Exception:  # noqa: BLE001 - reported, and the next scenario can still be run
        return {"number": defect.number, "failed": traceback.format_exc()}
    finally:
        bed.faults.clear()
    return {
        "number": defect.number,
        "defect": observation.defect,
        "seen": observation.seen,
    }


def main() -> None:
    defects = {defect.number: defect for defect in DEFECTS}
    incumbent = os.environ.get("LIGHTOS_OVERLAY") == "0"
    # Cinder prints to stdout here and there; what we say goes to the pipe it was.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with (
        tempfile.TemporaryDirectory(prefix="lightos-defects-") as name,
        running_lab(
            Path(name, "lab"),
            addresses=",".join(["127.0.0.1", *loopback_addresses(3)[1:]]),  # localhost, for one
            discovery_port=free_port(),
            nvme_port=free_port(),
            projects=OTHER_PROJECT,
        ) as lab,
    ):
        folder = Path(name, "cinder")
        folder.mkdir()
        bed = Bed(incumbent, lab, VolumeManager(folder, lab))
        for line in sys.stdin:
            print(json.dumps(answer(defects[line.strip()], bed)), file=replies)
    replies.close()
    os._exit(0)  # Cinder's threads would keep the process


if __name__ == "__main__":
    main()
