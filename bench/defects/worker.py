# SPDX-License-Identifier: Apache-2.0
"""Runs the scenarios of a Cinder host against one driver: a number is the question, the
observation the answer.

The worker starts a lab of its own, so that the faults of one do not meet another's calls.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.defects.bed import OTHER_PROJECT, Bed
from bench.defects.catalogue import DEFECTS
from bench.driver_process import is_incumbent, serve
from testbed.cinder.volume_manager import VolumeManager
from testbed.cluster import free_port, loopback_addresses, running_lab


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
        yield lambda number: defects[number].answer(bed)


if __name__ == "__main__":
    serve(scenarios())
