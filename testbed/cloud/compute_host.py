# SPDX-License-Identifier: Apache-2.0
"""A compute host: nova-compute, libvirt and QEMU on a Linux with nvme-tcp.

QEMU emulates the instances' CPUs, so no host needs hardware for virtualization. libvirt, and the
secure shell by which Nova prepares folders on another host, come from the distribution's packages,
unpacked in the cache and laid over the host's own /usr: nothing of them is installed on the
machine.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from testbed.cinder.configuration import Section
from testbed.cinder.paths import PYTHON, VENV_BIN
from testbed.cloud import packages
from testbed.cloud.database import Schema
from testbed.cloud.deployment import Deployment, Endpoint, write_configuration, write_file
from testbed.cloud.service_host import ServiceHost
from testbed.network import COMPUTE_ADDRESSES
from testbed.polling import wait_until

COMPUTE = "nova-compute"
LIBVIRTD = "libvirtd"
SSHD = "sshd"
HOSTS = dict(zip(("compute1", "compute2"), COMPUTE_ADDRESSES, strict=True))
"""Address by name."""
MEMORY_MIB = 1536
LIBVIRTD_SECONDS = 180.0
TRANSLATION_CACHE_MIB = 8
"""QEMU's, for each instance: a process on such a host can map little memory."""
_LIBVIRT_USER = "libvirt-qemu"
_LIBVIRTD_CONF = """
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
host_uuid = "{host_uuid}"
"""
_SSHD_CONF = """
ListenAddress {address}
HostKey /root/.ssh/id_ed25519
PermitRootLogin prohibit-password
StrictModes no
"""
# No control groups, namespaces or security driver: the kernel has none of them. Without a log
# daemon, QEMU writes consoles to their files itself.
_QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
"""


class ComputeHost(ServiceHost):
    """The host `name`; its instances' files are in the cloud's folder and survive a reboot."""

    def __init__(self, deployment: Deployment, name: str, address: str, cpu: int) -> None:
        super().__init__(deployment, name, address, MEMORY_MIB, cpu)

    @property
    def state(self) -> Path:
        return self.deployment.state(f"nova-{self.name}")

    def boot(self) -> None:
        """Boot, start discovery client, sshd and libvirt. Raises `GuestError`."""
        super().boot()
        self._lay_over(self._packages.root / "usr")
        names = "".join(f"{address} {name}\n" for name, address in HOSTS.items())
        self.guest.write_file("/etc/hosts", f"127.0.0.1 localhost\n{names}".encode())
        self._start_sshd()
        self._start_libvirtd()

    def _start_sshd(self) -> None:
        """Let whoever has the cloud's key in; it is the hosts' own key, too."""
        self.guest.shell(
            f"echo {SSHD}:x:64056:64056::/run/sshd:/bin/false >>/etc/passwd; mkdir -p /run/sshd;"
            "rm -f /root/.bashrc"  # the machine's, which may take longer than all that is asked for
        )
        private, public = (path.read_bytes() for path in _key_files(self.deployment))
        known = b",".join(address.encode() for address in HOSTS.values()) + b" " + public
        for name, content in {
            "id_ed25519": private,
            "authorized_keys": public,
            "known_hosts": known,
        }.items():
            self.guest.write_file(f"/root/.ssh/{name}", content, 0o600)
        configuration = _SSHD_CONF.format(address=self.address)
        self.guest.write_file("/etc/ssh/sshd_config", configuration.encode())
        self.launch_program(SSHD, ["/usr/sbin/sshd", "-D", "-e"])

    def _start_libvirtd(self) -> None:
        self.guest.shell(
            f"echo {_LIBVIRT_USER}:x:64055:64055::/var/lib/libvirt:/bin/false >>/etc/passwd;"
            f"echo {_LIBVIRT_USER}:x:64055: >>/etc/group;"
            "mkdir -p /etc/libvirt /var/lib/libvirt; mount -t tmpfs tmpfs /var/lib/libvirt"
        )
        libvirtd = _LIBVIRTD_CONF.format(host_uuid=self.guest.host_id)
        self.guest.write_file("/etc/libvirt/libvirtd.conf", libvirtd.encode())
        self.guest.write_file("/etc/libvirt/qemu.conf", _QEMU_CONF.encode())
        self.launch_program(LIBVIRTD, ["libvirtd", "--listen"])
        wait_until(self._libvirt_answers, f"libvirtd of {self.name}", LIBVIRTD_SECONDS, pause=0.5)

    def configure(self, sections: Mapping[str, Section]) -> Path:
        """Write nova.conf: these sections, and what is this host's own."""
        conf = {**sections, **self._sections()}
        for name in ("api_database", "database"):  # which a compute host must not use
            del conf[name]
        conf["DEFAULT"] = {**sections["DEFAULT"], **conf["DEFAULT"]}
        # Whoever names a new compute node after a lost file would find its instances elsewhere.
        write_file(self.state / "compute_id", self.guest.host_id)
        self._instances.mkdir(exist_ok=True)
        return write_configuration(self._configuration, conf)

    def start_compute(self, theirs: Sequence[str] = ()) -> None:
        """Start nova-compute as it was configured; `theirs`: see `mixed_compute`."""
        bindings = self._packages.root / "usr/lib/python3/dist-packages"
        mixed = (PYTHON, "-m", "testbed.cloud.mixed_compute", *theirs, "--")
        program = mixed if theirs else (VENV_BIN / COMPUTE,)
        self.launch_program(
            COMPUTE,
            [*program, "--config-file", self._configuration],
            {"PYTHONPATH": str(bindings)},
        )

    def reboot(self) -> None:
        """Cut the power and boot again, but for nova-compute: its instances are gone."""
        self.guest.stop()
        self.boot()

    def cut_off(self) -> None:
        """Pull the host's cable: its instances go on, and reach nothing."""
        self.deployment.network.set_tap(self.guest.tap, up=False)

    def reconnect(self) -> None:
        self.deployment.network.set_tap(self.guest.tap, up=True)

    def virsh(self, *words: str) -> str:
        """What virsh prints."""
        return self.guest.run(["virsh", "-c", "qemu:///system", *words]).stdout

    @property
    def _instances(self) -> Path:
        return self.state / "instances"

    @property
    def _configuration(self) -> Path:
        return self.deployment.configuration(f"nova-{self.name}") / "nova.conf"

    @property
    def _packages(self) -> packages.Packages:
        return packages.unpacked(packages.HYPERVISOR)

    def _lay_over(self, folder: Path) -> None:
        """Show what is in a folder of the machine in /usr, too."""
        self.guest.shell(
            f"mkdir -p /mnt/packages; mount -t hostfs -o {folder} packages /mnt/packages;"
            "mount -t overlay -o lowerdir=/mnt/packages:/usr overlay /usr"
        )

    def _libvirt_answers(self) -> bool:
        self.deployment.check_wanted()
        done = self.guest.run(["virsh", "-c", "qemu:///system", "version"], check=False)
        return done.returncode == 0

    def _sections(self) -> dict[str, Section]:
        """Sections of nova.conf that differ from those of the controller's services."""
        # As root, without a rootwrap configuration.
        helper = f"privsep-helper --config-file {self._configuration}"
        return {
            "DEFAULT": {
                "host": self.name,
                "my_ip": self.address,
                "compute_driver": "libvirt.LibvirtDriver",
                "state_path": self.state,
                "instances_path": self._instances,
                "reserved_host_memory_mb": 0,
                # By default 4 for the host's one; tempest keeps a class's instances to its end.
                "cpu_allocation_ratio": 16,
                "resume_guests_state_on_host_boot": True,
                "pointer_model": "ps2mouse",
                # By default 20 s, in which a busy machine does not even begin.
                "reimage_timeout_per_gb": 300,
                # A boot sector does not hear that it is asked to shut down.
                "shutdown_timeout": 0,
                # It forks, and in user-mode Linux a fork of so large a process takes long.
                "update_resources_interval": 600,
            },
            "libvirt": {
                "virt_type": "qemu",
                "images_type": "raw",
                "tb_cache_size": TRANSLATION_CACHE_MIB,
                "live_migration_scheme": "tcp",
                "live_migration_inbound_addr": self.address,
            },
            "vnc": {"enabled": False},
            "privsep_osbrick": {"helper_command": helper},
            "nova_sys_admin": {"helper_command": helper},
            "oslo_concurrency": {"lock_path": "/run/nova-locks"},
        }


