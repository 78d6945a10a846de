# SPDX-License-Identifier: Apache-2.0
"""Cinder active-active: several cinder-volumes that are one back end, and no more than they need.

    with ActiveActive(folder, network, lock_manager="redis") as cinder:
        cinder.kill("volume-2")
        CinderClient.of(cinder).create_volume(1)

cinder-api, cinder-scheduler and every cinder-volume are the shipped commands, in processes of
their own, beside MariaDB, RabbitMQ and etcd or Redis, with a lab cluster as the storage. There is
no Keystone, no Glance, and no host to attach volumes to.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

from testbed.cinder.client import CinderClient
from testbed.cinder.configuration import Section, lightos_backend
from testbed.cinder.paths import VENV_BIN
from testbed.cloud import cinder, packages
from testbed.cloud.database import Database
from testbed.cloud.deployment import BLOCK_STORAGE, Deployment
from testbed.cloud.lock_manager import LOCK_MANAGERS, LockManager
from testbed.cloud.message_bus import MessageBus
from testbed.cloud.service import Service
from testbed.cloud.tasks import Silent, Task, run_all
from testbed.lab import Lab
from testbed.life import Life
from testbed.network import Network
from testbed.polling import wait_until

BACK_END = "lightos"
CLUSTER = "ha"
UP_SECONDS = 120.0
REPORT_SECONDS = 2
STATISTICS_SECONDS = 3
"""At least, as Cinder has it."""
DOWN_SECONDS = 10
"""After which Cinder takes a service that does not report for dead; 60 by default."""
ANSWER_SECONDS = 20
"""How long the API waits for cinder-volume's answer; 60 by default."""
READY = "Driver post RPC initialization completed successfully."
"""cinder-volume logs it when it answers requests and has initialised its driver."""
RECEIVED = " received message "
"""It logs this for each request that it takes from the bus."""
LOG_LEVELS = "sqlalchemy=WARN,oslo_messaging._drivers.amqpdriver=DEBUG,oslo_messaging=INFO"
_LOG_LINES = 12


