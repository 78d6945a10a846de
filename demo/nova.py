# SPDX-License-Identifier: Apache-2.0
"""`make demo-nova`: instances on LightOS volumes, on two compute hosts, and a live migration."""

from __future__ import annotations

import os
import shutil
import sys

from rich.console import Console

from demo.__main__ import PLAIN_WIDTH
from demo.steps import Steps
from testbed.cinder.client import CinderClient
from testbed.cinder.errors import CinderTimeout, ResourceFailed
from testbed.cinder.paths import cache_dir
from testbed.cloud.__main__ import FAILURES as CLOUD_FAILURES
from testbed.cloud.__main__ import Lines
from testbed.cloud.boot_sector import Progress
from testbed.cloud.cloud import Cloud
from testbed.cloud.compute_host import HOSTS
from testbed.cloud.disk import Disks, InnerCluster
from testbed.cloud.instances import InstanceFailed, InstanceImage, Instances
from testbed.cloud.nova import parts_with_compute_hosts
from testbed.network import Network
from testbed.polling import wait_until

NETWORK = Network("lightos-demo-nova")
FOLDER = cache_dir() / "demo-nova"
FIRST, SECOND = HOSTS
SEEN_SECONDS = 120.0
FAILURES = (*CLOUD_FAILURES, CinderTimeout, InstanceFailed, ResourceFailed)


def show(cloud: Cloud, steps: Steps) -> None:
    """Every step, in the order it is shown."""
    cluster = InnerCluster(cloud.lab.info, cloud.network)
    cinder = CinderClient(cloud.admin.block_storage)
    instances = Instances(cloud.admin, cinder, Disks(cinder, cluster))

    with steps.step(f"Boot an instance from a volume of an image, on {FIRST}") as step:
        instance = instances.boot_image("demo", FIRST)
        step.evidence = said(instances.progress(instance))
    with steps.step("Create a volume: 1 GiB; attach it to the running instance") as step:
        data = cinder.create_volume(1, name="data")
        instances.attach(instance, data.id)
        step.evidence = said(instances.progress(instance, data.id))
    with steps.step("Extend it to 2 GiB: the instance sees the new size") as step:
        instances.extend(instance, data.id, 2)
        step.evidence = said(instances.progress(instance, data.id))
    for host in (SECOND, FIRST):
        with steps.step(f"Live migration to {host}, while it reads and writes") as step:
            with instances.watch(instance, data.id) as watch:
                seconds = instances.live_migrate(instance, host)
            step.evidence = (
                f"{seconds:.1f} s, {watch.writes} writes meanwhile, "
                f"longest stall {watch.longest_stall_seconds:.2f} s"
            )
    with steps.step("Detach the volume; read all back that the instance wrote") as step:
        instances.detach(instance, data.id)
        step.evidence = said(instances.check(instance, data.id))
    with steps.step("Delete everything") as step:
        instances.delete_everything()
        wait_until(lambda: not cluster.volumes(), "the cluster to be empty", SEEN_SECONDS)
        step.evidence = "0 volumes"


def said(progress: Progress) -> str:
    """What an instance says of a disk, in words."""
    return (
        f"{progress.counter} sectors written, {progress.errors} read back wrong, "
        f"{progress.size_bytes >> 30} GiB"
    )


def run(console: Console) -> int:
    """Start a cloud, show the steps, take the cloud away; the exit status."""
    steps = Steps(console)
    NETWORK.destroy()
    shutil.rmtree(FOLDER, ignore_errors=True)
    parts = (*parts_with_compute_hosts(), InstanceImage())
    cloud = None
    try:
        with Lines(console) as lines:
            cloud = Cloud(FOLDER, NETWORK, parts=parts, progress=lines)
            cloud.start()
        show(cloud, steps)
        console.print(steps.table())
    except FAILURES as error:
        step = f"step '{steps.failed.title}': " if steps.failed else ""
        console.print(f"make demo-nova: {step}{error}", style="red", markup=False)
        console.print(f"Logs: {FOLDER / 'logs'}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if cloud is not None:
            cloud.stop()
    return 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("make demo-nova needs root: it makes a network namespace for itself")
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    sys.exit(run(Console(highlight=False, width=width)))