@dataclass
class ComputeHosts:
    """The compute hosts of a cloud, as a part of it: up to where nova-compute can be started."""

    title = "Compute hosts: boot, discovery client, libvirt"
    after: tuple[str, ...] = ()
    schemas: tuple[Schema, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    users: tuple[str, ...] = ()
    hosts: list[ComputeHost] = field(default_factory=list, init=False)

    def start(self, deployment: Deployment) -> None:
        self.hosts = compute_hosts(deployment)
        _make_key(deployment, packages.unpacked(packages.HYPERVISOR))
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(ComputeHost.boot, self.hosts))


def _key_files(deployment: Deployment) -> tuple[Path, Path]:
    """The private and the public half of the compute hosts' key."""
    private = deployment.state("compute-key") / "id_ed25519"
    return private, private.with_suffix(".pub")


def _make_key(deployment: Deployment, unpacked: packages.Packages) -> None:
    private, _ = _key_files(deployment)
    command = [unpacked.root / "usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private]
    subprocess.run(command, check=True)


def compute_hosts(deployment: Deployment) -> list[ComputeHost]:
    """The compute hosts of a cloud, not started; each has one of the machine's CPUs."""
    cpus = itertools.cycle(sorted(os.sched_getaffinity(0)))
    return [
        ComputeHost(deployment, name, address, cpu)
        for (name, address), cpu in zip(HOSTS.items(), cpus, strict=False)
    ]
