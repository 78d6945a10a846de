# SPDX-License-Identifier: Apache-2.0
"""A volume in use keeps its data, and all but one fault keep its I/O, while its paths fail.

What each fault is, and how it is known that the host met it, is in `bench.paths.faults`; what
each came to stands in a table at the end of the run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.paths.bed import SHORT_TIMEOUTS, Bed, volume_in_use
from bench.paths.faults import (
    FAULTS,
    PathFault,
    drop_to_node,
    freeze_node,
    lose_all_for_less,
    stop_two_nodes,
)
from bench.paths.report import Outcome, measure
from lightos.api.client import LightOSClient
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.lab import Lab

WRITE_BLOCK = "printf '%s' '{text}' | dd of={device} bs=4k conv=sync oflag=direct status=none"
READ_BLOCK = "dd if={device} bs=4k count=1 iflag=direct status=none | tr -d '\\0'"
BY_DAY = {stop_two_nodes, drop_to_node, freeze_node, lose_all_for_less}
"""Faults that are as different from each other as they come, and short."""
RESET = """
for address in /sys/class/nvme/nvme*/address; do
    case $(cat $address) in
        *traddr={address},*) echo 1 >${{address%/address}}/reset_controller ;;
    esac
done
"""


@pytest.fixture(scope="module")
def bed(host: KernelHost, lab: Lab, client: LightOSClient) -> Iterator[Bed]:
    with (
        DiscoveryDaemon(host, SHORT_TIMEOUTS) as daemon,
        volume_in_use(host, lab, daemon, client) as made,
    ):
        yield made


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault, id=fault.name, marks=[] if fault.happen in BY_DAY else pytest.mark.nightly
        )
        for fault in FAULTS
    ],
)
def test_fio_verifies_what_it_wrote_while_paths_fail(
    bed: Bed, fault: PathFault, path_outcomes: list[Outcome]
) -> None:
    outcome = measure(bed, fault)
    path_outcomes.append(outcome)
    assert bool(outcome.during.failed_rounds) is fault.loses_io
    assert outcome.after.failed_rounds == 0
    assert outcome.during.verified_bytes > 0 or fault.loses_io
    assert outcome.after.verified_bytes == outcome.after.written_bytes > 0


def test_a_write_that_its_host_has_retried_elsewhere_never_lands(bed: Bed) -> None:
    """Held by the node that was primary, given up by the host, and released when it is late."""
    old, device = bed.primary, bed.device
    faults = bed.faults_but_at(old)
    before = bed.traffic()
    bed.host.shell(WRITE_BLOCK.format(device=device, text="oldest"))
    with faults.during(address=old, hold="writes") as held:
        late = bed.host.popen(["sh", "-euc", WRITE_BLOCK.format(device=device, text="late")])
        bed.wait(lambda: bed.traffic()["heldWrites"] > before["heldWrites"], "the write is held")
        with faults.during(address=old, demote=True):
            bed.wait_for_another_primary(old)
            assert late.poll() is None
            bed.host.shell(RESET.format(address=old))  # what else takes the I/O time-out, 30 s
            late.wait()
            bed.host.shell(WRITE_BLOCK.format(device=device, text="newest"))
            written = bed.traffic()
            faults.clear(held)
            bed.wait(
                lambda: bed.traffic()["pathRefusals"] > written["pathRefusals"],
                "the late write is refused",
            )
            assert bed.traffic()["writtenBytes"] == written["writtenBytes"]
    assert bed.host.shell(READ_BLOCK.format(device=device)) == "newest"
    bed.wait_for_paths()
