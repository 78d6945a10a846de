# SPDX-License-Identifier: Apache-2.0
"""What the demo shows, in a network namespace of its own: services up, the life of a volume."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from openstack.exceptions import SDKException
from rich.console import Console

from demo.steps import Steps
from lightos.api.errors import LightOSError
from lightos.api.models.volumes import Volume
from lightos.cli.lab_folder import page_url
from lightos.lab.process import PAGE_PORT
from lightos.lab.state_folder import StateFolder
from testbed import forwarder, nvme
from testbed.cinder.client import Attachment, CinderClient, openstack_command
from testbed.cinder.errors import CinderFailed, CinderTimeout, ResourceFailed
from testbed.cinder.service import CinderService
from testbed.forwarder import listening_socket
from testbed.guest import GuestError, GuestProcess
from testbed.kernel_host import KernelHost
from testbed.kernel_image import CHECKOUT, KernelImageError, kernel_image
from testbed.lab import Lab, LabError
from testbed.network import HOST_ADDRESSES, Network, NetworkError
from testbed.polling import wait_until

NETWORK = Network("lightos-demo")
STATE = CHECKOUT / ".cache" / "demo"
CINDER_PORT = 8776
PROJECT = "default"
TRANSITION_MILLISECONDS = 300
API_SECONDS = 30.0
GONE_SECONDS = 20.0

CLIENT_LOG = "/run/discovery-client.log"

DATA = "/mnt/data"
FIO_SECONDS = 24
NODE_DOWN_AFTER_SECONDS = 4
NODE_UP_AFTER_SECONDS = 10
FIO = [
    *nvme.IGNORING_SIGPIPE,
    *("fio", "--name=failover", f"--filename={DATA}/fio", "--size=32m", "--direct=1"),
    *("--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=8"),
    *("--verify=crc32c", "--verify_fatal=1", "--verify_backlog=512"),
    *("--time_based", f"--runtime={FIO_SECONDS}", "--output-format=json"),
]


class DemoFailed(Exception):
    """What the demo promises was not seen; says what was."""


FAILURES = (
    *(CinderFailed, CinderTimeout, ResourceFailed, SDKException),
    *(DemoFailed, GuestError, KernelImageError, LabError, LightOSError, NetworkError),
    TimeoutError,
)


class Demo:
    """Everything that is started, and the steps that use it, in the order they are shown."""

    def __init__(self, console: Console) -> None:
        self.steps = Steps(console)
        self._inside = contextlib.ExitStack()
        self.lab = Lab(NETWORK, STATE / "lab", transition_ms=TRANSITION_MILLISECONDS)
        self.host1 = KernelHost(NETWORK, "host1", HOST_ADDRESSES[0])
        self.host2 = KernelHost(NETWORK, "host2", HOST_ADDRESSES[1])

    def run(self, *, keep: bool = False) -> None:
        self.start()
        self.volume_in_use()
        self.snapshot_and_clone()
        self.grow()
        self.lose_a_node()
        self.second_host()
        self.clean_up()
        if keep:
            self.volume_to_look_at()

    def start(self) -> None:
        with self.steps.step("Fetch and unpack a Linux kernel with nvme-tcp") as step:
            step.evidence = kernel_image().release
        NETWORK.create()
        page = listening_socket(PAGE_PORT)
        self.lab.page_port = page.getsockname()[1]
        self._inside.enter_context(NETWORK.entered())
        with self.steps.step("Start the lab cluster: 3 nodes") as step:
            shutil.rmtree(STATE, ignore_errors=True)
            STATE.mkdir(parents=True)
            logging.basicConfig(filename=STATE / "demo.log")
            self.host1.launch()
            self.lab.start()
            self._publish(page)
            self.api = self.lab.client()
            step.evidence = ", ".join(node["address"] for node in self.lab.info["nodes"])
        with self.steps.step("Start Cinder: API, scheduler, volume") as step:
            self.cinder = CinderService(
                STATE / "cinder", self.lab.info, CINDER_PORT, namespace=NETWORK.name
            )
            self.cinder.start().wait_ready()
            self.client = CinderClient.of(self.cinder)
            pool = self.client.wait_for_pools()[0]
            step.evidence = f"pool {pool['name']} up"
        with self.steps.step("Boot the first host, start its discovery client") as step:
            self.host1.wait_ready()
            self.start_discovery_client(self.host1)
            implementation = self.host1.call("testbed.brick.implementation")
            step.evidence = f"os-brick's LIGHTOS connector is {implementation}"
        self.host2.launch()

    def _publish(self, page: socket.socket) -> None:
        """Open the lab's page on the machine's own loopback, too; its port is the same there."""
        rule = f"{page.fileno()}:127.0.0.1:{self.lab.page_port}"
        with page, open(STATE / "forwarder.log", "wb") as log:
            subprocess.Popen(
                [sys.executable, "-P", forwarder.__file__, rule],
                pass_fds=[page.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self) -> None:
        """End everything that runs in the namespace, and the namespace."""
        self._inside.close()
        NETWORK.destroy()

    def start_discovery_client(self, host: KernelHost) -> None:
        host.warm_up()
        host.run(["modprobe", "nvme-tcp"])
        command = shlex.join([f"{Path(sys.executable).parent}/lightos", "discovery-client"])
        client = host.popen(["sh", "-c", f"exec {command} >{CLIENT_LOG} 2>&1"])

        def answers() -> bool:
            if client.poll() is not None:
                said = host.read_file(CLIENT_LOG).decode().strip()
                raise DemoFailed(f"the discovery client of {host.name} ended: {said}")
            return host.call("testbed.brick.properties", host.address)["found_dsc"] == "found"

        wait_until(answers, f"the discovery client of {host.name} to answer", timeout_seconds=90)

    def volume_in_use(self) -> None:
        with self.steps.step("Create a volume type: compressed, 3 replicas"):
            self.volume_type = self.client.create_type(
                "lightos-compressed",
                {
                    "volume_backend_name": "lightos",
                    "compression": "<is> True",
                    "lightos:num_replicas": "3",
                    "multiattach": "<is> True",
                },
            )
        with self.steps.step("Create a volume of it: 1 GiB") as step:
            self.volume = self.client.create_volume(1, name="data", volume_type=self.volume_type)
            seen = self.lightos_volume()
            expect(seen.compression, f"volume {seen.uuid} is compressed")
            expect(seen.replica_count == 3, f"volume {seen.uuid} has 3 replicas")
            step.evidence = f"{seen.state.name}, compressed, {seen.replica_count} replicas"
        with self.steps.step("Attach it to the first host") as step:
            self.attached, self.device = self.attach(self.volume.id, self.host1)
            nodes = len(self.lab.info["nodes"])
            wait_until(
                lambda: len(self.paths()) == nodes,
                f"{self.device} to have a path to each of {nodes} nodes",
                timeout_seconds=60,
            )
            step.evidence = f"{self.device}: {', '.join(self.paths())}"
        with self.steps.step("Make an ext4 file system, write files with checksums") as step:
            self.host1.shell(f"mkfs.ext4 -q {self.device}; mkdir -p {DATA}")
            self.host1.shell(f"mount {self.device} {DATA}")
            step.evidence = self.write_files(DATA, "old")

    def snapshot_and_clone(self) -> None:
        with self.steps.step("Take a snapshot") as step:
            self.host1.shell(f"fsfreeze -f {DATA}")
            try:
                self.snapshot = self.client.create_snapshot(
                    self.volume.id, name="before", force=True
                )
            finally:
                self.host1.shell(f"fsfreeze -u {DATA}")
            step.evidence = self.snapshot.status
        with self.steps.step("Change the data") as step:
            step.evidence = self.write_files(DATA, "new")
        with self.steps.step("Make a volume from the snapshot") as step:
            self.restored = self.client.create_volume(
                1, name="restored", volume_type=self.volume_type, snapshot=self.snapshot
            )
            step.evidence = self.restored.status
        with self.steps.step("Clone the volume, attached as it is") as step:
            self.host1.shell(f"fsfreeze -f {DATA}")
            try:
                self.clone = self.client.create_volume(
                    1, name="clone", volume_type=self.volume_type, source=self.volume
                )
            finally:
                self.host1.shell(f"fsfreeze -u {DATA}")
            step.evidence = self.clone.status
        for volume, content in ((self.restored, "old"), (self.clone, "new")):
            with self.steps.step(f"Attach '{volume.name}': the {content} content") as step:
                attachment, device = self.attach(volume.id, self.host1)
                folder = f"/mnt/{volume.name}"
                self.host1.shell(f"mkdir -p {folder}; mount {device} {folder}")
                step.evidence = self.check_files(folder, content)
                self.host1.shell(f"umount {folder}")
                self.detach(attachment, device, self.host1)

    def grow(self) -> None:
        with self.steps.step("Extend the attached volume to 2 GiB, grow the file system") as step:
            self.client.extend_volume(self.volume.id, 2)
            size_bytes = self.host1.call("testbed.brick.extend", self.attached.connection_info)
            expect(size_bytes == 2 << 30, f"{self.device} has 2 GiB, not {size_bytes} bytes")
            self.host1.shell(f"resize2fs {self.device} 2>&1")
            blocks = self.host1.shell(f"df -B1M --output=size {DATA} | tail -n 1").strip()
            step.evidence = f"{self.device} {size_bytes} bytes, file system {blocks} MiB"

    def lose_a_node(self) -> None:
        primary = self.lab.node_name(self.lightos_volume().primary_node_uuid)
        with self.steps.step(f"Write and verify with fio while {primary} stops and starts") as step:
            healthy = sorted(self.paths())
            fio = self.host1.popen(FIO)
            started = time.monotonic()
            self.at(started + NODE_DOWN_AFTER_SECONDS, fio)
            self.lab.stop_node(primary)
            successor = self.lab.node_name(self.lightos_volume().primary_node_uuid)
            expect(successor != primary, f"another node than {primary} is primary")
            self.at(started + NODE_UP_AFTER_SECONDS, fio)
            self.lab.start_node(primary)
            report = json.loads(fio.wait(FIO_SECONDS + 120).stdout)["jobs"][0]
            expect(report["error"] == 0, f"fio saw no error, not {report['error']}")
            wait_until(
                lambda: sorted(self.paths()) == healthy,
                f"every path of {self.device} to be live again",
                timeout_seconds=60,
            )
            step.evidence = (
                f"{report['write']['total_ios']} writes, {report['read']['total_ios']} verified, "
                f"0 errors; {successor} took over"
            )

    def second_host(self) -> None:
        with self.steps.step("Boot a second host, start its discovery client"):
            self.host2.wait_ready()
            self.start_discovery_client(self.host2)
        with self.steps.step("Attach the same volume to it as well") as step:
            second, device = self.attach(self.volume.id, self.host2)
            acl = self.lightos_volume().acl
            expect(len(acl) == 2, f"both hosts are in the volume's ACL, which is {acl}")
            label = "sha256sum | cut -c1-12"
            seen = [
                host.shell(f"dd if={path} bs=1M count=1 skip=1 iflag=direct status=none | {label}")
                for host, path in ((self.host1, self.device), (self.host2, device))
            ]
            expect(seen[0] == seen[1], f"both hosts read the same, not {seen}")
            step.evidence = f"host1 {self.device}, host2 {device}, same bytes"
        with self.steps.step("Detach from both: the devices disappear") as step:
            self.detach(second, device, self.host2)
            step.evidence = self.check_files(DATA, "new")
            self.host1.shell(f"umount {DATA}")
            self.detach(self.attached, self.device, self.host1)

    def clean_up(self) -> None:
        with self.steps.step("Delete everything"):
            for volume in (self.restored, self.clone):
                self.client.delete_volume(volume.id)
            self.client.delete_snapshot(self.snapshot.id)
            self.client.delete_volume(self.volume.id)
            self.client.delete_type(self.volume_type)
        with self.steps.step("See that nothing is left, in the cluster and on the hosts") as step:
            deadline = self.api.deadline(API_SECONDS)
            volumes = list(self.api.list_volumes(PROJECT, show_all=True, deadline=deadline))
            snapshots = list(self.api.list_snapshots(PROJECT, show_all=True, deadline=deadline))
            expect(not volumes and not snapshots, f"the cluster is empty: {volumes} {snapshots}")
            for host in (self.host1, self.host2):
                wait_until(
                    lambda host=host: not leftovers(host),
                    f"{host.name} to have neither device nor discovery file",
                    timeout_seconds=GONE_SECONDS,
                )
            step.evidence = "0 volumes, 0 snapshots, 0 devices, 0 discovery files"

    def volume_to_look_at(self) -> None:
        with self.steps.step("Attach a volume to the first host, for the lab's page") as step:
            volume = self.client.create_volume(1, name="kept")
            _, device = self.attach(volume.id, self.host1)
            step.evidence = f"{device} on host1"

    # ---------------------------------------------------------------- the hosts' side

    def attach(self, volume_id: str, host: KernelHost) -> tuple[Attachment, str]:
        """Attach as Nova does: ask Cinder, let os-brick connect, tell Cinder that it is done."""
        properties = host.call("testbed.brick.properties", host.address)
        attachment = self.client.attach(volume_id, properties)
        device = host.call("testbed.brick.connect", attachment.connection_info)
        self.client.complete_attachment(attachment)
        return attachment, device["path"]

    def detach(self, attachment: Attachment, device: str, host: KernelHost) -> None:
        """Detach as Nova does, and see the device go."""
        host.call("testbed.brick.disconnect", attachment.connection_info)
        self.client.detach(attachment)
        wait_until(
            lambda: not host.shell(f"ls {device} 2>/dev/null || true").strip(),
            f"{device} to disappear from {host.name}",
            timeout_seconds=GONE_SECONDS,
        )

    def paths(self) -> list[str]:
        """Controller state and ANA state of every path to the volume on the first host."""
        paths = nvme.paths(self.host1, self.device)
        return [f"{path.controller_state} {path.ana_state}" for path in paths]

    def write_files(self, folder: str, content: str) -> str:
        self.host1.shell(
            f"cd {folder}; for n in 1 2 3 4; do (echo {content} $n; head -c 2097152 /dev/urandom)"
            f" >file$n; done; sha256sum file? >sums; sync -f {folder}"
        )
        return self.check_files(folder, content)

    def check_files(self, folder: str, content: str) -> str:
        seen = self.host1.shell(f"cd {folder}; sha256sum --quiet -c sums; head -n 1 -q file? | cat")
        wanted = "".join(f"{content} {number}\n" for number in (1, 2, 3, 4))
        expect(seen == wanted, f"{folder} holds the {content} content, not {seen!r}")
        return f"4 files, {content} content, checksums match"

    # ---------------------------------------------------------------- the cluster's side

    def lightos_volume(self) -> Volume:
        name = f"volume-{self.volume.id}"
        return self.api.get_volume_by_name(PROJECT, name, deadline=self.api.deadline(API_SECONDS))

    def at(self, moment: float, fio: GuestProcess) -> None:
        """Wait for a moment of fio's run, which must still go on then."""
        time.sleep(max(0.0, moment - time.monotonic()))
        expect(fio.poll() is None, f"fio still runs; it printed {(fio.stdout + fio.stderr)[-500:]}")


