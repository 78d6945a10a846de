# SPDX-License-Identifier: Apache-2.0
"""Instances that boot from LightOS volumes, and the data they write.

    instance = instances.boot("a", host="compute1")
    with instances.watch(instance.volume_id) as watch:
        instances.live_migrate(instance, "compute2")
    watch.longest_stall_seconds
    instances.check(instance.volume_id)          # everything it wrote is there

An instance is the program of `boot_sector`. Its volumes are read by a host of our own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import BadRequestException

from testbed.cinder.client import CinderClient
from testbed.cloud.boot_sector import (
    PLACES,
    SECTOR_BYTES,
    Area,
    Progress,
    boot_sector,
    wrong_sectors,
)
from testbed.cloud.cloud import GLANCE
from testbed.cloud.database import Schema
from testbed.cloud.deployment import Deployment, Endpoint
from testbed.cloud.disk import Content, Disk, Disks
from testbed.cloud.keystone import connect
from testbed.cloud.nova import Nova
from testbed.cluster import GIB
from testbed.polling import wait_until

FLAVOR = "lightos"
IMAGE = "lightos-instance"
IMAGE_BYTES = 1 << 20
MEMORY_MIB = 32
WAIT_SECONDS = 600
WRITES = 10
"""So many writes more show that an instance uses a disk."""
_POLL_SECONDS = 0.2
_WATCH_SECONDS = 0.01


class InstanceImage:
    """An image of the program and a flavor for it, as a part of a cloud."""

    title = "An image and a flavor for instances"
    after = (GLANCE, Nova.title)
    schemas: tuple[Schema, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    users: tuple[str, ...] = ()

    def start(self, deployment: Deployment) -> None:
        admin = connect(deployment)
        flavor(admin.compute)
        content = boot_sector(Area()).ljust(IMAGE_BYTES, b"\0")
        image = admin.image.create_image(
            IMAGE,
            data=content,
            disk_format="raw",
            container_format="bare",
            visibility="public",
            validate_checksum=False,
        )
        admin.image.wait_for_status(image, status="active", wait=WAIT_SECONDS)


class InstanceFailed(Exception):
    """An instance or its data is not as it should be; says what was seen."""


@dataclass(frozen=True)
class Instance:
    """A server, the volume it boots from, and the area it works in on all its disks."""

    id: str
    name: str
    volume_id: str
    area: Area


@dataclass
class Watch:
    """What somebody else sees of an instance's progress on one disk, at every moment."""

    disk: Disk
    area: Area
    longest_stall_seconds: float = 0.0
    """The longest time between two writes of the instance."""
    writes: int = 0
    """How many it made while it was watched."""
    _ends: threading.Event = field(default_factory=threading.Event, repr=False)

    def run(self) -> None:
        """Look until `end`; an instance that writes nothing at all has stalled all the time."""
        first = last = progress(self.disk, self.area).counter
        changed_at = time.monotonic()
        while not self._ends.wait(_WATCH_SECONDS):
            counter = progress(self.disk, self.area).counter
            now = time.monotonic()
            self.longest_stall_seconds = max(self.longest_stall_seconds, now - changed_at)
            if counter != last:
                last, changed_at = counter, now
        self.writes = last - first

    def end(self) -> None:
        self._ends.set()


