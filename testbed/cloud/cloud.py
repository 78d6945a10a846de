# SPDX-License-Identifier: Apache-2.0
"""A small OpenStack cloud on one machine, with the lab cluster as its storage.

    with Cloud(folder) as cloud:
        cloud.admin.block_storage.create_volume(size=1)      # openstacksdk
        cloud.openrc                                         # for the openstack command

Everything runs in one network namespace: the lab, MariaDB, RabbitMQ, Keystone, Glance, Cinder, and
the host of cinder-volume and cinder-backup, which has a kernel of its own.
A further service is a `Part`, given to `Cloud` before it starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

from openstack.connection import Connection

from testbed import forwarder
from testbed.cinder.configuration import Section
from testbed.cinder.paths import PYTHON, VENV_BIN
from testbed.cloud import cinder, glance, keystone, openrc, packages
from testbed.cloud.database import Database, Schema
from testbed.cloud.deployment import (
    SERVICE_PROJECT,
    Deployment,
    Endpoint,
    write_file,
)
from testbed.cloud.message_bus import MessageBus
from testbed.cloud.packages import Packages
from testbed.cloud.service import Service
from testbed.cloud.tasks import Progress, Silent, Task, run_all
from testbed.cloud.volume_host import VOLUME, VolumeHost, reported_services
from testbed.forwarder import listening_socket
from testbed.lab import Lab
from testbed.life import Life
from testbed.network import Network
from testbed.polling import wait_until
from testbed.uml_kernel import uml_kernel

POOLS_SECONDS = 240.0
VOLUME_HOST_NAME = "volume1"
UNLIMITED = (
    *("volumes", "snapshots", "gigabytes", "per_volume_gigabytes"),
    *("backups", "backup_gigabytes", "groups"),
)
VOLUME_TYPES: dict[str, dict[str, str]] = {
    cinder.DEFAULT_VOLUME_TYPE: {"volume_backend_name": "lightos-1"},
    "lightos-2": {"volume_backend_name": "lightos-2"},
    "lightos-compressed": {
        "volume_backend_name": "lightos-1",
        "compression": "<is> True",
        "lightos:num_replicas": "2",
    },
    "lightos-multiattach": {"volume_backend_name": "lightos-1", "multiattach": "<is> True"},
    "lightos-encrypted": {"volume_backend_name": "lightos-1"},
}
ENCRYPTED_TYPE = "lightos-encrypted"
UNVERIFIED = {"driver_ssl_cert_verify": False}
"""What Cinder's own driver needs to use a cluster with certificates of a CA of its own."""
LUKS = {
    "provider": "luks",
    "cipher": "aes-xts-plain64",
    "key_size": 256,
    "control_location": "front-end",
}

# What is started, as it is shown; parts name those they need in `after`.
PACKAGES = "Fetch and unpack MariaDB and RabbitMQ"
LAB = "Lab cluster: 3 nodes"
SCHEMAS = "Database schemas"
MARIADB = "MariaDB"
RABBITMQ = "RabbitMQ"
KEYSTONE = "Keystone: users and catalogue"
GLANCE = "Glance"
CINDER = "Cinder: API, scheduler"
KERNEL = "Kernel with nvme-tcp for the volume host"
VOLUME_HOST = "Volume host: boot, discovery client"
CINDER_VOLUME = "Cinder: volume, backup"
VOLUME_TYPES_AND_POOLS = "Volume types; both back ends report their capacity"


class Part(Protocol):
    """A service that a cloud may have beside its own.

    `start` returns when the service answers; its `users` and `endpoints` are in Keystone and its
    `schemas` in MariaDB by then. `after`: titles of the tasks above, or of parts, that it needs.
    """

    title: str
    after: tuple[str, ...]
    schemas: tuple[Schema, ...]
    endpoints: tuple[Endpoint, ...]
    users: tuple[str, ...]

    def start(self, deployment: Deployment) -> None: ...


