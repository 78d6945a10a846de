# SPDX-License-Identifier: Apache-2.0
"""`make bench-lab`: the lab's data path beside the kernel's own target backed by RAM.

fio runs in one guest, first on a volume of the lab (3 replicas, three paths), then on a kernel
nvmet target in the same guest; a plain user-space client on this machine shows the lab without
the emulated CPU. Prints a table and writes bench/results/lab.json.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightos.api.models.values import ALLOW_ANY
from lightos.api.models.volumes import CreateVolume
from lightos.nvme_tcp import commands
from lightos.nvme_tcp.commands import Command
from lightos.waiting import Deadline
from testbed import nvme
from testbed.initiator import Initiator
from testbed.kernel_host import KernelHost
from testbed.kernel_image import kernel_image
from testbed.lab import Lab
from testbed.network import Network
from testbed.nvmet import IO_PORT, RamTarget

RESULTS = Path(__file__).parent / "results" / "lab.json"
SIZE_MIB = 128
RUN_SECONDS = 4
KIB = 1024
PROJECT = "default"


@dataclass(frozen=True)
class Workload:
    name: str
    pattern: str
    """fio's `rw`."""
    block_bytes: int
    queue_depth: int


@dataclass(frozen=True)
class Figures:
    operations_per_second: float
    mib_per_second: float
    latency_p50_microseconds: float | None = None
    latency_p99_microseconds: float | None = None


WORKLOADS = (
    Workload("4K randread QD 1", "randread", 4 * KIB, 1),
    Workload("4K randread QD 16", "randread", 4 * KIB, 16),
    Workload("4K randwrite QD 1", "randwrite", 4 * KIB, 1),
    Workload("4K randwrite QD 16", "randwrite", 4 * KIB, 16),
    Workload("128K read QD 4", "read", 128 * KIB, 4),
    Workload("128K write QD 4", "write", 128 * KIB, 4),
)


def fio(host: KernelHost, device: str, workload: Workload) -> Figures:
    report = host.run(
        [
            *("fio", "--name=bench", f"--filename={device}", "--direct=1", "--ioengine=libaio"),
            *(f"--rw={workload.pattern}", f"--bs={workload.block_bytes}"),
            *(f"--iodepth={workload.queue_depth}", f"--size={SIZE_MIB}m"),
            *("--lat_percentiles=1", "--clat_percentiles=0"),
            *("--time_based", f"--runtime={RUN_SECONDS}", "--output-format=json"),
        ]
    )
    job = json.loads(report.stdout)["jobs"][0]
    return figures(job["read" if "read" in workload.pattern else "write"])


def figures(direction: dict[str, Any]) -> Figures:
    """Of the `read` or `write` part of a job in fio's JSON report."""
    percentiles = direction["lat_ns"]["percentile"]
    return Figures(
        operations_per_second=direction["iops"],
        mib_per_second=direction["bw_bytes"] / KIB**2,
        latency_p50_microseconds=percentiles["50.000000"] / 1000,
        latency_p99_microseconds=percentiles["99.000000"] / 1000,
    )


def measure(console: Console, where: str, host: KernelHost, device: str) -> list[Figures]:
    fill = ["dd", "if=/dev/urandom", f"of={device}", "bs=1M", f"count={SIZE_MIB}", "oflag=direct"]
    host.run([*fill, "conv=fsync", "status=none"])
    found = []
    for workload in WORKLOADS:
        with console.status(f"{where}: {workload.name}"):
            found.append(fio(host, device, workload))
    return found


def measure_lab(
    console: Console, network: Network, host: KernelHost
) -> tuple[list[Figures], list[Figures]]:
    """The lab's figures, from fio in the guest and from the user-space client."""
    with (
        tempfile.TemporaryDirectory(prefix="lightos-bench-") as folder,
        Lab(network, Path(folder)) as lab,
    ):
        request = CreateVolume(
            project=PROJECT,
            name="bench",
            size_bytes=SIZE_MIB * KIB**2,
            acl=(ALLOW_ANY,),
            replica_count=3,
        )
        volume = lab.client().create_volume(PROJECT, request, Deadline(30))
        nvme.connect_all(host, network.node_addresses[0])
        try:
            in_guest = measure(console, "lab", host, nvme.wait_for_device(host, volume.uuid))
        finally:
            nvme.disconnect(host, lab.subsystem_nqn)
        with Initiator(
            lab.node_address(volume.primary_node_uuid),
            lab.info["nvme_port"],
            lab.subsystem_nqn,
            host_nqn="nqn.2014-08.org.nvmexpress:lightos-bench",
        ) as initiator:
            in_user_space = []
            for workload in WORKLOADS:
                with console.status(f"user-space client: {workload.name}"):
                    in_user_space.append(run_in_user_space(initiator, volume.nsid, workload))
        return in_guest, in_user_space