class Instances:
    """The instances of a cloud."""

    def __init__(self, admin: Connection, cinder: CinderClient, disks: Disks) -> None:
        self._compute = admin.compute
        self._storage = admin.block_storage
        self._image = admin.image
        self._cinder = cinder
        self._disks = disks

    # ------------------------------------------------------------------ life

    def boot(
        self,
        name: str,
        host: str,
        *,
        area: Area | None = None,
        volume_type: Any = None,
    ) -> Instance:
        """Boot from a new volume, on a host; returns when the instance writes to it."""
        area = area or Area()
        volume = self._cinder.create_volume(1, name=name, volume_type=volume_type)
        self._disks.write(volume.id, Content({0: boot_sector(area).ljust(4096, b"\0")}))
        self._storage.set_volume_bootable_status(volume, True)
        server = self._create(name, host, source_type="volume", uuid=volume.id)
        instance = Instance(server.id, name, volume.id, area)
        self._wait_running(instance)
        return instance

    def boot_image(self, name: str, host: str) -> Instance:
        """Boot from a volume that Nova has made of the image, as `--boot-from-volume` does.

        The volume is deleted with the instance.
        """
        image = self._image.find_image(IMAGE, ignore_missing=False)
        server = self._create(
            name,
            host,
            source_type="image",
            uuid=image.id,
            volume_size=1,
            delete_on_termination=True,
        )
        self.wait_status(Instance(server.id, name, "", Area()), "ACTIVE")
        (attached,) = self._compute.volume_attachments(server.id)
        instance = Instance(server.id, name, attached.volume_id, Area())
        self.wait_writes(instance)
        return instance

    def delete(self, instance: Instance) -> None:
        """Delete an instance; its volumes stay."""
        server = self.server(instance)
        self._compute.delete_server(server, force=False)
        self._compute.wait_for_delete(server, wait=WAIT_SECONDS)

    def conclude(self, instance: Instance, *volume_ids: str) -> None:
        """Detach volumes, delete the instance, see that all it wrote is on each of its volumes.

        Raises `InstanceFailed`.
        """
        for volume_id in volume_ids:
            self.detach(instance, volume_id)
            self.check(instance, volume_id)
        self.delete(instance)
        self.check(instance)

    def delete_everything(self) -> None:
        """Delete every instance, then every volume, those of Cinder's image cache among them."""
        for server in list(self._compute.servers(all_projects=True)):
            self._compute.delete_server(server, force=False)
            self._compute.wait_for_delete(server, wait=WAIT_SECONDS)
        volumes = list(self._storage.volumes(all_projects=True))
        for volume in volumes:
            if volume.status != "deleting":  # as Nova has some deleted with the instance
                self._storage.delete_volume(volume)
        for volume in volumes:
            self._storage.wait_for_delete(volume, wait=WAIT_SECONDS)

    # ------------------------------------------------------------------ operations

    def attach(self, instance: Instance, volume_id: str) -> None:
        """Attach a volume; returns when the instance writes to it."""
        self.ask_attach(instance, volume_id)
        self._wait_volume(volume_id, "in-use")
        self.wait_writes(instance, volume_id)

    def ask_attach(self, instance: Instance, volume_id: str) -> None:
        """Have a volume attached, without waiting for it."""
        self._compute.create_volume_attachment(instance.id, volume_id=volume_id)

    def detach(self, instance: Instance, volume_id: str) -> None:
        """Detach a volume; returns when Cinder has let go of this attachment."""
        self._compute.delete_volume_attachment(instance.id, volume_id)
        wait_until(
            lambda: volume_id not in self._attached(instance),
            f"{volume_id} to be detached from {instance.name}",
            WAIT_SECONDS,
        )

    def extend(self, instance: Instance, volume_id: str, size_gib: int) -> None:
        """Extend a volume that the instance uses; returns when the instance sees the new size."""
        self._cinder.extend_volume(volume_id, size_gib)
        wait_until(
            lambda: self.progress(instance, volume_id).size_bytes == size_gib * GIB,
            f"{instance.name} to see {size_gib} GiB of {volume_id}",
            WAIT_SECONDS,
        )

    def stop(self, instance: Instance) -> None:
        """Turn an instance off; its volumes stay attached to the host."""
        self._compute.stop_server(instance.id)
        self.wait_status(instance, "SHUTOFF")

    def start(self, instance: Instance) -> None:
        """Turn it on again; returns when it writes."""
        self._compute.start_server(instance.id)
        self._wait_running(instance)

    def live_migrate(self, instance: Instance, host: str) -> float:
        """Move a running instance to a host; how many seconds it took as Nova's API sees it."""
        started = time.monotonic()
        self._compute.live_migrate_server(instance.id, host=host, block_migration="auto")
        wait_until(
            lambda: self._settled_on(instance, host),
            f"{instance.name} to be on {host}",
            WAIT_SECONDS,
            pause=0.1,
        )
        return time.monotonic() - started

    def cold_migrate(self, instance: Instance, host: str) -> None:
        """Move an instance to a host, stopped on the way; returns when it writes again."""
        with self.keeping_writes(instance, "VERIFY_RESIZE"):
            self._compute.migrate_server(instance.id, host=host)
        self._confirm(instance)

    def resize(self, instance: Instance, memory_mib: int) -> None:
        """Give an instance so much memory, on whatever host; returns when it writes again."""
        with self.keeping_writes(instance, "VERIFY_RESIZE"):
            self._compute.resize_server(instance.id, flavor(self._compute, memory_mib))
        self._confirm(instance)

    def rebuild(self, instance: Instance) -> None:
        """Put the image on the instance's boot volume; returns when it writes again."""
        image = self._image.find_image(IMAGE, ignore_missing=False)
        self._compute.rebuild_server(instance.id, image)
        self._wait_running(instance)

    def shelve(self, instance: Instance) -> None:
        """Take an instance away from its host."""
        with self.keeping_writes(instance, "SHELVED_OFFLOADED"):
            self._compute.shelve_server(instance.id)

    def unshelve(self, instance: Instance, host: str) -> None:
        """Run a shelved instance on a host; returns when it writes again."""
        with self.keeping_writes(instance, "ACTIVE"):
            self._compute.unshelve_server(instance.id, host=host)
        self._wait_running(instance)

    def evacuate(self, instance: Instance, dead_host: str, host: str) -> None:
        """Run an instance of a host that is known to be dead on another; returns when it writes."""
        self._force_down(dead_host, forced=True)
        self._compute.evacuate_server(instance.id, host=host)
        wait_until(
            lambda: self._settled_on(instance, host),
            f"{instance.name} to be on {host}",
            WAIT_SECONDS,
        )
        self.wait_status(instance, "SHUTOFF")  # since microversion 2.95
        self.start(instance)

    def wait_host(self, host: str) -> None:
        """Wait until a compute host's nova-compute, started just now, has reported."""
        begun = datetime.now(UTC)

        def reported() -> bool:
            service = self._compute.find_service("nova-compute", host=host)
            updated = datetime.fromisoformat(service.updated_at).replace(tzinfo=UTC)
            return bool(service.state == "up" and updated > begun)

        wait_until(reported, f"nova-compute of {host} to report", WAIT_SECONDS, pause=0.5)

    def revive(self, host: str) -> None:
        """Tell Nova that a host is not dead any more, as soon as nova-compute, started just now,
        has cleaned up what was evacuated: before, Nova refuses it."""

        def accepted() -> bool:
            try:
                self._force_down(host, forced=False)
            except BadRequestException:
                return False
            return True

        wait_until(accepted, f"{host} to have cleaned up", WAIT_SECONDS, pause=1)
        self.wait_host(host)

    def _force_down(self, host: str, *, forced: bool) -> None:
        self._compute.update_service_forced_down(
            self._compute.find_service("nova-compute", host=host), host, "nova-compute", forced
        )

    # ------------------------------------------------------------------ what is seen

    def server(self, instance: Instance) -> Any:
        return self._compute.get_server(instance.id)

    def host(self, instance: Instance) -> str:
        """Where it is."""
        return str(self.server(instance).compute_host)

    def wait_status(self, instance: Instance, status: str) -> None:
        """Wait until no task is under way and Nova says this of it. Raises `InstanceFailed`."""

        def reached() -> bool:
            server = self.server(instance)
            if server.status == "ERROR" and status != "ERROR":
                raise InstanceFailed(f"{instance.name}: {(server.fault or {}).get('message')}")
            return server.status == status and server.task_state is None

        wait_until(reached, f"{instance.name} to be {status}", WAIT_SECONDS)

    def progress(self, instance: Instance, volume_id: str | None = None) -> Progress:
        """What the instance says of a volume, by default the one it boots from."""
        with self._disks.watched(volume_id or instance.volume_id) as disk:
            return progress(disk, instance.area)

    def wait_writes(
        self, instance: Instance, volume_id: str | None = None, *, writes: int = WRITES
    ) -> Progress:
        """Wait until the instance goes on to write to a volume of its; its progress then."""
        with self._disks.watched(volume_id or instance.volume_id) as disk:
            before = _counter(disk, instance.area)
            wait_until(
                lambda: _counter(disk, instance.area) >= before + writes,
                f"{instance.name} to write to {volume_id or instance.volume_id}",
                WAIT_SECONDS,
            )
            return progress(disk, instance.area)

    @contextmanager
    def keeping_writes(self, instance: Instance, status: str) -> Iterator[None]:
        """Wait for a status after what is done meanwhile, and see that no write was lost to it.

        A volume that was set back, with its progress, is told by the count that its instance goes
        on from: it is looked at before that has caught up. Raises `InstanceFailed`.
        """
        before = self._counters(instance)
        yield
        self.wait_status(instance, status)
        after = self._counters(instance)
        if any(after.get(volume_id, 0) < counter for volume_id, counter in before.items()):
            raise InstanceFailed(f"{instance.name} had written {before}, and now only {after}")

    @contextmanager
    def watch(self, instance: Instance, volume_id: str | None = None) -> Iterator[Watch]:
        """Measure the instance's writes to a volume meanwhile."""
        with self._disks.watched(volume_id or instance.volume_id) as disk:
            watch = Watch(disk, instance.area)
            with ThreadPoolExecutor(1, "watch") as pool:
                watching = pool.submit(watch.run)
                try:
                    yield watch
                finally:
                    watch.end()
                watching.result()

    def check(self, instance: Instance, volume_id: str | None = None) -> Progress:
        """See that all the instance wrote is on a volume that nobody uses now.

        Raises `InstanceFailed`.
        """
        volume_id = volume_id or instance.volume_id
        self._wait_volume(volume_id, "available")
        with self._disks.attached(volume_id) as disk:
            said = progress(disk, instance.area)
            start = instance.area.first_sector * SECTOR_BYTES
            wrong = wrong_sectors(said.counter, disk.read(start, PLACES * SECTOR_BYTES))
        if wrong or said.errors:
            raise InstanceFailed(
                f"{instance.name} wrote {said.counter} sectors to {volume_id}, read back "
                f"{said.errors} of them otherwise; now the places {wrong} are not as written"
            )
        return said

    # ------------------------------------------------------------------ inside

    def _create(self, name: str, host: str, **boot_device: Any) -> Any:
        return self._compute.create_server(
            name=name,
            flavor_id=flavor(self._compute).id,
            networks="none",
            availability_zone=f"nova:{host}",
            block_device_mapping=[
                {"boot_index": 0, "destination_type": "volume", **boot_device},
            ],
        )

    def _confirm(self, instance: Instance) -> None:
        self._compute.confirm_server_resize(instance.id)
        self._wait_running(instance)

    def _wait_running(self, instance: Instance) -> None:
        self.wait_status(instance, "ACTIVE")
        self.wait_writes(instance)

    def _attached(self, instance: Instance) -> set[str]:
        return {found.volume_id for found in self._compute.volume_attachments(instance.id)}

    def _counters(self, instance: Instance) -> dict[str, int]:
        """How many sectors it has written to each of its volumes."""
        counters = {}
        for volume_id in sorted(self._attached(instance)):
            with self._disks.watched(volume_id) as disk:
                counters[volume_id] = _counter(disk, instance.area)
        return counters

    def _settled_on(self, instance: Instance, host: str) -> bool:
        server = self.server(instance)
        if server.status == "ERROR":
            raise InstanceFailed(f"{instance.name}: {(server.fault or {}).get('message')}")
        if server.task_state is not None:
            return False
        here = server.compute_host
        if here != host and (failed := self._failed_migration(instance)):
            raise InstanceFailed(f"{instance.name} is still on {here}: migration {failed}")
        return here == host

    def _failed_migration(self, instance: Instance) -> str | None:
        """The status of the newest migration, if it came to nothing."""
        newest = next(iter(self._compute.migrations(instance_uuid=instance.id)), None)
        return newest.status if newest and newest.status in ("error", "failed") else None

    def _wait_volume(self, volume_id: str, status: str) -> None:
        def reached() -> bool:
            seen = self._cinder.volume(volume_id).status
            if seen.startswith("error"):
                raise InstanceFailed(f"volume {volume_id} is in {seen}")
            return bool(seen == status)

        wait_until(reached, f"volume {volume_id} to be {status}", WAIT_SECONDS)


def flavor(compute: Any, memory_mib: int = MEMORY_MIB) -> Any:
    """What an instance is given, made at first use; `compute` is openstacksdk's."""
    name = FLAVOR if memory_mib == MEMORY_MIB else f"{FLAVOR}-{memory_mib}"
    found = compute.find_flavor(name)
    return found or compute.create_flavor(name=name, ram=memory_mib, vcpus=1, disk=0)


def progress(disk: Disk, area: Area) -> Progress:
    """Raises `ValueError` as long as no instance has written to the disk."""
    return Progress.parse(disk.read(area.progress_sector * SECTOR_BYTES, SECTOR_BYTES))


def _counter(disk: Disk, area: Area) -> int:
    """0 as long as no instance has written to the disk."""
    try:
        return progress(disk, area).counter
    except ValueError:
        return 0