class ActiveActive(Life):
    """Cinder in `folder`, which is new or empty; its logs are in `folder`/logs.

    `hosts`: how many cinder-volumes. `lock_manager`: "etcd" or "redis". `threading`: cinder-volume
    with native threads instead of eventlet. `lightos`: options of the back end that differ from
    the driver guide's.
    """

    def __init__(
        self,
        folder: Path,
        network: Network,
        *,
        hosts: int = 3,
        lock_manager: str = "etcd",
        threading: bool = False,
        transition_ms: int = 50,
        lightos: Section | None = None,
    ) -> None:
        self.deployment = Deployment(network, folder.absolute())
        self.lab = Lab(network, self.deployment.folder / "lab", transition_ms=transition_ms)
        self.hosts = tuple(f"volume-{number}" for number in range(1, hosts + 1))
        self.volumes: dict[str, Service] = {}
        """cinder-volume, by its host."""
        self.database: Database
        self.message_bus: MessageBus
        self.lock_manager: LockManager
        self.cinder: cinder.Cinder
        self._lock_manager = LOCK_MANAGERS[lock_manager]
        self._threading = threading
        self._lightos = dict(lightos or {})
        self._log_starts: dict[str, int] = {}

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """From nothing to a Cinder whose cinder-volumes all work. `stop` cleans up after it."""
        self.deployment.network.create()
        self.deployment.make_folders()
        tasks = [
            Task("lab cluster", self.lab.start),
            Task("database", self._start_database),
            Task("message bus", self._start_message_bus),
            Task("lock manager", self._start_lock_manager),
            Task(
                "cinder-api, cinder-scheduler",
                self._start_cinder,
                after=("database", "message bus", "lock manager"),
            ),
            Task(
                "cinder-volume",
                self._start_volumes,
                after=("cinder-api, cinder-scheduler", "lab cluster"),
            ),
        ]
        run_all(tasks, Silent(), self.deployment.give_up)
        self.wait_up(*self.hosts)
        with self.deployment.network.entered():
            self.client.lift_quotas()
            self.client.wait_for_pools()

    def stop(self) -> None:
        """End every process and the namespace. Logs and configuration stay."""
        self.deployment.give_up()
        self.deployment.network.destroy()

    # ------------------------------------------------------------------ use

    @property
    def endpoint(self) -> str:
        """Base URL of the Block Storage API, without a project; answers inside the network."""
        return self.deployment.internal_url(BLOCK_STORAGE)

    @cached_property
    def client(self) -> CinderClient:
        """For one thread inside the network."""
        return CinderClient.of(self)

    def log_about(self, object_id: str) -> str:
        """The last errors that any cinder-volume logged of an object."""
        lines = [
            line
            for service in self.volumes.values()
            for line in service.log_file.read_text(errors="replace").splitlines()
            if " ERROR " in line and object_id in line
        ]
        return "\n".join(lines[-_LOG_LINES:])

    # ------------------------------------------------------------------ what they share

    def restart_lock_manager(self, after_seconds: float = 0) -> None:
        """Kill etcd or Redis, start it again, and wait until it answers."""
        self.lock_manager.service.kill()
        time.sleep(after_seconds)
        self.lock_manager.start()

    def restart_message_bus(self, after_seconds: float = 0) -> None:
        """As `restart_lock_manager`, RabbitMQ."""
        self.message_bus.service.kill()
        time.sleep(after_seconds)
        self.message_bus.start()

    # ------------------------------------------------------------------ cinder-volume

    def kill(self, host: str) -> None:
        """End a cinder-volume at once, as a crash would (SIGKILL)."""
        self.volumes[host].kill()

    def restart(self, host: str) -> None:
        """Start a cinder-volume that was killed, and wait until Cinder has it up."""
        self._start_volume(host)
        self.wait_up(host)

    def wait_up(self, *hosts: str) -> None:
        """Wait until these cinder-volumes answer requests. Raises `ServiceFailed`."""

        def are_up() -> bool:
            for host in hosts:
                self.volumes[host].check_running()
            return all(READY in self._log_since_start(host) for host in hosts)

        wait_until(are_up, f"cinder-volume on {', '.join(hosts)} to be up", UP_SECONDS)

    def wait_down(self, host: str) -> None:
        """Wait until Cinder takes a cinder-volume that was killed for dead."""
        wait_until(lambda: host not in self.hosts_up(), f"{host} to be down", UP_SECONDS)

    def hosts_up(self) -> set[str]:
        """The hosts whose cinder-volume has reported to Cinder of late."""
        with self.deployment.network.entered():
            return {
                service["host"].removesuffix(f"@{BACK_END}")
                for service in self.client.services()
                if service["binary"] == "cinder-volume" and service["state"] == "up"
            }

    def requests_received(self, host: str) -> int:
        """How many requests a cinder-volume has taken from the bus since it was started."""
        return self._log_since_start(host).count(RECEIVED)

    # ------------------------------------------------------------------ starting

    def _start_database(self) -> None:
        unpacked = packages.unpacked(packages.CLOUD)
        self.database = Database(self.deployment, unpacked, cinder.SCHEMAS)
        self.database.prepare()
        self.database.start()

    def _start_message_bus(self) -> None:
        self.message_bus = MessageBus(self.deployment, packages.unpacked(packages.CLOUD))
        self.message_bus.start()

    def _start_lock_manager(self) -> None:
        unpacked = packages.unpacked(packages.LOCK_MANAGERS)
        self.lock_manager = self._lock_manager(self.deployment, unpacked)
        self.lock_manager.start()

    def _start_cinder(self) -> None:
        self.cinder = cinder.Cinder(
            self.deployment,
            self.lock_manager.url,
            {
                "default_volume_type": "__DEFAULT__",
                "report_interval": REPORT_SECONDS,
                "service_down_time": DOWN_SECONDS,
                "periodic_interval": STATISTICS_SECONDS,
                "backend_stats_polling_interval": STATISTICS_SECONDS,
                "rpc_response_timeout": ANSWER_SECONDS,
                "default_log_levels": LOG_LEVELS,
            },
            # What was sent is there after a restart of RabbitMQ.
            {"oslo_messaging_rabbit": {"rabbit_quorum_queue": True}},
            with_keystone=False,
        )
        self.cinder.start()

    def _start_volumes(self) -> None:
        for host in self.hosts:
            folder = self.cinder.configure(
                f"cinder-{host}",
                self.deployment.state(f"cinder-{host}"),
                {"host": host, "cluster": CLUSTER, "enabled_backends": BACK_END},
                {BACK_END: lightos_backend(self.lab.info) | self._lightos},
            )
            self.volumes[host] = Service(
                self.deployment,
                f"cinder-{host}",
                [VENV_BIN / "cinder-volume", "--config-file", folder / "cinder.conf"],
                {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "1" if self._threading else "0"},
            )
            self._start_volume(host)

    def _start_volume(self, host: str) -> None:
        service = self.volumes[host]
        self._log_starts[host] = service.log_file.stat().st_size if service.log_file.exists() else 0
        service.start()

    def _log_since_start(self, host: str) -> str:
        return self.volumes[host].log_since(self._log_starts[host])
