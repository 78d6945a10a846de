# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel's own NVMe/TCP target in a guest, backed by the guest's RAM.

The yardstick of `make bench-lab`, and an independent peer for the discovery client and the
connector: its discovery service answers on the same ports as the I/O controller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from testbed.kernel_host import KernelHost

CONFIGFS = "/sys/kernel/config"
SUBSYSTEM_NQN = "nqn.2014-08.org.nvmexpress:lightos-testbed-ram"
IO_PORT = 4420
DISCOVERY_PORT = 8009

_START = """
modprobe -a nvmet nvmet-tcp
modprobe brd rd_nr=1 rd_size={size_kib}
mountpoint -q {configfs} || mount -t configfs configfs {configfs}
cd {configfs}/nvmet
mkdir subsystems/{nqn}
echo 1 >subsystems/{nqn}/attr_allow_any_host
mkdir subsystems/{nqn}/namespaces/1
echo -n /dev/ram0 >subsystems/{nqn}/namespaces/1/device_path
echo 1 >subsystems/{nqn}/namespaces/1/enable
for port in {ports}; do
    mkdir ports/$port
    echo ipv4 >ports/$port/addr_adrfam
    echo tcp >ports/$port/addr_trtype
    echo {address} >ports/$port/addr_traddr
    echo $port >ports/$port/addr_trsvcid
    ln -s {configfs}/nvmet/subsystems/{nqn} ports/$port/subsystems/{nqn}
done
"""

_STOP = """
cd {configfs}/nvmet || exit 0
for port in {ports}; do
    [ -e ports/$port ] || continue
    rm -f ports/$port/subsystems/{nqn}
    rmdir ports/$port
done
if [ -e subsystems/{nqn} ]; then
    echo 0 >subsystems/{nqn}/namespaces/1/enable
    rmdir subsystems/{nqn}/namespaces/1 subsystems/{nqn}
fi
modprobe -r brd
"""


@dataclass(frozen=True)
class RamTarget:
    """One namespace (nsid 1, any host admitted) of `size_mib`, served from `host`'s address."""

    host: KernelHost
    size_mib: int = 128
    subsystem_nqn: str = SUBSYSTEM_NQN

    @property
    def address(self) -> str:
        return self.host.address

    def start(self) -> None:
        self.host.shell(self._script(_START))

    def namespace_uuid(self) -> str:
        """The namespace's UUID, which the kernel makes up at each start."""
        folder = f"{CONFIGFS}/nvmet/subsystems/{self.subsystem_nqn}/namespaces/1"
        return self.host.read_file(f"{folder}/device_uuid").decode().strip()

    def stop(self) -> None:
        """Take the target down; connected hosts lose it. Can be repeated."""
        self.host.shell(self._script(_STOP))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _script(self, template: str) -> str:
        return template.format(
            configfs=CONFIGFS,
            nqn=self.subsystem_nqn,
            address=self.address,
            ports=f"{IO_PORT} {DISCOVERY_PORT}",
            size_kib=self.size_mib * 1024,
        )