class Cloud(Life):
    """A cloud in `folder`, which is new or empty; its logs are in `folder`/logs.

    `network`: by default one that carries this process's pid. `transition_ms`: how long the lab
    takes for a change. `lightos`: options of both back ends that differ from the driver guide's.
    `coordination_url`: see `cinder.Cinder`. Without `with_volume_host`, cinder-volume runs among
    the other services, on a kernel that may lack nvme-tcp, and there is no cinder-backup: the
    cloud is up sooner, and all works but what moves data.
    """

    def __init__(
        self,
        folder: Path,
        network: Network | None = None,
        *,
        parts: Sequence[Part] = (),
        progress: Progress | None = None,
        transition_ms: int = 50,
        lightos: Section | None = None,
        coordination_url: str | None = None,
        with_volume_host: bool = True,
    ) -> None:
        network = network or Network.for_this_process("cloud")
        self.deployment = Deployment(network, folder.absolute())
        self.parts = tuple(parts)
        self.lab = Lab(network, self.deployment.folder / "lab", transition_ms=transition_ms)
        self._progress = progress or Silent()
        self._lightos = dict(lightos or {})
        self._coordination_url = coordination_url
        self._with_volume_host = with_volume_host
        self._packages: Packages

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """From nothing to a cloud that answers. Whatever fails, `stop` cleans up after it."""
        self.deployment.network.create()
        self.deployment.make_folders()
        self._publish()
        self.keystone = keystone.Keystone(self.deployment)
        self.glance = glance.Glance(self.deployment)
        self.cinder = cinder.Cinder(self.deployment, self._coordination_url)
        run_all(self._tasks(), self._progress, self.deployment.give_up)
        write_file(self.openrc, openrc.render(openrc.variables(self.deployment)))
        self.deployment.save()

    @classmethod
    def attach(cls, folder: Path) -> Self:
        """A cloud that another process started, to be used. Raises `FileNotFoundError`."""
        deployment = Deployment.load(folder)
        found = cls(folder, deployment.network)
        found.deployment = deployment
        found.cinder = cinder.Cinder(deployment)
        found.lab.attach()
        return found

    def stop(self) -> None:
        """End every process and the namespace. Logs and configuration stay."""
        self.deployment.give_up()
        self.deployment.network.destroy()

    # ------------------------------------------------------------------ use

    @property
    def network(self) -> Network:
        return self.deployment.network

    @property
    def openrc(self) -> Path:
        return self.deployment.openrc

    @property
    def keystone_url(self) -> str:
        """The identity API, as the machine outside the namespace reaches it."""
        return self.deployment.public_url(keystone.IDENTITY)

    @cached_property
    def admin(self) -> Connection:
        """All APIs, as the administrator, from outside the namespace."""
        return keystone.connect(self.deployment)

    @cached_property
    def volume_host(self) -> VolumeHost:
        """The host of cinder-volume and cinder-backup. After `Cloud.attach`, attach to it too."""
        return VolumeHost(
            self.deployment,
            VOLUME_HOST_NAME,
            self.deployment.configuration(f"cinder-{VOLUME_HOST_NAME}"),
            lambda: reported_services(self.admin.block_storage),
        )

    def use_incumbent(self) -> None:
        """Start cinder-volume anew with the driver and connector that ship with Cinder.

        Volumes and back ends stay. That driver cannot be given a CA, so it verifies nothing.
        """
        self._lightos |= UNVERIFIED
        self._restart_volume({"LIGHTOS_OVERLAY": "0"})

    def use_own(self) -> None:
        """Start cinder-volume anew with our driver and connector, after `use_incumbent`."""
        for name in UNVERIFIED:
            del self._lightos[name]
        self._restart_volume({})

    def _restart_volume(self, environment: Mapping[str, str]) -> None:
        self.volume_host.kill(VOLUME)
        self._configure_volume(self.volume_host.address)
        self.volume_host.launch(VOLUME, environment)
        self.volume_host.wait_up(VOLUME)

    # ------------------------------------------------------------------ starting

    def _tasks(self) -> list[Task]:
        return [
            Task(PACKAGES, self._unpack),
            Task(LAB, self._start_lab),
            Task(SCHEMAS, self._prepare_database, after=(PACKAGES,)),
            Task(MARIADB, self._start_database, after=(SCHEMAS,)),
            Task(RABBITMQ, self._start_message_bus, after=(PACKAGES,)),
            Task(KEYSTONE, self._start_keystone, after=(MARIADB,)),
            Task(GLANCE, self._start_glance, after=(MARIADB,)),
            Task(CINDER, self._start_cinder, after=(MARIADB, RABBITMQ)),
            *self._volume_tasks(),
            Task(VOLUME_TYPES_AND_POOLS, self._provide_volume_types, after=(CINDER, CINDER_VOLUME)),
            *(Task(part.title, self._starter(part), part.after) for part in self.parts),
        ]

    def _volume_tasks(self) -> list[Task]:
        needed = (LAB, KEYSTONE, RABBITMQ)
        if not self._with_volume_host:
            return [Task(CINDER_VOLUME, self._start_volume_here, after=needed)]
        return [
            Task(KERNEL, self._provide_kernel),
            Task(VOLUME_HOST, self.volume_host.boot, after=(KERNEL,)),
            Task(CINDER_VOLUME, self._launch_volume, after=(*needed, VOLUME_HOST)),
        ]

    def _publish(self) -> None:
        """Open every API on 127.0.0.1 of the machine, on its usual port where that is free."""
        sockets = {endpoint: listening_socket(endpoint.port) for endpoint in self._endpoints}
        self.deployment.public_ports = {
            endpoint.name: listening.getsockname()[1] for endpoint, listening in sockets.items()
        }
        rules = [
            f"{listening.fileno()}:{self.deployment.address}:{endpoint.port}"
            for endpoint, listening in sockets.items()
        ]
        command = [PYTHON, "-P", forwarder.__file__, *rules]
        self.forwarder = Service(self.deployment, "forwarder", command)
        self.forwarder.start(inherit=[listening.fileno() for listening in sockets.values()])
        for listening in sockets.values():
            listening.close()

    @property
    def _endpoints(self) -> tuple[Endpoint, ...]:
        own = (*keystone.ENDPOINTS, *glance.ENDPOINTS, *cinder.ENDPOINTS)
        return (*own, *(endpoint for part in self.parts for endpoint in part.endpoints))

    def _unpack(self) -> None:
        self._packages = packages.unpacked(packages.CLOUD)

    def _start_lab(self) -> str:
        self.lab.start()
        return ", ".join(node["address"] for node in self.lab.info["nodes"])

    def _prepare_database(self) -> None:
        own = (*keystone.SCHEMAS, *glance.SCHEMAS, *cinder.SCHEMAS)
        schemas = (*own, *(schema for part in self.parts for schema in part.schemas))
        self.database = Database(self.deployment, self._packages, schemas)
        self.database.prepare()

    def _start_database(self) -> None:
        self.database.start()

    def _start_message_bus(self) -> None:
        self.message_bus = MessageBus(self.deployment, self._packages)
        self.message_bus.start()

    def _start_keystone(self) -> str:
        users = (glance.USER, cinder.USER, *(user for part in self.parts for user in part.users))
        entered = [endpoint for endpoint in self._endpoints if endpoint != keystone.IDENTITY]
        self.keystone.start(users, entered)
        return self.keystone_url

    def _start_glance(self) -> str:
        self.glance.start()
        return self.deployment.public_url(glance.IMAGE)

    def _start_cinder(self) -> str:
        self.cinder.start()
        return self.deployment.public_url(cinder.BLOCK_STORAGE)

    def _provide_kernel(self) -> str:
        return uml_kernel(report=lambda _text: self.deployment.check_wanted()).name

    def _launch_volume(self) -> str:
        self._configure_volume(self.volume_host.address)
        self.volume_host.launch_services()
        return f"{self.volume_host.name}, {self.volume_host.address}"

    def _start_volume_here(self) -> str:
        folder = self._configure_volume(self.deployment.address)
        command = [VENV_BIN / "cinder-volume", "--config-file", folder / "cinder.conf"]
        self.volume = Service(self.deployment, f"cinder-volume-{VOLUME_HOST_NAME}", command)
        self.volume.start()
        return VOLUME_HOST_NAME

    def _configure_volume(self, address: str) -> Path:
        identity = self.admin.identity
        tenant = cinder.VolumeTenant(
            identity.find_project(SERVICE_PROJECT).id, identity.find_user(cinder.USER).id
        )
        return self.cinder.configure_volume_host(
            VOLUME_HOST_NAME,
            self.lab.info,
            tenant,
            address=address,
            state=self.deployment.state(f"cinder-{VOLUME_HOST_NAME}"),
            lightos=self._lightos,
        )

    def _provide_volume_types(self) -> str:
        storage = self.admin.block_storage
        for name, extra_specs in VOLUME_TYPES.items():
            self.deployment.check_wanted()
            volume_type = storage.create_type(name=name, extra_specs=extra_specs)
            if name == ENCRYPTED_TYPE:
                storage.create_type_encryption(volume_type, **LUKS)
        # The default quota class in the database wins over cinder.conf.
        unlimited = {"quota_class_set": dict.fromkeys(UNLIMITED, -1)}
        storage.put("/os-quota-class-sets/default", json=unlimited).raise_for_status()
        if self._with_volume_host:
            self.volume_host.wait_services()
        pools = wait_until(self._pools, "both back ends to report", POOLS_SECONDS)
        return ", ".join(pools)

    def _pools(self) -> list[str]:
        """The names of the pools, once every back end has one."""
        self.deployment.check_wanted()
        pools = sorted(pool.name for pool in self.admin.block_storage.backend_pools())
        return pools if len(pools) >= len(cinder.BACKENDS) else []

    def _starter(self, part: Part) -> Callable[[], None]:
        return lambda: part.start(self.deployment)


def remove(folder: Path) -> None:
    """Remove a stopped cloud's folder."""
    shutil.rmtree(folder, ignore_errors=True)
