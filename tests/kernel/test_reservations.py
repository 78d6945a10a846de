# SPDX-License-Identifier: Apache-2.0
"""Two Linux hosts share a volume, and one fences the other with NVMe reservations.

All of it goes through the multipath head, so the kernel chooses the controller.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from lightos.nvme_tcp.constants import ReservationNoticeType, ReservationType, Status
from testbed import nvme
from testbed.guest import Guest, GuestCallFailed
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from tests.kernel.controllers import controllers
from tests.kernel.volumes import Volumes

A_KEY, B_KEY = 0xA1B2C3D4E5F60718, 0xB
WRITE_EXCLUSIVE = ReservationType.WRITE_EXCLUSIVE
REGISTRANTS_ONLY = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
EXCLUSIVE_ACCESS = ReservationType.EXCLUSIVE_ACCESS
CONFLICT = (Status.RESERVATION_CONFLICT, 0x18)
"""Linux 6.1 returns the status of NVMe, later ones PR_STS_RESERVATION_CONFLICT."""


@dataclass(frozen=True)
class SharedDevice:
    """The volume as one of the hosts has it."""

    host: Guest
    device: str

    def call(self, function: str, *arguments: object) -> int:
        result = self.host.call(
            f"tests.kernel.guest_reservations.{function}", self.device, *arguments
        )
        return int(result)

    def ioctl(self, function: str, *arguments: object) -> int:
        """The result without Do Not Retry."""
        return self.call(function, *arguments) & 0x7FF

    def write(self, byte: int) -> int:
        return self.call("write_block", byte)

    def read(self) -> int:
        return self.call("read_block")

    def nvme(self, command: str, *options: str, check: bool = True) -> str:
        done = self.host.run(["nvme", command, self.device, *options], check=check)
        return done.stdout + done.stderr

    def report(self) -> Any:
        return nvme.nvme_json(self.host, "resv-report", self.device, "--eds")


@dataclass(frozen=True)
class Shared:
    a: SharedDevice
    b: SharedDevice
    primary_node_uuid: str


@pytest.fixture
def shared(
    connected: KernelHost, second_host: KernelHost, lab: Lab, volumes: Volumes
) -> Iterator[Shared]:
    """A volume on two hosts, with three paths each."""
    volume = volumes.create(connected.host_nqn, second_host.host_nqn)
    nvme.connect_all(second_host, lab.network.node_addresses[2])
    try:
        a, b = (
            SharedDevice(host, nvme.wait_for_device(host, volume.uuid))
            for host in (connected, second_host)
        )
        for each in (a, b):
            wait_until(lambda each=each: len(nvme.paths(each.host, each.device)) == 3, "3 paths")
        yield Shared(a, b, volume.primary_node_uuid)
    finally:
        nvme.disconnect(second_host, lab.subsystem_nqn)


def test_nvme_cli_fences_a_host(shared: Shared, lab: Lab) -> None:
    a, b = shared.a, shared.b
    for each, key in ((a, A_KEY), (b, B_KEY)):
        each.nvme("resv-register", f"--nrkey={key:#x}", "--rrega=0", "--cptpl=3")
    b.nvme("resv-acquire", f"--crkey={B_KEY:#x}", "--rtype=3", "--racqa=0")
    assert b.write(1) == a.write(2) == 0, "registrants may write"
    report = a.report()
    assert (report["gen"], report["rtype"], report["ptpls"]) == (2, 3, 1)
    registrants = report["regctlext"]
    assert {r["rkey"]: r["rcsts"] for r in registrants} == {A_KEY: 0, B_KEY: 1}
    assert {UUID(bytes=bytes.fromhex(r["hostid"])) for r in registrants} == {
        UUID(each.host.host_id) for each in (a, b)
    }

    wrong = a.nvme("resv-acquire", f"--crkey={B_KEY:#x}", "--rtype=3", "--racqa=1", check=False)
    assert "RESERVATION_CONFLICT" in wrong.upper().replace(" ", "_")
    keys = (f"--crkey={A_KEY:#x}", f"--prkey={B_KEY:#x}")
    a.nvme("resv-acquire", *keys, "--rtype=3", "--racqa=1")
    assert a.write(3) == 0
    assert b.write(4) == errno.EBADE
    assert a.read() == b.read() == 3
    (holder,) = b.report()["regctlext"]
    assert (holder["rkey"], holder["rcsts"]) == (A_KEY, 1)
    for controller in controllers(b.host, lab.subsystem_nqn).values():
        told = nvme.nvme_json(b.host, "resv-notif-log", f"/dev/{controller}")
        assert told["rn_log_type"] == ReservationNoticeType.REGISTRATION_PREEMPTED

    a.nvme("resv-release", f"--crkey={A_KEY:#x}", "--rtype=3", "--rrela=0")
    assert b.write(5) == 0
    a.nvme("resv-register", f"--crkey={A_KEY:#x}", "--rrega=1")
    assert not b.report()["regctlext"]


def test_ioctls_of_the_kernel_fence_a_host_that_writes(shared: Shared) -> None:
    a, b = shared.a, shared.b
    assert a.ioctl("register", 0, A_KEY) == b.ioctl("register", 0, B_KEY) == 0
    assert b.ioctl("reserve", B_KEY, WRITE_EXCLUSIVE) == 0
    assert a.ioctl("reserve", A_KEY, WRITE_EXCLUSIVE) in CONFLICT
    assert a.write(1) == errno.EBADE
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(b.call, "write_until_refused", 2)
        wait_until(lambda: a.read() == 2, "the other host writes")
        assert a.ioctl("preempt", B_KEY, A_KEY, WRITE_EXCLUSIVE, True) in CONFLICT, "not its key"
        # The kernel's old_key is whom to preempt's in SCSI, here the current key of the caller.
        assert a.ioctl("preempt", A_KEY, B_KEY, WRITE_EXCLUSIVE, True) == 0
        assert a.write(3) == 0
        assert writing.result(timeout=60) == errno.EBADE
    assert a.read() == b.read() == 3
    assert b.ioctl("reserve", B_KEY, WRITE_EXCLUSIVE) in CONFLICT, "it is not registered any more"
    assert a.ioctl("release", A_KEY, WRITE_EXCLUSIVE) == 0
    assert b.write(4) == 0

    assert b.ioctl("register", 0, B_KEY, 1) == 0  # PR_FL_IGNORE_KEY
    assert b.ioctl("reserve", B_KEY, EXCLUSIVE_ACCESS) == 0
    with pytest.raises(GuestCallFailed, match="Invalid exchange"):
        a.read()
    assert a.ioctl("clear", A_KEY) == 0
    assert a.read() == 4
    assert b.ioctl("clear", B_KEY) in CONFLICT


def test_a_fenced_host_stays_out_when_the_primary_moves(shared: Shared, lab: Lab) -> None:
    a, b = shared.a, shared.b
    assert a.ioctl("register", 0, A_KEY) == b.ioctl("register", 0, B_KEY) == 0
    assert a.ioctl("reserve", A_KEY, REGISTRANTS_ONLY) == 0
    assert a.ioctl("preempt", A_KEY, B_KEY, REGISTRANTS_ONLY, False) == 0
    assert a.write(1) == 0
    node = lab.node_name(shared.primary_node_uuid)
    lab.stop_node(node)
    try:
        assert b.write(2) == errno.EBADE
        assert a.write(3) == 0
        assert b.read() == 3
        assert b.ioctl("register", 0, B_KEY) == 0
        assert b.write(4) == 0, "a registrant again, by the other node"
    finally:
        lab.start_node(node)
    assert a.ioctl("clear", A_KEY) == 0
