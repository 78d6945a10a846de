# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.paths [WORD...]`: every fault, or those with such a word in their names.

Those that only a time-out tells of happen a second time with the daemon's default settings.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.paths import report
from bench.paths.bed import SHORT_TIMEOUTS, volume_in_use
from bench.paths.faults import FAULTS
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.kernel_image import kernel_image
from testbed.lab import Lab
from testbed.network import Network


def main(words: list[str]) -> int:
    console = Console()
    release = kernel_image().release  # fetched here: inside, no archive can be reached
    chosen = [each for each in FAULTS if not words or any(word in each.name for word in words)]
    by_default = [
        replace(fault, name=f"{fault.name}, default settings")
        for fault in chosen
        if fault.is_silent
    ]
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="lightos-paths-") as folder,
        Network.for_this_process("paths") as network,
        network.entered(),
        KernelHost(network) as host,
        Lab(network, Path(folder)) as lab,
    ):
        host.run(["modprobe", "nvme-tcp"])
        client = lab.client()
        for settings, faults in ((SHORT_TIMEOUTS, chosen), ({}, by_default)):
            if not faults:
                continue
            with (
                DiscoveryDaemon(host, settings) as daemon,
                volume_in_use(host, lab, daemon, client) as bed,
            ):
                for fault in faults:
                    with console.status(fault.name):
                        outcomes.append(report.measure(bed, fault))
        client.close()
    console.print(report.table(outcomes))
    if not words:
        report.write(outcomes, release)
        console.print(f"written to {report.RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
