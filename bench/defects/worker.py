# SPDX-License-Identifier: Apache-2.0
"""Runs scenarios against one driver: a number is the question, the observation the answer.

The worker starts a lab of its own, so that the faults of one do not meet another's calls.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.defects.bed import OTHER_PROJECT, Bed
from bench.defects.catalogue import DEFECTS
from bench.defects.defect import Defect
from bench.driver_process import is_incumbent, serve
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


@contextmanager
def scenarios() -> Iterator[Callable[[str], dict[str, object]]]:
    """Answers a defect's number with what its scenario shows."""
    defects = {defect.number: defect for defect in DEFECTS}
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
        bed = Bed(is_incumbent(), lab, VolumeManager(folder, lab))
        yield lambda number: answer(defects[number], bed)


if __name__ == "__main__":
    serve(scenarios())
