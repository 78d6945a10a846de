# SPDX-License-Identifier: Apache-2.0
"""The test bed itself: what it reports when a guest, or a command in it, goes wrong."""

import os
import signal
import subprocess

import pytest

from testbed.guest import (
    GuestCallFailed,
    GuestCommandFailed,
    GuestDied,
    GuestTimeout,
)
from testbed.kernel_host import KernelHost
from testbed.kernel_image import load_order
from testbed.network import Network
from testbed.polling import wait_until

SPARE_ADDRESS = "192.168.75.120"


def test_modules_load_after_what_they_depend_on() -> None:
    modules_dep = (
        "kernel/nvme-tcp.ko.xz: kernel/nvme-fabrics.ko.xz kernel/nvme-core.ko.xz\n"
        "kernel/nvme-fabrics.ko.xz: kernel/nvme-core.ko.xz\n"
        "kernel/nvme-core.ko.xz:\n"
    )
    assert load_order(modules_dep, ["nvme_fabrics", "builtin", "nvme_tcp"]) == [
        "kernel/nvme-core.ko.xz",
        "kernel/nvme-fabrics.ko.xz",
        "kernel/nvme-tcp.ko.xz",
    ]


def test_a_command_gives_its_output_and_return_code(host: KernelHost) -> None:
    done = host.run(["sh", "-c", "cat; echo bad >&2; exit 3"], stdin=b"input", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "input", "bad\n")
    with pytest.raises(GuestCommandFailed, match="returned 3: bad"):
        host.run(["sh", "-c", "echo bad >&2; exit 3"])


def test_a_command_that_runs_too_long_is_killed(host: KernelHost) -> None:
    sleeper = host.popen(["sh", "-c", "echo started; sleep 1000"])
    with pytest.raises(GuestTimeout, match="it printed: started"):
        sleeper.wait(timeout_seconds=2)
    assert sleeper.wait(check=False).returncode == -signal.SIGKILL


def test_an_unknown_command_and_a_call_that_raises_say_so(host: KernelHost) -> None:
    with pytest.raises(GuestCallFailed) as failure:
        host.run(["no-such-command"])
    assert failure.value.type_name == "FileNotFoundError"
    with pytest.raises(GuestCallFailed, match=r"json.loads raised JSONDecodeError"):
        host.call("json.loads", "{")
    assert host.call("os.path.join", "a", "b") == "a/b"


def test_files_of_the_guest_are_not_the_machines(host: KernelHost) -> None:
    host.write_file("/etc/lightos-testbed-file", b"\x00\xff", mode=0o600)
    assert host.read_file("/etc/lightos-testbed-file") == b"\x00\xff"
    assert not os.path.exists("/etc/lightos-testbed-file")
    assert host.read_file("/etc/nvme/hostnqn").decode().strip() == host.host_nqn


def test_a_guest_that_cannot_boot_is_reported_with_its_console(network: Network) -> None:
    host = KernelHost(network, "tiny", SPARE_ADDRESS, memory_mib=64, boot_seconds=60)
    with pytest.raises(GuestDied, match=r"(?s)guest tiny is gone.*(SeaBIOS|panic)"):
        host.start()
    host.stop()


def test_leftovers_of_a_killed_run_are_removed() -> None:
    process = subprocess.Popen(["sleep", "0"])
    stale = Network(f"lightos-leftover-{process.pid}")
    stale.create()
    left_behind = stale.popen(["sleep", "1000"])
    wait_until(lambda: left_behind.pid in stale.pids(), "the process is inside")
    process.wait()
    Network.for_this_process("leftover")
    assert not stale.exists
    assert left_behind.wait(5) == -signal.SIGTERM
