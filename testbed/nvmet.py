# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel's own NVMe/TCP target in a guest, backed by the guest's RAM.

The yardstick of `make bench-lab`, and an independent peer for the discovery client and the
connector: its discovery service answers on the same ports as the I/O controller, and another
one, on a port of its own, knows nothing but where that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from testbed.kernel_host import KernelHost

CONFIGFS = "/sys/kernel/config"
SUBSYSTEM_NQN = "nqn.2014-08.org.nvmexpress:lightos-testbed-ram"
IO_PORT = 4420
DISCOVERY_PORT = 8009
REFERRING_PORT = 8010

_START = """
modprobe -a nvmet nvmet-tcp
modprobe brd rd_nr=1 rd_size={size_kib}
mountpoint -q {configfs} || mount -t configfs configfs {configfs}
cd {configfs}/nvmet
# A port listens while something is linked to it. To this, nobody is admitted.
mkdir subsystems/{nqn} subsystems/{nqn}-none
echo 1 >subsystems/{nqn}/attr_allow_any_host
mkdir subsystems/{nqn}/namespaces/1
echo -n /dev/ram0 >subsystems/{nqn}/namespaces/1/device_path
echo 1 >subsystems/{nqn}/namespaces/1/enable
listen() {{
    mkdir $1
    echo ipv4 >$1/addr_adrfam
    echo tcp >$1/addr_trtype
    echo {address} >$1/addr_traddr
    echo $2 >$1/addr_trsvcid
}}
for port in {ports} {referring_port}; do
    listen ports/$port $port
    ln -s {configfs}/nvmet/subsystems/{nqn}-none ports/$port/subsystems
done
listen ports/{referring_port}/referrals/ram {discovery_port}
echo 1 >ports/{referring_port}/referrals/ram/enable
for port in {ports}; do
    ln -s {configfs}/nvmet/subsystems/{nqn} ports/$port/subsystems
done
"""

_STOP = """
cd {configfs}/nvmet || exit 0
for port in ports/*; do
    [ -e $port ] || continue
    rm -f $port/subsystems/*
    for referral in $port/referrals/*; do
        [ -e $referral ] || continue
        echo 0 >$referral/enable
        rmdir $referral
    done
    rmdir $port
done
for subsystem in subsystems/{nqn}*; do
    [ -e $subsystem ] || continue
    for namespace in $subsystem/namespaces/*; do
        [ -e $namespace ] || continue
        echo 0 >$namespace/enable
        rmdir $namespace
    done
    rmdir $subsystem
done
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

    def withdraw(self, port: int) -> None:
        """Stop serving at a port, whose discovery service stays."""
        self.host.run(["rm", self._link(port)])

    def offer(self, port: int) -> None:
        """Serve at a port again; its discovery service tells hosts that listen."""
        subsystem = f"{CONFIGFS}/nvmet/subsystems/{self.subsystem_nqn}"
        self.host.run(["ln", "-s", subsystem, self._link(port)])

    def _link(self, port: int) -> str:
        return f"{CONFIGFS}/nvmet/ports/{port}/subsystems/{self.subsystem_nqn}"

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
            discovery_port=DISCOVERY_PORT,
            referring_port=REFERRING_PORT,
            size_kib=self.size_mib * 1024,
        )