def run_in_user_space(initiator: Initiator, nsid: int, workload: Workload) -> Figures:
    started = time.monotonic()
    jobs = user_space_jobs(initiator, nsid, workload, ends_at=started + RUN_SECONDS)
    replies = initiator.io[0].pipeline(jobs, workload.queue_depth)
    done = sum(1 for reply in replies if reply.check(workload.name))
    per_second = done / (time.monotonic() - started)
    return Figures(per_second, per_second * workload.block_bytes / KIB**2)


def user_space_jobs(
    initiator: Initiator, nsid: int, workload: Workload, *, ends_at: float
) -> Iterator[tuple[Command, bytes]]:
    """Commands of a workload, over the whole volume, until the clock says `ends_at`."""
    block_bytes = initiator.block_size(nsid)
    count = workload.block_bytes // block_bytes
    places = SIZE_MIB * KIB**2 // workload.block_bytes
    data = os.urandom(workload.block_bytes)
    number = 0
    while time.monotonic() < ends_at:
        at = number % places
        if workload.pattern.startswith("rand"):
            at = random.randrange(places)  # noqa: S311 - where to read is no secret
        if "read" in workload.pattern:
            yield commands.read(nsid, at * count, count, block_size=block_bytes), b""
        else:
            yield commands.write(nsid, at * count, count, block_size=block_bytes), data
        number += 1


def measure_kernel_target(console: Console, host: KernelHost) -> list[Figures]:
    with RamTarget(host, size_mib=SIZE_MIB) as target:
        host.run(
            [
                *("nvme", "connect", "-t", "tcp", "-a", target.address, "-s", str(IO_PORT)),
                *("-n", target.subsystem_nqn),
            ]
        )
        try:
            uuid = target.namespace_uuid()
            return measure(console, "kernel target", host, nvme.wait_for_device(host, uuid))
        finally:
            nvme.disconnect(host, target.subsystem_nqn)


def table(
    lab: Sequence[Figures], kernel: Sequence[Figures], user_space: Sequence[Figures]
) -> Table:
    shown = Table("workload", "target", "IOPS", "MiB/s", "p50 µs", "p99 µs", "ratio")
    shown.title = "The lab's data path, and a kernel target's backed by RAM in the same guest"
    for column in shown.columns[2:]:
        column.justify = "right"
    for workload, ours, theirs, plain in zip(WORKLOADS, lab, kernel, user_space, strict=True):
        ratio = ours.operations_per_second / theirs.operations_per_second
        shown.add_row(workload.name, "kernel", *_cells(theirs), "1.00")
        shown.add_row("", "lab", *_cells(ours), f"{ratio:.2f}")
        shown.add_row("", "lab, no VM", *_cells(plain), "", end_section=True)
    return shown


def _cells(row: Figures) -> list[str]:
    latencies = (row.latency_p50_microseconds, row.latency_p99_microseconds)
    return [
        f"{row.operations_per_second:,.0f}",
        f"{row.mib_per_second:,.1f}",
        *("" if latency is None else f"{latency:,.0f}" for latency in latencies),
    ]


def main() -> int:
    console = Console()
    release = kernel_image().release  # fetched here: inside, no archive can be reached
    with (
        Network.for_this_process("bench") as network,
        network.entered(),
        KernelHost(network, memory_mib=1024) as host,
    ):
        host.run(["modprobe", "nvme-tcp"])
        kernel = measure_kernel_target(console, host)
        lab, user_space = measure_lab(console, network, host)
    console.print(table(lab, kernel, user_space))
    result = {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, guest {release}",
        "rows": [
            {
                "workload": asdict(workload),
                "kernel_target_fio": asdict(theirs),
                "lab_fio": asdict(ours),
                "lab_user_space": asdict(plain),
            }
            for workload, ours, theirs, plain in zip(
                WORKLOADS, lab, kernel, user_space, strict=True
            )
        ],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
