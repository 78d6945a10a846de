# SPDX-License-Identifier: Apache-2.0
"""`make soak`: `python -m tests.soak --seconds 600 --seed N`; the seed is printed."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed.discovery_daemon import DiscoveryDaemon
from testbed.lab import Lab
from testbed.network import Network
from testbed.uml_host import UmlHost
from testbed.uml_kernel import uml_kernel
from tests.kernel.volumes import Volumes
from tests.soak.files import Volume
from tests.soak.soak import Soak, make_volumes

VOLUMES = 500
LABS = 3
NODES = 3
MEMORY_MIB = 1536


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of random changes")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--volumes", type=int, default=VOLUMES)
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"seed {arguments.seed}")
    uml_kernel()  # before the network is left, from where no package archive can be reached
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lightos-soak-")))
        network = stack.enter_context(Network.for_this_process("soak"))
        stack.enter_context(network.entered())
        host = UmlHost(network, memory_mib=MEMORY_MIB)
        host.launch()
        stack.callback(host.stop)
        labs = [stack.enter_context(lab) for lab in _labs(network, folder)]
        host.wait_ready()
        volumes: list[Volume] = []
        for number, lab in enumerate(labs):
            client = lab.client()
            count = len(range(number, arguments.volumes, LABS))
            volumes += make_volumes(lab, Volumes(client), host.host_nqn, count)
            client.close()
        console.print(f"{len(volumes)} volumes on {LABS} clusters of {NODES} nodes")
        stack.enter_context(DiscoveryDaemon(host))
        dice = random.Random(arguments.seed)
        soak = Soak(host, labs, volumes, dice, console.print)
        try:
            problems = soak.run(arguments.seconds)
        except TimeoutError as error:
            problems = ["\n".join([str(error), *getattr(error, "__notes__", ())])]
        console.print(_table(soak))
        steps = ", ".join(f"{count} x {kind}" for kind, count in soak.steps.most_common())
        console.print(f"{soak.steps.total()} changes: {steps}")
    for problem in problems:
        console.print(problem)
    console.print("failed" if problems else "passed", f"(seed {arguments.seed})")
    return 1 if problems else 0


def _labs(network: Network, folder: Path) -> list[Lab]:
    """Clusters of three nodes, each node at an address of its own."""
    hosts = itertools.count(21)
    labs = []
    for number in range(LABS):
        addresses = tuple(f"192.168.75.{next(hosts)}" for _ in range(NODES))
        for address in addresses:
            network.add_address(address)
        labs.append(Lab(network, folder / f"lab{number}", addresses=addresses))
    return labs


def _table(soak: Soak) -> Table:
    moments = list(soak.samples)
    table = Table(
        "process", *(f"{what}, {moment}" for what in ("MiB", "fds") for moment in moments)
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for process in soak.samples[moments[0]]:
        usages = [soak.samples[moment][process] for moment in moments]
        table.add_row(
            process,
            *(f"{usage.memory_kib / 1024:.1f}" for usage in usages),
            *(str(usage.descriptors) for usage in usages),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