def expect(condition: object, statement: str) -> None:
    """Raises DemoFailed unless `condition` holds; `statement` says what should be."""
    if not condition:
        raise DemoFailed(f"expected that {statement}")


def leftovers(host: KernelHost) -> list[str]:
    """NVMe block devices and discovery files that a host still has."""
    listing = host.shell("ls -d /sys/class/block/nvme* /etc/discovery-client/discovery.d/* || true")
    return listing.split()


def usage(demo: Demo) -> str:
    """How to use what a kept demo left running."""
    command = shlex.join(openstack_command(demo.cinder))
    lightos = f"{Path(sys.executable).parent}/lightos"
    inside = shlex.join(NETWORK.command([]))
    return "\n".join(
        [
            "",
            "Everything still runs. OpenStack's command line, ready to paste:",
            f"  {command} volume create --size 1 mine",
            f"  {command} volume list",
            "The lab:",
            f"  {inside} {lightos} lab status --state-dir {STATE / 'lab'}",
            "The lab's page, for a browser on this machine; `make demo-page` stops a node on it:",
            f"  {page_url(demo.lab.info, StateFolder(STATE / 'lab'))}",
            "A shell on a host:",
            f"  {sys.executable} -m testbed.kernel_host --network {NETWORK.name} --name host1",
            f"Cinder's log: {demo.cinder.log_file}",
            "End all of it with: make demo-down",
        ]
    )
